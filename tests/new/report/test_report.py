"""report.json and the pictures beside it: counts beside pycocotools and NumPy, on the same files."""

import json
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from focalnet_mm.data.own.records import Annotation, Picture, Problem
from focalnet_mm.data.shapes import write_dataset
from focalnet_mm.new.report import Files, write_report
from tests.helpers.own import coloured, data, extent, picture

SPLITS = dict(train='train2017', val='val2017')


def report(found, folder, **options):
    page = write_report(found, folder, tell=lambda line: None, **options)
    assert page == folder / 'report.html'
    return json.loads((folder / 'report.json').read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """COCO's annotations, as pycocotools reads them, and the same as data of one's own."""
    root = tmp_path_factory.mktemp('data')
    write_dataset(root / 'shapes', train=6, val=3, size=96)
    pictures, files = [], {}
    for split, folder in SPLITS.items():
        files[split] = coco = COCO(root / f'shapes/coco/annotations/instances_{folder}.json')
        for image in coco.loadImgs(coco.getImgIds()):
            pictures.append(Picture(
                root / 'shapes/coco' / folder / image['file_name'], image['height'], image['width'], split=split,
                annotations=[Annotation(each['category_id'] - 1, (
                    each['bbox'][0], each['bbox'][1], each['bbox'][0] + each['bbox'][2],
                    each['bbox'][1] + each['bbox'][3]), each['segmentation'])
                    for each in coco.loadAnns(coco.getAnnIds(imgIds=image['id']))]))
    categories = coco.loadCats(coco.getCatIds())
    assert [category['id'] for category in categories] == list(range(1, len(categories) + 1))
    return files, data(root, [category['name'] for category in categories], pictures, 'instances')


@pytest.fixture(scope='module')
def written(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    return folder, report(shapes[1], folder)


def test_counts(shapes, written):
    files, _ = shapes
    _, found = written
    for split, coco in files.items():
        assert found['splits'][split] == dict(pictures=len(coco.imgs), annotated=len(coco.imgs), unreadable=0,
                                              objects=len(coco.anns), crowds=0)
        for row, category in zip(found['classes'], coco.getCatIds(), strict=True):
            assert row['name'] == coco.cats[category]['name']
            assert row['objects'].get(split, 0) == len(coco.getAnnIds(catIds=category))
            assert row['pictures'].get(split, 0) == len(coco.getImgIds(catIds=category))
    boxes = np.array([each['bbox'] for coco in files.values() for each in coco.anns.values()])
    sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
    assert found['objects']['side']['median'] == pytest.approx(np.median(sides), abs=0.01)
    assert found['objects']['share']['greatest'] == pytest.approx(sides.max() / 96 * 100, abs=0.01)
    edges, counts = found['objects']['sides']['edges'], found['objects']['sides']['counts']
    np.testing.assert_array_equal(counts, np.histogram(sides, edges)[0])
    per_picture = [len(coco.getAnnIds(imgIds=number)) for coco in files.values() for number in coco.imgs]
    edges, counts = found['objects']['per_picture']['edges'], found['objects']['per_picture']['counts']
    np.testing.assert_array_equal(counts, np.histogram(per_picture, [each or np.inf for each in edges[:1]] + [
        np.inf if each is None else each for each in edges[1:]])[0])


def test_pictures_beside_the_page(written):
    folder, found = written
    files = [entry['file'] for row in found['classes'] for entry in row['examples']] + [
        entry['file'] for entry in found['shown']]
    assert sorted(files) == sorted(path.name for path in (folder / 'report').iterdir())
    for entry in found['shown']:
        assert Image.open(folder / 'report' / entry['file']).size == (entry['width'], entry['height'])
    assert {entry['split'] for entry in found['shown']} == set(SPLITS)


def test_drawn_boxes_in_the_files(tmp_path):
    pictures = [picture(tmp_path / f'{i}.png', 200, 300, (0, (30 + i, 40, 150, 160 - i)), split=None)
                for i in range(3)]
    found = report(data(tmp_path, ['ship'], pictures), tmp_path / 'out')
    assert found['splits'].keys() == {'no split'}
    for i, entry in enumerate(found['classes'][0]['examples']):
        image = cv2.imread(str(tmp_path / 'out' / 'report' / entry['file']))
        np.testing.assert_allclose(extent(coloured(image)), np.array([30 + i, 40, 150, 160 - i]) * 1.0, atol=2)


def test_pixels_of_label_maps(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (2, 50, 60))
    pictures = []
    for i, split in enumerate(('train', 'val')):
        Image.fromarray(labels[i].astype(np.uint8)).save(tmp_path / f'{i}_map.png')
        pictures.append(picture(tmp_path / f'{i}.png', 50, 60, split=split, label_map=tmp_path / f'{i}_map.png'))
    # The last value stands for no class.
    found = report(data(tmp_path, ['a', 'b'], pictures, 'semantic', map_values={0: 1, 1: 0}), tmp_path / 'out')
    for label, value in ((0, 1), (1, 0)):
        assert found['classes'][label]['pixels'] == {split: int((labels[i] == value).sum())
                                                     for i, split in enumerate(('train', 'val'))}


def test_nothing_at_all(tmp_path):
    found = report(data(tmp_path, [], []), tmp_path / 'out')
    assert found['pictures']['count'] == found['objects']['count'] == len(found['classes']) == 0


def test_two_thousand_classes(tmp_path):
    classes = [f'class {i}' for i in range(2000)]
    pictures = [picture(tmp_path / f'{i}.png', 64, 64, *((label, (1, 1, 9, 9)) for label in range(i, 2000, 7)))
                for i in range(3)]
    found = report(data(tmp_path, classes, pictures), tmp_path / 'out')
    assert len(found['classes']) == 2000
    assert found['examples_of'] == 40
    assert len(list((tmp_path / 'out' / 'report').iterdir())) <= 40 * 4 + 12
    assert (tmp_path / 'out' / 'report.html').stat().st_size < 2_000_000


def test_forms_of_pictures(tmp_path):
    """16 bits, grey, transparent, floating-point, an EXIF orientation, one pixel; and none, damaged, not there."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 60, 3), np.uint8)
    forms = {'16.png': noise.astype(np.uint16) * 200, 'grey.png': noise[..., 0], 'alpha.png': np.dstack([noise, noise[
        ..., :1]]), 'grey16.tif': noise[..., 0].astype(np.uint16) * 7, 'one.png': noise[:1, :1], 'plain.jpg': noise}
    for name, image in forms.items():
        assert cv2.imwrite(str(tmp_path / name), image)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / 'turned.jpg', exif=exif)
    (tmp_path / 'damaged.png').write_bytes((tmp_path / '16.png').read_bytes()[:90])
    (tmp_path / 'empty.png').write_bytes(b'')
    sizes = {'one.png': (1, 1), 'turned.jpg': (60, 40), 'empty.png': (0, 0)}
    names = [*forms, 'turned.jpg', 'damaged.png', 'empty.png', 'gone.png']
    pictures = [Picture(tmp_path / name, *sizes.get(name, (40, 60)), split='train') for name in names]
    found = report(data(tmp_path, ['x'], pictures, 'classes'), tmp_path / 'out')
    shown = {entry['name']: entry for entry in found['shown']}
    assert {name for name, entry in shown.items() if 'problem' in entry} == {'damaged.png', 'empty.png', 'gone.png'}
    assert 'damaged.png' in shown['damaged.png']['problem']
    for name in ('16.png', 'grey16.tif'):
        image = cv2.imread(str(tmp_path / 'out' / 'report' / shown[name]['file']))
        assert image.max() > 230, name
        assert image.min() < 30, name
    assert (shown['turned.jpg']['height'], shown['turned.jpg']['width']) == (120, 80)
    assert found['splits']['train']['unreadable'] == 1


@pytest.mark.slow
def test_a_hundred_megapixels(tmp_path):
    """A JPEG is decoded at a fraction of its size; a box is where it was annotated."""
    large = np.full((10000, 10000), 128, np.uint8)
    assert cv2.imwrite(str(tmp_path / 'large.jpg'), large)
    large = Picture(tmp_path / 'large.jpg', 10000, 10000, [Annotation(0, (1000, 2000, 9000, 8000))], split='train')
    assert Files(None).image(large, 0.036).shape == (1250, 1250, 3)
    with warnings.catch_warnings(action='error', category=Image.DecompressionBombWarning):
        found = report(data(tmp_path, ['x'], [large]), tmp_path / 'out')
    image = cv2.imread(str(tmp_path / 'out' / 'report' / found['shown'][0]['file']))
    assert image.shape == (360, 360, 3)
    np.testing.assert_allclose(extent(coloured(image)), np.array([1000, 2000, 9000, 8000]) * 0.036, atol=2)


def test_problems(tmp_path):
    problems = [Problem('outside', f'Box {i}', tmp_path / f'{i}.png', i, 'mended' if i % 2 else 'kept')
                for i in range(30)] + [Problem('one_split', "'x' is in val alone.")]
    found = report(data(tmp_path, ['x'], [], problems=problems), tmp_path / 'out')['problems']
    assert [(group['kind'], group['count'], group['done']) for group in found] == [
        ('outside', 30, dict(kept=15, mended=15)), ('one_split', 1, dict(kept=1))]
    assert [problem['text'] for problem in found[0]['found']] == [f'Box {i}' for i in range(30)]


def test_a_second_report_replaces_the_first_and_nothing_else(tmp_path):
    first = data(tmp_path, ['x'], [picture(tmp_path / f'{i}.png', 30, 30) for i in range(3)], 'classes')
    report(first, tmp_path / 'out')
    (tmp_path / 'out' / 'mine.txt').write_text('mine')
    first.pictures = first.pictures[:1]
    report(first, tmp_path / 'out')
    assert len(list((tmp_path / 'out' / 'report').iterdir())) == 1
    assert (tmp_path / 'out' / 'mine.txt').read_text() == 'mine'
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'report.html').write_text('mine')
    with pytest.raises(FileExistsError, match=r'report.html is in the way'):
        report(first, tmp_path / 'other')
    assert [path.name for path in (tmp_path / 'other').iterdir()] == ['report.html']
