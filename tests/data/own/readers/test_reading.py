"""The same annotations in each form are the same data set."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from focalnet_mm.data.own import find_formats, read_data, read_label_map
from focalnet_mm.data.shapes import PALETTE, STUFF_CLASSES, THING_CLASSES
from tests.helpers import formats

BOXES = {
    'coco': lambda sources, folder: formats.write_coco(sources, folder, masks=None),
    'voc': formats.write_voc,
    'yolo': formats.write_yolo,
    'labelme': lambda sources, folder: formats.write_labelme(sources, folder, 'boxes'),
    'cvat': lambda sources, folder: formats.write_cvat(sources, folder, 'boxes'),
    'labelstudio': lambda sources, folder: formats.write_labelstudio(sources, folder, 'boxes'),
    'csv': formats.write_csv,
}
MASKS = {
    'coco polygons': formats.write_coco,
    'coco runs': lambda sources, folder: formats.write_coco(sources, folder, 'runs'),
    'yolo polygons': lambda sources, folder: formats.write_yolo(sources, folder, masks=True),
    'labelme polygons': formats.write_labelme,
    'labelme pngs': lambda sources, folder: formats.write_labelme(sources, folder, 'pngs'),
    'cvat polygons': formats.write_cvat,
    'cvat runs': lambda sources, folder: formats.write_cvat(sources, folder, 'runs'),
    'labelstudio polygons': formats.write_labelstudio,
}


def check_objects(data, sources, masks):
    """The objects of each picture, in order, against pycocotools'."""
    pictures = {picture.path.name: picture for picture in data.pictures}
    assert len(pictures) == len(data.pictures) == len(sources)
    for source in sources:
        picture = pictures[source.path.name]
        assert (picture.split, picture.height, picture.width) == (source.split, source.height, source.width)
        assert picture.path.read_bytes() == source.path.read_bytes()
        found = [(data.classes[annotation.label], annotation) for annotation in picture.annotations]
        assert [name for name, _ in found] == [item.name for item in source.objects]
        for (_, annotation), item in zip(found, source.objects):
            assert annotation.box == pytest.approx(item.box, abs=1)
            if masks:
                mask = decoded(annotation.segmentation, source.height, source.width)
                assert (mask & item.mask).sum() / (mask | item.mask).sum() >= 0.99
            else:
                assert annotation.segmentation is None


def decoded(segmentation, height, width):
    if isinstance(segmentation, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))).astype(bool)
    if isinstance(segmentation['counts'], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation).astype(bool)


@pytest.mark.parametrize('name', BOXES)
def test_boxes(name, sources, tmp_path, told):
    BOXES[name](sources, tmp_path)
    assert find_formats(tmp_path) == [name]
    data = read_data(tmp_path, tell=told.append)
    assert (data.format, data.task, sorted(data.classes)) == (name, 'boxes', sorted(THING_CLASSES))
    check_objects(data, sources, masks=False)
    # Nothing is odd but the names that Label Studio's uploads get.
    assert {problem.kind for problem in data.problems} <= ({'moved'} if name == 'labelstudio' else set())


@pytest.mark.parametrize('name', MASKS)
def test_masks(name, sources, tmp_path, told):
    if name in ('yolo polygons', 'cvat polygons', 'labelstudio polygons'):
        sources = formats.in_one_piece(sources)
    MASKS[name](sources, tmp_path)
    data = read_data(tmp_path, tell=told.append)
    assert (data.format, data.task, sorted(data.classes)) == (name.split()[0], 'instances', sorted(THING_CLASSES))
    check_objects(data, sources, masks=True)


@pytest.mark.parametrize('name', ['coco', 'yolo', 'cvat'])
def test_order_of_classes_is_that_of_the_file(name, sources, tmp_path, told):
    BOXES[name](sources, tmp_path)
    assert read_data(tmp_path, tell=told.append).classes == list(THING_CLASSES)


def test_what_training_passes_over(sources, tmp_path, told):
    """VOC's difficult objects and COCO's crowds."""
    for folder in ('voc', 'coco'):
        (tmp_path / folder).mkdir()
    formats.write_voc(sources, tmp_path / 'voc')
    formats.write_coco(sources, tmp_path / 'coco')
    path = tmp_path / 'voc' / 'Annotations' / f'{sources[0].path.stem}.xml'
    path.write_text(path.read_text().replace('<difficult>0', '<difficult>1', 1))
    path = tmp_path / 'coco' / 'train.json'
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1))
    for folder in ('voc', 'coco'):
        data = read_data(tmp_path / folder, tell=told.append)
        crowds = [annotation.crowd for picture in data.pictures if picture.path.name == sources[0].path.name
                  for annotation in picture.annotations]
        assert crowds == [True] + [False] * (len(sources[0].objects) - 1)


def test_panoptic(shapes, sources, told):
    data = read_data(shapes / 'coco', tell=told.append)
    assert (data.task, data.classes) == ('panoptic', [*THING_CLASSES, *STUFF_CLASSES])
    assert data.stuff == {5, 6, 7, 8}
    assert data.palette == PALETTE
    assert any('instances_val2017.json is passed by' in line for line in told)
    pictures = {picture.path.name: picture for picture in data.pictures}
    for source in sources:
        picture = pictures[source.path.name]
        things = [annotation for annotation in picture.annotations if annotation.label not in data.stuff]
        assert [data.classes[annotation.label] for annotation in things] == [item.name for item in source.objects]
        masks = [decoded(annotation.segmentation, source.height, source.width) for annotation in picture.annotations]
        # Each pixel belongs to one segment.
        assert (np.sum(masks, 0) == 1).all()
        for annotation, item in zip(things, source.objects):
            assert annotation.box == item.box


@pytest.mark.parametrize(('colours', 'ending'), [(None, '.png'), (None, '.TIF'), (PALETTE, '.png'), (PALETTE, '.bmp')])
def test_label_maps(colours, ending, shapes, tmp_path, told):
    import cv2
    formats.write_labelmaps(shapes, tmp_path, colours, ending)
    assert find_formats(tmp_path) == ['labelmaps']
    data = read_data(tmp_path, tell=told.append)
    assert (data.task, data.classes) == ('semantic', [*THING_CLASSES, *STUFF_CLASSES])
    assert sorted(picture.split for picture in data.pictures) == ['train'] * 6 + ['val'] * 4
    assert data.palette == colours
    for picture in data.pictures:
        below = picture.path.relative_to(tmp_path / 'images').with_suffix('.png')
        given = cv2.imread(str(shapes / 'ade' / 'ADEChallengeData2016' / 'annotations' / below), cv2.IMREAD_UNCHANGED)
        assert (read_label_map(data, picture) == given.astype(int) - 1).all()


@pytest.mark.parametrize(('pictures', 'maps'), [
    ('images/training/{}.jpg', 'annotations/training/{}.png'), ('img_dir/train/{}.jpg', 'ann_dir/train/{}.png'),
    ('JPEGImages/{}.jpg', 'SegmentationClass/{}.png'), ('train/images/{}.png', 'train/masks/{}.png'),
    ('leftImg8bit/val/ulm/{}_leftImg8bit.png', 'gtFine/val/ulm/{}_gtFine_labelTrainIds.png'),
    ('train/{}.png', 'trainannot/{}.png'), ('train/{}.jpg', 'train_masks/{}_mask.gif'), ('{}.jpg', '{}_mask.png'),
    ('{}.JPG', 'labels/{}.BMP'), ('a/{}.jpg', 'b/{}.png')])
def test_layouts_of_label_maps(pictures, maps, tmp_path, told):
    from PIL import Image
    for number in range(3):
        for pattern, mode in ((pictures, 'RGB'), (maps, 'L')):
            path = tmp_path / pattern.format(f'p_{number}')
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (8, 8), number).save(path)
    # Of the last one, neither folder says that it holds maps: it looks like classes.
    assert find_formats(tmp_path) == (['folders'] if maps[0] == 'b' else ['labelmaps'])
    data = read_data(tmp_path, 'labelmaps', told.append)
    assert [(picture.path, picture.label_map) for picture in data.pictures] == [
        (tmp_path / pictures.format(f'p_{number}'), tmp_path / maps.format(f'p_{number}')) for number in range(3)]


def test_values_without_a_list(shapes, tmp_path, told):
    formats.write_labelmaps(shapes, tmp_path)
    (tmp_path / 'classes.txt').unlink()
    data = read_data(tmp_path, tell=told.append)
    assert data.classes == [str(value) for value in range(1, 10)]
    assert any('No list of classes' in line for line in told)


@pytest.mark.parametrize(('values', 'lines', 'expected'), [
    ([0, 1, 2], ['a', 'b', 'c'], {0: 0, 1: 1, 2: 2}), ([0, 1, 3], ['a', 'b', 'c'], {1: 0, 2: 1, 3: 2}),
    ([1, 3, 255], ['a', 'b', 'c'], {1: 0, 2: 1, 3: 2}), ([0, 2], ['1 a', '2 b', '9: c d'], {1: 0, 2: 1, 9: 2}),
    ([0, 255], ['none', 'road'], {0: 0, 255: 1}), ([0, 255], None, {0: 0, 255: 1}), ([3, 7], None, {3: 0, 7: 1}),
    ([0, 1], ['a', 'b', 'c'], {0: 0, 1: 1, 2: 2})])
def test_what_values_stand_for(values, lines, expected, tmp_path, told):
    from PIL import Image
    for folder in ('images', 'annotations'):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array([values * 2] * 4, np.uint8)).save(tmp_path / folder / 'a.png')
    if lines:
        (tmp_path / 'classes.txt').write_text('\n'.join(lines))
    data = read_data(tmp_path, tell=told.append)
    assert data.map_values == expected
    if lines == ['1 a', '2 b', '9: c d']:
        assert data.classes == ['a', 'b', 'c d']
    # Where the list is longer than what is seen, it is said what was taken.
    assert any('is taken to be 0' in line for line in told) is (values == [0, 1])
    assert [problem.text[:11] for problem in data.problems if problem.kind == 'map_values'] == (
        ['the value 0'] if values in ([0, 2], [0, 1, 3]) else [])


@pytest.mark.parametrize('with_splits', [True, False])
def test_class_folders(with_splits, sources, tmp_path, told):
    formats.write_folders(sources, tmp_path, with_splits)
    data = read_data(tmp_path, tell=told.append)
    assert (data.format, data.task) == ('folders', 'classes')
    found = {picture.path.name: (*(data.classes[label] for label in picture.labels), picture.split)
             for picture in data.pictures}
    assert found == {source.path.name: (formats.largest(source), source.split if with_splits else None)
                     for source in sources}


def test_a_class_called_train(sources, tmp_path, told):
    for source, name in zip(sources, ('car', 'train', 'bus', 'test') * 2):
        (tmp_path / 'images' / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / 'images' / name / source.path.name).write_bytes(source.path.read_bytes())
    data = read_data(tmp_path, tell=told.append)
    assert data.classes == ['bus', 'car', 'test', 'train']
    assert {picture.split for picture in data.pictures} == {None}


@pytest.mark.parametrize(('what', 'task'), [('classes', 'classes'), ('labels', 'labels'), ('columns', 'labels')])
def test_tables_of_classes(what, task, sources, tmp_path, told):
    formats.write_csv(sources, tmp_path, what)
    data = read_data(tmp_path, tell=told.append)
    assert (data.format, data.task) == ('csv', task)
    found = {picture.path.name: {data.classes[label] for label in picture.labels} for picture in data.pictures}
    assert found == {source.path.name: {formats.largest(source)} if what == 'classes' else {
        item.name for item in source.objects} for source in sources}
