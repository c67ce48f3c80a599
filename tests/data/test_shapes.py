import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from focalnet_mm.data.shapes import STUFF_CLASSES, THING_CLASSES, draw_scene, write_dataset

SETTINGS = dict(train=6, val=4, size=96, seed=7)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    assert write_dataset(folder, **SETTINGS)
    return folder


def digests(folder):
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob('*') if path.is_file()}


def test_same_seed_same_bytes(dataset, tmp_path):
    write_dataset(tmp_path / 'again', **SETTINGS)
    assert digests(tmp_path / 'again') == digests(dataset)
    write_dataset(tmp_path / 'other', **{**SETTINGS, 'seed': 8})
    images = [path for path in digests(dataset) if path.suffix == '.jpg']
    assert not {digests(dataset)[path] for path in images} & {digests(tmp_path / 'other')[path] for path in images}


def test_a_longer_data_set_begins_with_the_shorter(dataset, tmp_path):
    write_dataset(tmp_path / 'longer', **{**SETTINGS, 'train': 8})
    path = 'coco/train2017/000000000006.jpg'
    assert (tmp_path / 'longer' / path).read_bytes() == (dataset / path).read_bytes()


def test_layout(dataset):
    coco, ade = dataset / 'coco', dataset / 'ade' / 'ADEChallengeData2016'
    assert {path.name for path in (coco / 'annotations').iterdir()} == {
        f'{kind}_{split}2017{ending}' for kind, endings in (('instances', ['.json']), ('panoptic', ['.json', '']))
        for ending in endings for split in ('train', 'val')}
    for split, ade_split, count in (('train', 'training', 6), ('val', 'validation', 4)):
        for folder in (coco / f'{split}2017', coco / 'annotations' / f'panoptic_{split}2017',
                       ade / 'images' / ade_split, ade / 'annotations' / ade_split):
            assert len(list(folder.iterdir())) == count
        stems = [{path.stem for path in (ade / kind / ade_split).iterdir()} for kind in ('images', 'annotations')]
        assert stems[0] == stems[1]


@pytest.mark.parametrize('split', ['train', 'val'])
def test_instances_agree_with_the_panoptic_and_class_maps(dataset, split):
    """pycocotools' masks from the polygons, against the pixels of the panoptic and ADE20K maps."""
    coco = COCO(dataset / 'coco' / 'annotations' / f'instances_{split}2017.json')
    panoptic = json.loads((dataset / 'coco' / 'annotations' / f'panoptic_{split}2017.json').read_text())
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(THING_CLASSES)
    assert [category['name'] for category in panoptic['categories'] if not category['isthing']] == list(STUFF_CLASSES)
    ade = sorted((dataset / 'ade' / 'ADEChallengeData2016' / 'annotations').glob(f'{split}*/*.png'))
    for annotation, class_map in zip(panoptic['annotations'], ade):
        path = dataset / 'coco' / 'annotations' / f'panoptic_{split}2017' / annotation['file_name']
        blue, green, red = cv2.split(cv2.imread(str(path)).astype(int))
        segment_map = red + 256 * green + 256**2 * blue
        classes = cv2.imread(str(class_map), cv2.IMREAD_UNCHANGED)
        segments = {segment['id']: segment for segment in annotation['segments_info']}
        assert set(np.unique(segment_map)) == set(segments)
        things = [segment for segment in segments.values() if segment['category_id'] <= len(THING_CLASSES)]
        instances = coco.loadAnns(coco.getAnnIds(annotation['image_id']))
        assert len(instances) == len(things)
        for segment in segments.values():
            mask = segment_map == segment['id']
            ys, xs = np.nonzero(mask)
            assert segment['area'] == mask.sum()
            assert segment['bbox'] == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert (classes[mask] == segment['category_id']).all()
        for instance, segment in zip(instances, things):
            assert instance['category_id'] == segment['category_id']
            drawn, pixels = coco.annToMask(instance).astype(bool), segment_map == segment['id']
            assert (drawn & pixels).sum() / (drawn | pixels).sum() > 0.93
            assert rle.area(coco.annToRLE(instance)) == pytest.approx(instance['area'], rel=0.05, abs=8)


def test_panopticapi_finds_no_fault(dataset):
    """The reference metric of COCO panoptic: the truth against itself has a quality of 1."""
    from panopticapi.evaluation import pq_compute_single_core
    folder = dataset / 'coco' / 'annotations' / 'panoptic_val2017'
    truth = json.loads(folder.with_suffix('.json').read_text())
    categories = {category['id']: category for category in truth['categories']}
    pairs = [(annotation, annotation) for annotation in truth['annotations']]
    quality, _ = pq_compute_single_core(0, pairs, str(folder), str(folder), categories).pq_average(categories, None)
    assert quality['pq'] == 1
    assert quality['n'] >= 4


@pytest.mark.parametrize('seed', range(20))
def test_scenes(seed):
    scene = draw_scene(np.random.default_rng(seed), 128)
    assert scene.image.shape == (128, 128, 3)
    assert scene.instance_map.max() == len(scene.instance_classes) >= 1
    for i in range(len(scene.instance_classes)):
        mask = (scene.instance_map == i + 1).astype(np.uint8)
        assert mask.sum() >= 64
        _, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        assert (hierarchy[0, :, 3] < 0).all()


def test_every_class_occurs():
    scenes = [draw_scene(np.random.default_rng(seed), 96) for seed in range(30)]
    assert {kind for scene in scenes for kind in scene.instance_classes} == set(range(len(THING_CLASSES)))
    assert {kind for scene in scenes for kind in np.unique(scene.stuff_map)} == set(range(len(STUFF_CLASSES)))


class TestExistingFolders:

    def test_nothing_to_do(self, dataset):
        before = digests(dataset)
        assert write_dataset(dataset, **SETTINGS) is False
        assert digests(dataset) == before

    def test_other_settings(self, tmp_path):
        write_dataset(tmp_path / 'x', train=1, val=1, size=32)
        with pytest.raises(FileExistsError, match=r"x holds a shapes data set with .*'train': 1.*or replace it with"):
            write_dataset(tmp_path / 'x', train=2, val=1, size=32)
        assert write_dataset(tmp_path / 'x', train=2, val=1, size=32, force=True)
        assert len(list((tmp_path / 'x' / 'coco' / 'train2017').iterdir())) == 2

    def test_what_was_added_stays(self, tmp_path):
        """--force removes what the list names: not a checkpoint, an annotation file or a link that came later."""
        folder = tmp_path / 'x'
        write_dataset(folder, train=2, val=1, size=32)
        mine = {'best.pth': b'weights', 'coco/annotations/mine.json': b'{}', 'coco/train2017/holiday.jpg': b'jpeg',
                'thesis/chapter 1.tex': b'dear'}
        for name, content in mine.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        (folder / 'big').symlink_to(tmp_path)
        write_dataset(folder, train=1, val=1, size=48, force=True)
        write_dataset(tmp_path / 'new', train=1, val=1, size=48)
        found = digests(folder)
        for name, content in mine.items():
            assert found.pop(Path(name)) == hashlib.sha256(content).hexdigest()
        assert (folder / 'big').is_symlink()
        assert {path: digest for path, digest in found.items() if path.parts[0] != 'big'} == digests(tmp_path / 'new')
        assert sorted(path.name for path in tmp_path.iterdir()) == ['new', 'x']
        assert write_dataset(folder, train=1, val=1, size=48) is False

    @pytest.mark.parametrize('marker', [
        # Of an earlier version, without a list; forged or damaged ones.
        '{"version": 1, "train": 2, "val": 1, "size": 32, "seed": 0}', '{"version": 1, "files": "all"}',
        '{"version": 1, "files": ["../keep.txt"]}', '{"version": 1, "files": ["coco/../../keep.txt"]}',
        '{"version": 1, "files": ["KEEP"]}', '{"version": 1, "files": ["link/keep.txt"]}',
        '{"version": 1, "files": [""]}', '{"version": 1, "files": [".."]}', '{"version": 1, "files": [3]}',
        '{"shapes": "of my own"}', '[]', 'no JSON'])
    def test_without_a_list_nothing_is_removed(self, marker, tmp_path):
        folder = tmp_path / 'x'
        write_dataset(folder, train=2, val=1, size=32)
        (tmp_path / 'keep.txt').write_text('mine')
        (folder / 'link').symlink_to(tmp_path)
        (folder / 'shapes.json').write_text(marker.replace('KEEP', str(tmp_path / 'keep.txt')))
        before = digests(tmp_path)
        with pytest.raises(FileExistsError, match=r'does not list the files of this data set|is no shapes data set'):
            write_dataset(folder, train=1, val=1, size=48, force=True)
        assert digests(tmp_path) == before

    def test_a_file_in_the_way(self, tmp_path):
        folder = tmp_path / 'x'
        write_dataset(folder, train=1, val=1, size=32)
        mine = folder / 'coco' / 'train2017' / f'{2:012d}.jpg'
        mine.write_text('mine')
        before = digests(tmp_path)
        with pytest.raises(FileExistsError, match=r'000000000002.jpg is in the way and is not of what was made here'):
            write_dataset(folder, train=3, val=1, size=32, force=True)
        assert digests(tmp_path) == before

    def test_an_interruption_can_be_mended(self, tmp_path, monkeypatch):
        folder = tmp_path / 'x'
        write_dataset(folder, train=2, val=1, size=32)
        (folder / 'mine').write_text('mine')
        moves = []

        def move(*paths, really=os.replace):
            moves.append(paths)
            if len(moves) == 4:
                raise KeyboardInterrupt
            return really(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(os, 'replace', move)
            with pytest.raises(KeyboardInterrupt):
                write_dataset(folder, train=1, val=2, size=48, force=True)
        write_dataset(tmp_path / 'y', train=1, val=2, size=48)
        with pytest.raises(FileExistsError, match='or replace it with --force'):
            write_dataset(folder, train=1, val=2, size=48)
        write_dataset(folder, train=1, val=2, size=48, force=True)
        assert (folder / 'mine').read_text() == 'mine'
        (folder / 'mine').unlink()
        assert digests(folder) == digests(tmp_path / 'y')

    def test_an_empty_folder_and_a_link_to_one(self, tmp_path):
        (tmp_path / 'disk').mkdir()
        (tmp_path / 'x').symlink_to(tmp_path / 'disk')
        for size in (32, 48):
            write_dataset(tmp_path / 'x', train=1, val=1, size=size, force=True)
            assert (tmp_path / 'x').is_symlink()
            assert len(list((tmp_path / 'disk' / 'coco' / 'train2017').iterdir())) == 1

    @pytest.mark.parametrize('force', [False, True])
    def test_a_users_files_are_left_alone(self, tmp_path, force):
        (tmp_path / 'thesis.tex').write_text('dear')
        with pytest.raises(FileExistsError, match='exists and is no shapes data set: choose another folder'):
            write_dataset(tmp_path, train=1, val=1, size=32, force=force)
        assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']

    def test_whole_or_not_at_all(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cv2, 'imencode', lambda *_: (False, None))
        with pytest.raises(OSError, match='could not encode'):
            write_dataset(tmp_path / 'x', train=1, val=1, size=32)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(('name', 'value'), [('train', 0), ('val', 0), ('size', 16), ('seed', -1)])
    def test_bad_settings(self, tmp_path, name, value):
        with pytest.raises(ValueError, match=f'{name} must be at least .*, got {value}'):
            write_dataset(tmp_path / 'x', **{name: value})
