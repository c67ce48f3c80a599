"""Class maps that are drawn from polygons, as mmseg's own pipeline loads them."""

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations

from focalnet_mm.data.own import as_task, read_data, write_annotations
from focalnet_mm.data.own.masks import encode
from focalnet_mm.data.shapes import THING_CLASSES
from tests.helpers import formats, own
from tests.helpers.folders import quiet
from tests.helpers.own import build


def loaded(written, classes):
    dataset = build('mmseg', written, metainfo=dict(classes=classes))
    entries = [dataset.get_data_info(number) for number in range(len(dataset))]
    return {entry['img_path'].rsplit('/', 1)[-1]: LoadAnnotations()(entry)['gt_seg_map'] for entry in entries}


@pytest.mark.parametrize(('write', 'unlabelled'), [
    (formats.write_labelme, 'background'), (formats.write_cvat, 'background'), (formats.write_coco, 'ignored'),
    (lambda sources, folder: formats.write_yolo(sources, folder, masks=True), 'background')])
def test_of_each_form(write, unlabelled, sources, tmp_path):
    """The masks are pycocotools' of the built-in data set, and NumPy lays them over each other."""
    sources = formats.in_one_piece(sources)
    write(sources, tmp_path / 'data')
    data = as_task(read_data(tmp_path / 'data', tell=quiet), 'semantic', unlabelled)
    assert {*data.classes} - {*THING_CLASSES} == ({'background'} if unlabelled == 'background' else set())
    maps = {}
    for written in write_annotations(data, tmp_path / 'out').values():
        maps |= loaded(written, data.classes)
    assert len(maps) == len(sources)
    for source in sources:
        nothing = data.classes.index('background') if unlabelled == 'background' else 255
        expected = np.full((source.height, source.width), nothing)
        for item in sorted(source.objects, key=lambda item: item.mask.sum(), reverse=True):
            expected[item.mask] = data.classes.index(item.name)
        # Rounded corners move a border pixel.
        assert (maps[source.path.name] == expected).mean() >= 0.99


def drawn(tmp_path, classes, objects, unlabelled='background'):
    """The map of a picture of 20 x 20 pixels with squares of (label, left, top, side)."""
    annotations = []
    for label, left, top, side in objects:
        mask = np.zeros((20, 20), bool)
        mask[top:top + side, left:left + side] = True
        annotations.append((label, (left, top, left + side, top + side), encode(mask)))
    picture = own.picture(tmp_path / 'data' / 'a.jpg', 20, 20, *annotations)
    data = as_task(own.data(tmp_path / 'data', classes, [picture], 'instances'), 'semantic', unlabelled)
    return data, loaded(write_annotations(data, tmp_path / 'out')['train'], data.classes)['a.jpg']


def test_the_small_lies_over_the_large_and_the_later_over_the_earlier(tmp_path):
    data, found = drawn(tmp_path, ['small', 'large', 'first', 'second'], [
        (0, 4, 4, 3), (1, 2, 2, 8), (2, 12, 12, 4), (3, 14, 14, 4)])
    assert [data.classes[found[y, x]] for y, x in ((0, 0), (2, 2), (5, 5), (12, 12), (15, 15), (17, 17))] == [
        'background', 'large', 'small', 'first', 'second', 'second']


@pytest.mark.parametrize('name', ['_background_', 'Background'])
def test_a_background_of_ones_own(name, tmp_path):
    data, found = drawn(tmp_path, ['a', name], [(0, 4, 4, 3)])
    assert data.classes == ['a', name]
    assert (found == 1).sum() == 400 - 9


def test_one_class_needs_a_background(tmp_path):
    assert drawn(tmp_path / 'with', ['a'], [(0, 4, 4, 3)])[0].classes == ['background', 'a']
    with pytest.raises(ValueError, match="are of the class 'a', so nothing is learned where other pixels are ignored"):
        drawn(tmp_path / 'without', ['a'], [(0, 4, 4, 3)], 'ignored')
    with pytest.raises(ValueError, match="unlabelled is 'none': choose background or ignored"):
        drawn(tmp_path / 'other', ['a'], [(0, 4, 4, 3)], 'none')
