"""Turned boxes, circles, ellipses, groups and brushes."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from focalnet_mm.data.own import read_data
from focalnet_mm.data.own.readers.labelstudio import unpack
from tests.helpers.folders import quiet


def mask_of(segmentation, height=100, width=200):
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return coco_mask.decode(segmentation).astype(bool)


@pytest.fixture
def folder(tmp_path):
    Image.new('RGB', (200, 100)).save(tmp_path / 'a.png')
    return tmp_path


def cvat(folder, shapes):
    (folder / 'a.xml').write_text(f'<annotations><meta/><image id="0" name="a.png" width="200" height="100">{shapes}'
                                  '</image></annotations>')
    return read_data(folder, tell=quiet)


def labelme(folder, *shapes, **more):
    (folder / 'a.json').write_text(json.dumps(dict(shapes=shapes, imagePath='a.png', imageHeight=100, imageWidth=200,
                                                   imageData=None, **more)))
    return read_data(folder, tell=quiet)


def labelstudio(folder, kind, **value):
    result = dict(id='r', type=kind, original_width=200, original_height=100, value={**value, kind: ['x']})
    (folder / 'a.json').write_text(json.dumps([dict(
        id=1, data=dict(image='/data/local-files/?d=set/a.png'),
        annotations=[dict(was_cancelled=True, result=[]), dict(result=[result])])]))
    return read_data(folder, tell=quiet)


def only(data):
    annotation, = data.pictures[0].annotations
    assert data.problems == []
    return annotation


class TestTurned:

    def test_cvat(self, folder):
        """A quarter turn about the centre exchanges width and height."""
        data = cvat(folder, '<box label="x" xtl="50" ytl="40" xbr="90" ybr="60" rotation="90.0"/>')
        assert only(data).box == pytest.approx((60, 30, 80, 70))

    def test_cvat_clockwise(self, folder):
        """The left upper corner of a box that is turned a little moves up and right."""
        data = cvat(folder, '<box label="x" xtl="50" ytl="40" xbr="90" ybr="60" rotation="10"/>')
        x, y = only(data).segmentation[0][:2]
        assert (x > 50, y < 40) == (True, True)

    def test_labelstudio(self, folder):
        """A quarter turn clockwise about the left upper corner: the box lies left of and below it."""
        data = labelstudio(folder, 'rectanglelabels', x=50, y=10, width=20, height=10, rotation=90)
        assert only(data).box == pytest.approx((90, 10, 100, 50))


class TestRound:

    @pytest.mark.parametrize('make', [
        lambda folder: cvat(folder, '<ellipse label="x" cx="90" cy="50" rx="40" ry="20"/>'),
        lambda folder: labelstudio(folder, 'ellipselabels', x=45, y=50, radiusX=20, radiusY=20)])
    def test_ellipse(self, make, folder):
        ys, xs = np.mgrid[:100, :200] + 0.5
        expected = ((xs - 90) / 40) ** 2 + ((ys - 50) / 20) ** 2 <= 1
        found = mask_of(only(make(folder)).segmentation)
        assert (found & expected).sum() / (found | expected).sum() > 0.97

    def test_circle(self, folder):
        data = labelme(folder, dict(label='x', shape_type='circle', points=[[100, 50], [100, 80]]))
        assert only(data).box == pytest.approx((70, 20, 130, 80))
        assert mask_of(only(data).segmentation).sum() == pytest.approx(np.pi * 30 ** 2, rel=0.02)


class TestLabelMe:

    def test_group(self, folder):
        square = [[0, 0], [10, 0], [10, 10], [0, 10]]
        other = [[x + 50, y] for x, y in square]
        parts = [dict(label='x', shape_type='polygon', points=points, group_id=3) for points in (square, other)]
        assert only(labelme(folder, *parts)).box == (0, 0, 60, 10)
        parts[1]['group_id'] = 4
        assert len(labelme(folder, *parts).pictures[0].annotations) == 2

    def test_flags_are_classes_of_the_picture(self, folder):
        data = labelme(folder, flags=dict(sunny=True, rainy=False))
        assert (data.task, data.classes, data.pictures[0].labels) == ('classes', ['sunny'], (0,))

    def test_flags_beside_objects(self, folder):
        data = labelme(folder, dict(label='x', shape_type='rectangle', points=[[0, 0], [5, 5]]), flags=dict(sunny=True))
        assert (data.task, data.classes, data.pictures[0].labels) == ('boxes', ['x'], ())

    @pytest.mark.parametrize('kind', ['line', 'linestrip', 'point', 'points'])
    def test_without_area(self, kind, folder):
        data = labelme(folder, dict(label='x', shape_type=kind, points=[[0, 0], [5, 5]]),
                       dict(label='x', shape_type='rectangle', points=[[0, 0], [5, 5]]))
        assert [(problem.kind, problem.done) for problem in data.problems] == [('malformed', 'left out')]
        assert len(data.pictures[0].annotations) == 1


class TestCVAT:

    def test_tags_and_other_shapes(self, folder):
        data = cvat(folder, '<tag label="sunny"/><tag label="warm"/>')
        assert (data.task, [data.classes[label] for label in data.pictures[0].labels]) == ('labels', ['sunny', 'warm'])
        data = cvat(folder, '<polyline label="x" points="0,0;5,5"/><box label="x" xtl="0" ytl="0" xbr="5" ybr="5"/>')
        assert 'a polyline is neither box, polygon, ellipse nor mask' in data.problems[0].text

    @pytest.mark.parametrize('mask', ['rle="1,2" left="0" top="0" width="9" height="9"', 'rle="a"', '',
                                      'rle="1,3" left="-9" top="0" width="2" height="2"'])
    def test_damaged_mask(self, mask, folder):
        data = cvat(folder, f'<mask label="x" {mask}/><box label="x" xtl="0" ytl="0" xbr="5" ybr="5"/>')
        assert [problem.kind for problem in data.problems] == ['malformed']


class TestBrush:

    @staticmethod
    def packed(values, lengths=(3, 4, 8, 16)):
        """Packed as chunks of equal values and of others, in bits."""
        bits = f'{len(values):032b}{7:05b}' + ''.join(f'{length - 1:04b}' for length in lengths)
        position = 0
        while position < len(values):
            run = 1
            while position + run < len(values) and values[position + run] == values[position] and run < 1 << 16:
                run += 1
            same = run > 1
            if not same:
                run = min(5, len(values) - position)
            which = next(number for number, length in enumerate(lengths) if run <= 1 << length)
            bits += f'{int(same)}{which:02b}{run - 1:0{lengths[which]}b}'
            bits += ''.join(f'{value:08b}' for value in values[position:position + (1 if same else run)])
            position += run
        bits += '0' * (-len(bits) % 8)
        return [int(bits[place:place + 8], 2) for place in range(0, len(bits), 8)]

    def test_mask(self, folder):
        mask = np.zeros((100, 200), np.uint8)
        mask[20:50, 30:90] = 255
        mask[21, 31] = 0
        pixels = np.repeat(mask.reshape(-1), 4)
        data = labelstudio(folder, 'brushlabels', format='rle', rle=self.packed(pixels.tolist()))
        assert (mask_of(only(data).segmentation) == (mask > 0)).all()
        assert only(data).box == (30, 20, 90, 50)

    def test_any_values(self):
        values = np.random.default_rng(0).integers(3, size=1000).tolist()
        assert unpack(self.packed(values), 1000).tolist() == values

    def test_forged(self):
        packed = self.packed([1, 2, 3, 3, 3, 3])
        with pytest.raises(ValueError, match='has 6 values in place of 4'):
            unpack(packed, 4)
        with pytest.raises(ValueError, match=r'ends after \d of 6 values'):
            unpack(packed[:7], 6)
