"""Tables as competitions and scripts write them."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from focalnet_mm.data.own import find_formats, read_data
from tests.helpers import own

HEIGHT, WIDTH = 60, 80


def table(folder, heading, rows, told=None, pictures=4):
    """Pictures i0.jpg, … and a table whose rows are given for their numbers."""
    for number in range(pictures):
        own.picture(folder / 'train' / f'i{number}.jpg', HEIGHT, WIDTH)
    lines = [heading, *(rows(number) for number in range(pictures))]
    (folder / 'train.csv').write_text('\n'.join(lines) + '\n')
    return read_data(folder, tell=(told if told is not None else []).append)


def boxes(data):
    return [annotation.box for picture in data.pictures for annotation in picture.annotations]


@pytest.mark.parametrize(('heading', 'row'), [
    ('image_id,width,height,bbox,source', 'i{0},80,60,"[5.0, 6, 20.0, 30.0]",usask'),
    ('image_id,width,height,bbox,label', 'i{0},80,60,"[5.0, 6, 20.0, 30.0]",wheat'),
    ('filename,bbox,class', 'i{0}.jpg,5 6 20 30,wheat'),
    ('filename,x,y,width,height,class', 'i{0}.jpg,5,6,20,30,wheat'),
    ('ImageID,Source,LabelName,XMin,XMax,YMin,YMax', 'i{0},x,wheat,0.0625,0.3125,0.1,0.6'),
    (',filename,class,xmin,ymin,xmax,ymax', '{0},i{0}.jpg,wheat,5,6,25,36'),
    ('image,cx,cy,w,h,label', 'i{0}.jpg,15,21,20,30,wheat'),
    ('image,x_center,y_center,width,height,label', 'i{0}.jpg,0.1875,0.35,0.25,0.5,wheat'),
    ('image,label,bbox_x_center,bbox_y_center,bbox_width,bbox_height', 'i{0}.jpg,wheat,15,21,20,30'),
    ('filename,startX,startY,endX,endY,label', 'i{0}.jpg,5,6,25,36,wheat'),
    ('filename,x0,y0,x1,y1,label', 'i{0}.jpg,5,6,25,36,wheat'),
    ('image,label,left,top,width,height', 'i{0}.jpg,wheat,5,6,20,30'),
    ('image,label,x1,y1,w,h,width,height', 'i{0}.jpg,wheat,5,6,20,30,80,60'),
    ('filename,class,xmin,ymin,width,height', 'i{0}.jpg,wheat,5,6,20,30'),
    ('image_path,class_id,left,top,width,height,image_width,image_height', 'i{0}.jpg,wheat,5,6,20,30,80,60'),
    ('filename,xmin,ymin,xmax,ymax,name', 'i{0}.jpg,5,6,25,36,wheat')])
def test_boxes(heading, row, tmp_path, told):
    data = table(tmp_path, heading, row.format, told)
    assert boxes(data) == [pytest.approx((5, 6, 25, 36))] * 4
    assert data.classes == (['wheat'] if 'wheat' in row else ['object'])
    assert not data.problems
    assert any('parts of the width and height' in line for line in told) is ('0.0625' in row or '0.1875' in row)
    assert any('passed by' in line for line in told) is ('source' in heading.casefold())


def test_whole_boxes_of_a_pixel_are_no_parts(tmp_path):
    assert boxes(table(tmp_path, 'path,label,x1,y1,x2,y2', 'train/i{0}.jpg,a,0,0,1,1'.format)) == [(0, 0, 1, 1)] * 4


def test_run_lengths(tmp_path):
    """Downwards and from 1, as pycocotools' own run lengths are but for the first number."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:14, 10:12] = 1
    data = table(tmp_path, 'ImageId,ClassId,EncodedPixels',
                 lambda number: f'i{number}.jpg,{number % 2 + 3},605 10 665 10' if number else 'i0.jpg,,')
    assert (data.task, data.classes) == ('instances', ['3', '4'])
    assert not data.pictures[0].annotations
    for picture in data.pictures[1:]:
        annotation, = picture.annotations
        assert (coco_mask.decode(annotation.segmentation) == mask).all()
        assert annotation.box == (10, 4, 12, 14)


@pytest.mark.parametrize('runs', ['605', '0 10', '4795 10', 'a b', '605 -3'])
def test_run_lengths_that_are_none(runs, tmp_path):
    data = table(tmp_path, 'ImageId,EncodedPixels', lambda number: f'i{number}.jpg,{"605 10" if number else runs}')
    assert [len(picture.annotations) for picture in data.pictures] == [0, 1, 1, 1]
    assert [problem.kind for problem in data.problems] == ['malformed']


@pytest.mark.parametrize(('heading', 'row'), [
    ('id,breed', 'i{0},pug'), ('id,label', 'i{0},pug'), ('image,kind', 'i{0}.jpg,pug')])
def test_headings_that_may_be_anything(heading, row, tmp_path):
    data = table(tmp_path, heading, row.format)
    assert (data.task, data.classes) == ('classes', ['pug'])


def test_such_headings_beside_another_form(tmp_path):
    """Something about the pictures is no second form of annotations."""
    table(tmp_path, 'id,breed', 'i{0},pug'.format)
    (tmp_path / 'train.txt').unlink(missing_ok=True)
    for number in range(4):
        own.picture(tmp_path / 'train' / f'i{number}_mask.png', HEIGHT, WIDTH)
    assert find_formats(tmp_path) == ['labelmaps']


@pytest.mark.parametrize(('on', 'off'), [('1', '0'), ('1.0', '0.0'), ('True', 'False')])
def test_columns_of_classes(on, off, tmp_path):
    data = table(tmp_path, 'filename,a,b', lambda number: f'i{number}.jpg,{on if number % 2 else off},{on}')
    assert [[data.classes[label] for label in picture.labels] for picture in data.pictures] == [
        ['b'], ['a', 'b'], ['b'], ['a', 'b']]


def test_a_class_of_no_box(tmp_path, told):
    data = table(tmp_path, 'image_id,class_name,x_min,y_min,x_max,y_max',
                 lambda number: f'i{number},mass,5,6,25,36' if number else 'i0,nothing,,,,', told)
    assert (data.classes, [len(picture.annotations) for picture in data.pictures]) == (['mass'], [0, 1, 1, 1])
    assert not data.problems


def test_words_that_may_be_classes(tmp_path, told):
    data = table(tmp_path, 'image,labels', lambda number: f'i{number}.jpg,{"scab rust" if number else "scab"}', told)
    assert data.classes == ['scab', 'scab rust']
    assert any("'scab rust' in the column labels is taken for one class" in line for line in told)


def test_columns_that_are_passed_by(tmp_path, told):
    """Where no column has a usual heading for the class, it may be among them."""
    row = 'i{0}.jpg,5,6,25,36,pug,80'.format
    assert table(tmp_path, 'path,x1,y1,x2,y2,breed,x', row, told).classes == ['object']
    assert any('train.csv these columns are passed by: breed, x, and all objects are of the class object: call the '
               'column of their classes label' in line for line in told)


def test_sizes_beside_image_width(tmp_path):
    """Those of the picture are its own, and no box's."""
    data = table(tmp_path, 'path,label,left,top,width,height,image_width,image_height',
                 'i{0}.jpg,a,5,6,20,30,40,30'.format)
    assert {(problem.kind, problem.said) for problem in data.problems} == {('size', (30, 40))}


class TestSplits:
    """Of a column of splits, and of files beside each other."""

    @staticmethod
    def read(folder, told=None, **tables):
        """Four pictures in a folder that tells no split, and tables of the given lines."""
        for number in range(4):
            own.picture(folder / 'pictures' / f'i{number}.jpg', HEIGHT, WIDTH)
        for name, lines in tables.items():
            (folder / f'{name}.csv').write_text('\n'.join(lines) + '\n')
        data = read_data(folder, tell=(told if told is not None else []).append)
        return data, [picture.split for picture in sorted(data.pictures, key=lambda picture: picture.path)]

    @pytest.mark.parametrize('row_splits', [('', 'val'), ('val', '')])
    def test_rows_with_and_without(self, row_splits, tmp_path):
        """No row is lost: a split that a later row tells is that of the picture."""
        data, splits = self.read(tmp_path, boxes=['path,label,x1,y1,x2,y2,split', *(
            f'i{number}.jpg,{name},1,1,{side},20,{split}' for number in range(4)
            for name, side, split in zip(('cat', 'dog'), (20, 30), row_splits))])
        assert [len(picture.annotations) for picture in data.pictures] == [2] * 4
        assert splits == ['val'] * 4
        assert not data.problems

    @pytest.mark.parametrize('name', ['all', 'zoo'])
    @pytest.mark.parametrize('box', ['', ',1,1,20,20'])
    def test_tables_of_all_and_of_splits(self, name, box, tmp_path, told):
        heading = 'path,label' + (',x1,y1,x2,y2' if box else '')
        data, splits = self.read(tmp_path, told, **{
            file: [heading, *(f'i{number}.jpg,a{box}' for number in numbers)]
            for file, numbers in ((name, '0123'), ('train', '012'), ('val', '3'))})
        assert splits == ['train'] * 3 + ['val']
        assert [len(picture.annotations) for picture in data.pictures] == [1 if box else 0] * 4
        assert any('4 objects stand both' in line for line in told) is bool(box)

    @pytest.mark.parametrize(('heading', 'train', 'val'), [
        ('split', 'train', 'evaluation'), ('subset', 'Training', 'Eval'), ('set', 'train', 'hold-out'),
        ('split', 'train', 'dev'), ('is_valid', 'False', 'True'), ('is_valid', '0', '1')])
    def test_words(self, heading, train, val, tmp_path, told):
        data, splits = self.read(tmp_path, told, labels=[f'path,label,{heading}', *(
            f'i{number}.jpg,a,{val if number == 3 else train}' for number in range(4))])
        assert splits == ['train'] * 3 + ['val']
        assert not data.problems
        assert any('is_valid of labels.csv is taken for the split' in line for line in told) is (heading == 'is_valid')

    def test_unknown_words(self, tmp_path, told):
        data, splits = self.read(tmp_path, told, labels=['path,label,split', *(
            f'i{number}.jpg,a,{"query" if number > 1 else "train"}' for number in range(4))])
        assert splits == ['train', 'train', None, None]
        assert [problem.kind for problem in data.problems] == ['no_split']
        assert any("line 4 of labels.csv has the split 'query', which is none of train, val, test, and is read as if "
                   'it had none (2 such lines)' in line for line in told)

    def test_is_valid_that_tells_something_else(self, tmp_path, told):
        _, splits = self.read(tmp_path, told, labels=['path,label,is_valid', *(
            f'i{number}.jpg,a,{"checked" if number else "1"}' for number in range(4))])
        assert splits == [None] * 4
        assert any('columns are passed by: is_valid.' in line for line in told)
