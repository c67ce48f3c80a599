"""Each kind of problem planted, found, and mended."""

import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from focalnet_mm.data.own import KINDS, Annotation, OwnData, Picture, find_problems, fix_data, read_data, split_data
from tests.helpers import formats
from tests.helpers.folders import quiet
from tests.helpers.tools import ROOT


@pytest.fixture
def coco(sources, tmp_path):
    """A folder of COCO's form, its training file's content, and what writes that and reads the folder."""
    folder = tmp_path / 'data'
    folder.mkdir()
    formats.write_coco(sources, folder)
    content = json.loads((folder / 'train.json').read_text())

    def read():
        (folder / 'train.json').write_text(json.dumps(content))
        data = read_data(folder, tell=quiet)
        find_problems(data)
        return data

    return folder, content, read


def kinds(data, *passed_by):
    return {problem.kind for problem in data.problems} - set(passed_by)


def test_nothing_is_wrong(coco):
    _, _, read = coco
    data = read()
    assert kinds(data) == set()
    find_problems(data)
    assert data.problems == []


class TestBoxes:

    @pytest.mark.parametrize(('box', 'kind', 'mended'), [
        ([10, 10, 'NaN', 5], 'nan', None), ([10, 10, math.inf, 5], 'nan', None), ([10, 10, 0, 5], 'empty', None),
        ([10, 10, 0.4, 5], 'empty', None), ([30, 40, -10, -20], 'inverted', (20, 20, 30, 40)),
        ([80, 90, 30, 20], 'outside', (80, 90, 96, 96)), ([-5, -5, 10, 10], 'outside', (0, 0, 5, 5)),
        ([200, 200, 10, 10], 'outside', None)])
    def test_one(self, box, kind, mended, coco):
        _, content, read = coco
        entry = content['annotations'][1]
        entry['bbox'] = [math.nan if value == 'NaN' else value for value in box]
        del entry['segmentation']
        data = read()
        problem, = data.problems
        assert (problem.kind, problem.annotation, problem.done) == (kind, 1, 'kept')
        picture = data.pictures[0]
        before = list(picture.annotations)
        fix_data(data, [kind])
        if mended:
            assert (problem.done, picture.annotations[1].box) == ('mended', mended)
        else:
            assert (problem.done, problem.annotation) == ('left out', None)
            assert picture.annotations == before[:1] + before[2:]

    def test_only_what_is_named(self, coco):
        _, content, read = coco
        content['annotations'][0]['bbox'] = [10, 10, 0, 5]
        content['annotations'][2]['bbox'] = [80, 80, 30, 30]
        data = read()
        outside = next(problem for problem in data.problems if problem.kind == 'outside')
        annotation = data.pictures[0].annotations[outside.annotation]
        fix_data(data, ['empty'])
        assert {problem.kind: problem.done for problem in data.problems} == dict(empty='left out', outside='kept')
        # The number of the other one is right still.
        assert data.pictures[0].annotations[outside.annotation] is annotation

    def test_polygons_are_cut_too(self, coco):
        _, content, read = coco
        entry = content['annotations'][0]
        entry.update(bbox=[80, 80, 40, 40], segmentation=[[80, 80, 120, 80, 120, 120, 80, 120]])
        data = read()
        fix_data(data, ['all'])
        assert data.pictures[0].annotations[0].segmentation == [[80, 80, 96, 80, 96, 96, 80, 96]]

    def test_corners_for_sizes(self, sources, tmp_path):
        formats.write_coco(sources, tmp_path, masks=None)
        for split in formats.SPLITS:
            content = json.loads((tmp_path / f'{split}.json').read_text())
            for entry in content['annotations']:
                x, y, width, height = entry['bbox']
                entry['bbox'] = [x, y, x + width, y + height]
            (tmp_path / f'{split}.json').write_text(json.dumps(content))
        data = read_data(tmp_path, tell=quiet)
        find_problems(data)
        assert kinds(data) == {'corners'}
        fix_data(data, ['corners'])
        by_name = {source.path.name: source for source in sources}
        for picture in data.pictures:
            assert [annotation.box for annotation in picture.annotations] == [
                item.box for item in by_name[picture.path.name].objects]

    def test_outside_is_not_taken_for_corners(self, sources, tmp_path):
        """Most boxes reach out, but as corners they would be inverted."""
        formats.write_coco(sources, tmp_path, masks=None)
        content = json.loads((tmp_path / 'train.json').read_text())
        for entry in content['annotations']:
            entry['bbox'] = [80, 80, 40, 40]
        (tmp_path / 'train.json').write_text(json.dumps(content))
        data = read_data(tmp_path, tell=quiet)
        find_problems(data)
        assert kinds(data) == {'outside'}

    def test_twice_and_tiny(self, coco):
        _, content, read = coco
        content['annotations'].append({**content['annotations'][0], 'id': 1000})
        content['annotations'].append(dict(id=1001, image_id=0, category_id=2, bbox=[3, 3, 1.5, 1.5], iscrowd=0,
                                           segmentation=[[3, 3, 4.5, 3, 4.5, 4.5]]))
        # At 1333 × 800, a picture of 96 pixels is enlarged until 8 pixels are one here.
        content['annotations'].append(dict(id=1002, image_id=0, category_id=2, bbox=[3, 3, 1, 0.9], iscrowd=0))
        data = read()
        assert kinds(data) == {'repeated', 'empty'}
        data.pictures[0].height, data.pictures[0].width = 1600, 2666
        find_problems(data)
        assert 'tiny' in kinds(data)
        with pytest.raises(ValueError, match="nothing can be done here about 'tiny': name some of missing"):
            fix_data(data, ['tiny'])


class TestEntries:

    @pytest.mark.parametrize(('change', 'kind'), [
        (dict(category_id=77), 'unknown_class'), (dict(image_id=77), 'no_picture'), (dict(bbox=[1, 2, 3]), 'malformed'),
        (dict(bbox='box', segmentation=None), 'malformed'), (dict(bbox=None, segmentation=[]), 'malformed'),
        # What pycocotools draws for hours, reads beyond its memory or fills with what lay there before.
        (dict(segmentation=[[0, 0, 1e8, 0, 0, 1e8]]), 'malformed'),
        (dict(segmentation=[[0, 0, math.nan, 0, 0, 9]]), 'malformed'),
        (dict(segmentation=[['a', 0, 0, 0, 0, 9]]), 'malformed'),
        (dict(segmentation=dict(size=[96, 96], counts=[5, 10])), 'malformed'),
        (dict(segmentation=dict(size=[96, 96], counts=[-9216, 18432])), 'malformed'),
        (dict(segmentation=dict(size=[10**7, 10**7], counts='1')), 'malformed'),
        (dict(segmentation=dict(size=[96, 96], counts='PPPP0')), 'malformed'),
        (dict(segmentation=dict(size=[96, 96], counts='zzz')), 'malformed'),
        (dict(segmentation=dict(size=[96, 96], counts='\n')), 'malformed'),
        (dict(segmentation=dict(counts='zzz')), 'malformed')])
    def test_left_out_and_said(self, change, kind, coco):
        folder, content, read = coco
        content['annotations'][1].update(change)
        data = read()
        told = []
        read_data(folder, tell=told.append)
        assert [(problem.kind, problem.done) for problem in data.problems] == [(kind, 'left out')]
        assert sum('left out' in line for line in told) == 1

    def test_compressed_runs(self, coco):
        """Of any mask, as pycocotools writes them."""
        _, content, read = coco
        masks = []
        for number, entry in enumerate(content['annotations'][:12]):
            drawn = np.random.default_rng(number).random((96, 96)) < (0.001, 0.5, 0.999)[number % 3]
            masks.append(np.zeros((96, 96), bool) if number == 10 else drawn)
            runs = coco_mask.encode(np.asfortranarray(masks[-1].astype(np.uint8)))
            entry['segmentation'] = dict(size=[96, 96], counts=runs['counts'].decode())
        data = read()
        assert 'malformed' not in kinds(data)
        found = [annotation.segmentation for picture in data.pictures for annotation in picture.annotations]
        for mask, segmentation in zip(masks, found):
            assert (coco_mask.decode(segmentation) == mask).all()

    def test_names_of_classes(self, coco):
        _, content, read = coco
        content['categories'][1]['name'] = 'Circle '
        content['categories'].append(dict(id=99, name='dodo'))
        data = read()
        assert len(data.classes) == 7
        assert kinds(data, 'one_split') == {'equal_names', 'unused_class'}
        objects = sum(len(picture.annotations) for picture in data.pictures)
        fix_data(data, ['equal_names', 'unused_class'])
        assert data.classes == ['circle', 'triangle', 'star', 'cross', 'square']
        assert sum(len(picture.annotations) for picture in data.pictures) == objects

    def test_a_class_in_one_split(self, coco):
        _, content, read = coco
        content['categories'].append(dict(id=99, name='dodo'))
        content['annotations'][0]['category_id'] = 99
        data = read()
        problem = next(problem for problem in data.problems if 'dodo' in problem.text)
        assert problem.kind == 'one_split'
        assert "'dodo' is in no picture of val, but in 1 of train" in problem.text


class TestPictures:

    def test_damaged(self, coco):
        folder, _, read = coco
        paths = sorted((folder / 'images').iterdir())
        paths[0].unlink()
        paths[1].write_bytes(b'no picture')
        paths[2].write_bytes(paths[2].read_bytes()[:-400])
        data = read()
        found = {problem.kind: problem.picture.name for problem in data.problems}
        assert found == dict(missing=paths[0].name, unreadable=paths[1].name, damaged=paths[2].name)
        fix_data(data, ['missing', 'damaged'])
        assert len(data.pictures) == 8
        fix_data(data, ['all'])
        assert len(data.pictures) == 7
        assert {problem.done for problem in data.problems} == {'left out'}

    def test_equal(self, coco):
        folder, content, read = coco
        names = [image['file_name'] for image in content['images']]
        shutil.copy(folder / names[0], folder / names[1])
        val = json.loads((folder / 'val.json').read_text())['images'][0]['file_name']
        Image.open(folder / val).save(folder / names[2], quality=40)
        data = read()
        assert {(problem.kind, problem.picture.name) for problem in data.problems} >= {
            ('duplicate', names[1].split('/')[1]), ('near_leak', names[2].split('/')[1])}
        fix_data(data, ['near_leak', 'duplicate'])
        assert Counter(picture.split for picture in data.pictures) == dict(train=4, val=4)

    def test_other_size(self, coco):
        """Annotated on a copy of half the size."""
        folder, content, read = coco
        image = content['images'][0]
        with Image.open(folder / image['file_name']) as picture:
            picture.resize((192, 192)).save(folder / image['file_name'])
        data = read()
        assert kinds(data, 'tiny') == {'size'}
        before = [annotation.box for annotation in data.pictures[0].annotations]
        fix_data(data, ['size'])
        assert [annotation.box for annotation in data.pictures[0].annotations] == [
            tuple(2 * value for value in box) for box in before]

    @pytest.mark.parametrize('orientation', range(1, 9))
    @pytest.mark.parametrize('masks', ['polygons', 'runs'])
    def test_orientation(self, orientation, masks, tmp_path):
        """Annotated as stored: Pillow's own turning of the picture and of a mask drawn as a picture is the oracle."""
        rng = np.random.default_rng(0)
        exif = Image.Exif()
        exif[274] = orientation
        stored = Image.fromarray(rng.integers(256, size=(24, 40, 3), dtype=np.uint8))
        (tmp_path / 'images').mkdir()
        stored.save(tmp_path / 'images' / 'a.jpg', exif=exif)
        drawn = np.zeros((24, 40), np.uint8)
        drawn[3:9, 5:20] = 1
        polygon = [[5, 3, 20, 3, 20, 9, 5, 9]]
        runs = coco_mask.encode(np.asfortranarray(drawn))
        segmentation = polygon if masks == 'polygons' else dict(size=[24, 40], counts=runs['counts'].decode())
        (tmp_path / 'a.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name='images/a.jpg', height=24, width=40)], categories=[dict(id=1, name='a')],
            annotations=[dict(id=1, image_id=1, category_id=1, bbox=[5, 3, 15, 6], segmentation=segmentation)])))
        data = read_data(tmp_path, tell=quiet)
        find_problems(data)
        assert kinds(data) == (set() if orientation == 1 else {'exif'} if orientation >= 5 else {'orientation'})
        if orientation < 5:
            return
        fix_data(data, ['exif'])
        as_picture = Image.fromarray(drawn)
        as_picture.getexif()[274] = orientation
        expected = np.asarray(ImageOps.exif_transpose(as_picture))
        picture = data.pictures[0]
        assert (picture.height, picture.width) == expected.shape
        found = picture.annotations[0].segmentation
        if masks == 'polygons':
            found = coco_mask.merge(coco_mask.frPyObjects(found, *expected.shape))
        assert (coco_mask.decode(found) == expected).all()
        ys, xs = np.nonzero(expected)
        assert picture.annotations[0].box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)

    def test_forms(self, coco):
        folder, content, read = coco
        names = [image['file_name'] for image in content['images']]
        Image.open(folder / names[0]).convert('L').save(folder / names[0])
        data = read()
        assert kinds(data) == {'channels'}
        deep = np.asarray(Image.open(folder / names[1]).convert('L')).astype(np.uint16) * 256
        Image.fromarray(deep).save(folder / names[1].replace('.jpg', '.png'))
        (folder / names[1]).unlink()
        content['images'][1]['file_name'] = names[1].replace('.jpg', '.png')
        assert kinds(read()) == {'channels', 'depth'}

    def test_without_objects(self, coco):
        _, content, read = coco
        content['annotations'] = [entry for entry in content['annotations'] if entry['image_id'] != 0]
        assert kinds(read()) == {'no_objects'}


class TestLabelMaps:

    def test_sizes_and_values(self, shapes, tmp_path):
        formats.write_labelmaps(shapes, tmp_path)
        maps = sorted((tmp_path / 'masks' / 'training').iterdir())
        Image.open(maps[0]).resize((50, 50), Image.Resampling.NEAREST).save(maps[0])
        maps[1].write_bytes(b'no picture')
        odd = np.asarray(Image.open(maps[2])).copy()
        odd[0, 0] = 77
        Image.fromarray(odd).save(maps[2])
        data = read_data(tmp_path, tell=quiet)
        find_problems(data)
        assert kinds(data, 'one_split', 'unused_class') == {'map_size', 'no_map', 'map_values'}
        fix_data(data, ['map_size', 'no_map'])
        assert len(data.pictures) == 8


def test_kinds():
    with pytest.raises(ValueError, match="there is no problem 'outsied': name some of"):
        fix_data(OwnData(None, 'coco', 'boxes', []), ['outsied'])
    assert {cure for _, cure in KINDS.values()} == {'', 'leaves out', 'mends'}


def test_docs_list_the_kinds():
    lines = (ROOT / 'docs' / 'formats.md').read_text().splitlines()
    listed = [line for line in lines if line.startswith('| `') and line.count('|') == 4]
    kinds_listed = {tuple(cell.strip(' `') for cell in line.strip('|').split('|')) for line in listed}
    assert {(kind, what, cure) for kind, (what, cure) in KINDS.items()} <= kinds_listed


def test_fixing_all_leaves_data_that_can_be_split(tmp_path):
    """Every kind of box at once, in pictures that are fine."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(6):
        path = tmp_path / f'{number}.png'
        Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(path)
        boxes = [(math.nan,) * 4, (9.0, 9.0, 3.0, 3.0), (4.0, 4.0, 4.0, 9.0), (20.0, 20.0, 50.0, 50.0),
                 (2.0, 2.0, 9.0, 9.0), (2.0, 2.0, 9.0, 9.0)]
        pictures.append(Picture(path, 32, 32, [Annotation(0, box) for box in boxes]))
    data = OwnData(tmp_path, 'voc', 'boxes', ['a', 'b'], pictures)
    split_data(data)
    find_problems(data)
    fix_data(data, ['all'])
    assert data.classes == ['a']
    assert all([annotation.box for annotation in picture.annotations] == [
        (3, 3, 9, 9), (20, 20, 32, 32), (2, 2, 9, 9)] for picture in data.pictures)
    data.problems.clear()
    find_problems(data)
    assert data.problems == []
