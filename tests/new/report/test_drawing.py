"""What is drawn lies where it is annotated: found again by its pixels, and by pycocotools' reading of masks."""

import numpy as np
import pytest
from pycocotools import mask as coco

from focalnet_mm.data.own.records import Annotation, Picture
from focalnet_mm.new.report.drawing import Window, draw, scale_of, whole, window_around
from tests.helpers.own import GREY, coloured, extent

RED, BLUE = (255, 0, 0), (0, 60, 255)


def drawn(height, width, annotations, window=None, **options):
    picture = Picture(None, height, width, annotations)
    window = window or whole(picture)
    return draw(picture, window, [RED, BLUE, (90, 200, 0)], lambda picture, scale: np.full(
        (height, width, 3), GREY, np.uint8), **options), window


@pytest.mark.parametrize(('size', 'box'), [
    ((200, 300), (20, 30, 120, 90)), ((1500, 2400), (600, 300, 1800, 1200)), ((60, 40), (3, 10, 33, 50)),
    ((300, 300), (0, 0, 300, 300)), ((301, 97), (10.4, 20.6, 60.2, 200.7)), ((200, 200), (-50, 60, 400, 90))])
def test_a_box(size, box):
    image, window = drawn(*size, [Annotation(0, box)])
    scale = scale_of(window)
    assert max(image.shape[:2]) == round(max(size) * scale)
    clipped = np.clip(box, 0, [size[1], size[0]] * 2)
    # Sides that lie outside are not drawn, so that the others reach the border.
    np.testing.assert_allclose(extent(coloured(image)), clipped * scale, atol=1)
    inner = image[round(clipped[1] * scale) + 3:round(clipped[3] * scale) - 3,
                  max(0, round(clipped[0] * scale)) + 3:round(clipped[2] * scale) - 3]
    assert not coloured(inner).any()


def test_boxes_that_make_no_sense_are_left_out():
    nan, inf = float('nan'), float('inf')
    boxes = [(nan, 0, 5, 5), (0, 0, inf, 5), (9, 9, 3, 12), (5, 5, 5, 9), (1e30, 0, 1e31, 4)]
    image, _ = drawn(50, 50, [Annotation(0, box) for box in boxes])
    assert not coloured(image).any()


POLYGON = [[40.0, 20.0, 160.0, 50.0, 130.0, 170.0, 30.0, 120.0], [200.0, 200.0, 240.0, 200.0, 240.0, 230.0]]


@pytest.mark.parametrize('form', ['polygons', 'uncompressed', 'compressed', 'bytes'])
def test_a_mask(form):
    expected = coco.decode(coco.merge(coco.frPyObjects(POLYGON, 250, 300)))
    encoded = coco.encode(np.asfortranarray(expected))
    changes = np.flatnonzero(np.diff(expected.ravel(order='F'))) + 1
    runs = np.diff(np.r_[0, changes, expected.size]).tolist()
    segmentation = dict(polygons=POLYGON, uncompressed=dict(size=[250, 300], counts=runs), bytes=encoded,
                        compressed=dict(size=[250, 300], counts=encoded['counts'].decode()))[form]
    image, _ = drawn(250, 300, [Annotation(1, (0, 0, 0, 0), segmentation)])
    found = coloured(image)
    overlap = (found & (expected > 0)).sum() / (found | (expected > 0)).sum()
    assert overlap > 0.97 if form == 'polygons' else overlap == 1


@pytest.mark.parametrize('segmentation', [dict(size=[9, 9]), [[1, 2, 3]], [['a', 'b']], 7, [[]], dict(counts=5)])
def test_masks_that_make_no_sense_are_left_out(segmentation):
    image, _ = drawn(50, 50, [Annotation(0, (0, 0, 0, 0), segmentation)])
    assert not coloured(image).any()


def test_a_label_map():
    labels = np.full((100, 150), -1)
    labels[10:60, 20:140], labels[60:90, 20:140] = 0, 1
    image, _ = drawn(100, 150, [], labels=labels)
    red, blue = image[..., 0] > image[..., 2] + 40, image[..., 2] > image[..., 0] + 40
    np.testing.assert_array_equal(red, labels == 0)
    np.testing.assert_array_equal(blue, labels == 1)


def test_the_chosen_class_stands_out():
    image, _ = drawn(100, 150, [Annotation(0, (10, 10, 50, 50)), Annotation(1, (60, 10, 100, 50))], chosen=1)
    assert (coloured(image[:, :55]).sum(), coloured(image[:, 55:]).sum()) == (4 * 40 - 4, 4 * 40 - 4 + 4 * 38 - 4)


@pytest.mark.parametrize('box', [(700, 300, 730, 320), (0, 0, 30, 20), (980, 590, 1000, 600)])
def test_a_small_object_is_shown_near(box):
    picture = Picture(None, 600, 1000, [Annotation(0, box)])
    window = window_around(picture, picture.annotations[0])
    assert 0 <= window.left < window.right <= 1000
    assert 0 <= window.top < window.bottom <= 600
    assert window.width < 250
    assert abs(window.width / window.height - 1000 / 600) < 0.1
    image, _ = drawn(600, 1000, picture.annotations, window)
    scale = np.array([image.shape[1] / window.width, image.shape[0] / window.height] * 2)
    np.testing.assert_allclose(extent(coloured(image)), (np.array(box) - [*window[:2], *window[:2]]) * scale, atol=1)


def test_areas_have_no_box():
    image, _ = drawn(150, 150, [Annotation(1, (10, 10, 90, 90), [[40, 40, 60, 40, 60, 60, 40, 60]])], areas={1})
    np.testing.assert_allclose(extent(coloured(image)), (40, 40, 60, 60), atol=1)


def test_a_picture_of_one_pixel():
    image, _ = drawn(1, 1, [Annotation(0, (0, 0, 1, 1))])
    assert image.shape == (120, 120, 3)
    assert scale_of(Window(0, 0, 1, 1)) == 120
