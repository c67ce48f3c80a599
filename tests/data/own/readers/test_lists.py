"""What lists beside annotations tell: splits, colours of classes, and files that belong together."""

import json

import numpy as np
import pytest
from PIL import Image

from focalnet_mm.data.own import find_problems, read_data, read_label_map, write_annotations
from tests.helpers.folders import box_file, quiet, save


def splits(data):
    return {picture.path.stem: picture.split for picture in data.pictures}


@pytest.mark.parametrize('ending', ['', '.jpg'])
@pytest.mark.parametrize('name', ['val', 'valid', 'validation'])
def test_lists_of_voc(name, ending, tmp_path):
    for number in range(6):
        save(tmp_path / f'JPEGImages/{number}.jpg', number)
        box_file(tmp_path / f'Annotations/{number}.xml', (
            f'<annotation><filename>{number}.jpg</filename><object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin>'
            '<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>'))
    lists = tmp_path / 'ImageSets/Main'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text(''.join(f'{number}{ending}\n' for number in range(4)))
    (lists / f'{name}.txt').write_text(f'4{ending}\n5{ending}\n')
    assert splits(read_data(tmp_path, tell=quiet)) == dict(zip('012345', ['train'] * 4 + ['val'] * 2))


@pytest.mark.parametrize('before', ['data/obj_train_data/', 'obj_train_data/'])
def test_lists_of_darknet(before, tmp_path):
    """As CVAT's "YOLO 1.1" has them; what no list names is passed by."""
    for number in range(7):
        save(tmp_path / f'obj_train_data/{number}.jpg', number)
        (tmp_path / f'obj_train_data/{number}.txt').write_text('0 0.5 0.5 0.5 0.5\n')
    (tmp_path / 'obj.names').write_text('cat\n')
    (tmp_path / 'train.txt').write_text(''.join(f'{before}{number}.jpg\n' for number in range(4)))
    (tmp_path / 'valid.txt').write_text(f'{before}4.jpg\n{before}5.jpg\n')
    told = []
    data = read_data(tmp_path, tell=told.append)
    assert splits(data) == dict(zip('012345', ['train'] * 4 + ['val'] * 2))
    assert data.problems == []
    assert any('6.jpg' in line and 'passed by' in line for line in told)


COLOURS = dict(background=(0, 0, 0), cat=(255, 0, 0), dog=(0, 255, 0))


def test_several_lists_of_a_split(tmp_path):
    """As of two CVAT tasks side by side: all of them count."""
    (tmp_path / 'obj.names').write_text('cat\n')
    for task in 'ab':
        save(tmp_path / task / f'obj_train_data/{task}.jpg', ord(task))
        (tmp_path / task / f'obj_train_data/{task}.txt').write_text('0 0.5 0.5 0.5 0.5\n')
        (tmp_path / task / 'train.txt').write_text(f'data/obj_train_data/{task}.jpg\n')
    assert splits(read_data(tmp_path, tell=quiet)) == dict(a='train', b='train')


class TestPalettes:

    def write(self, folder, orders):
        """Maps of a palette each, whose colours stand in these orders; returns what class each pixel has."""
        truth = np.zeros((12, 16), int)
        truth[2:5, 2:9], truth[7:10, 3:8] = 1, 2
        colours = list(COLOURS.values())
        for number, order in enumerate(orders):
            save(folder / f'images/{number}.jpg', number, size=(16, 12))
            image = Image.fromarray(np.argsort(order)[truth].astype(np.uint8), 'P')
            image.putpalette([value for place in order for value in colours[place]])
            (folder / 'masks').mkdir(exist_ok=True)
            image.save(folder / f'masks/{number}.png')
        (folder / 'labelmap.txt').write_text(''.join(
            f'{name}:{",".join(map(str, colour))}::\n' for name, colour in COLOURS.items()))
        return truth

    @pytest.mark.parametrize('orders', [[(0, 1, 2)] * 3, [(2, 1, 0)] * 3, [(0, 1, 2), (1, 2, 0), (2, 0, 1)]])
    def test_colours_that_were_numbered_anew(self, orders, tmp_path):
        """The list says colours, so they count, whatever numbers an optimiser of PNGs gave them."""
        truth = self.write(tmp_path / 'data', orders)
        data = read_data(tmp_path / 'data', tell=quiet)
        find_problems(data)
        assert data.classes == list(COLOURS)
        assert data.problems == [problem for problem in data.problems if problem.kind == 'no_split']
        for picture in data.pictures:
            picture.split = 'train'
            np.testing.assert_array_equal(read_label_map(data, picture), truth)
        written = write_annotations(data, tmp_path / 'out')['train']
        if orders[0] != (0, 1, 2):
            maps = sorted((tmp_path / 'out').rglob('*.png'))
            assert len(maps) == len(orders)
            assert all((np.asarray(Image.open(path)) == truth).all() for path in maps)
        else:
            assert written.ann_file.is_file()

    def test_a_palette_of_other_colours(self, tmp_path):
        """Numbers count where the palette has nothing of the list."""
        truth = self.write(tmp_path, [(0, 1, 2)] * 2)
        for path in (tmp_path / 'masks').iterdir():
            image = Image.open(path)
            image.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7])
            image.save(path)
        data = read_data(tmp_path, tell=quiet)
        np.testing.assert_array_equal(read_label_map(data, data.pictures[0]), truth)


class TestCoco:

    @staticmethod
    def content(name='cat', image=int, category=int):
        images = [dict(id=i, file_name=f'{i}.jpg', height=24, width=32) for i in range(3)]
        objects = [dict(id=i, image_id=image(i), category_id=category(7), bbox=[i, 2, 9, 9], area=81, iscrowd=0)
                   for i in range(3)]
        return dict(images=images, annotations=objects, categories=[dict(id=7, name=name)])

    @pytest.mark.parametrize('kind', [str, float])
    def test_ids_of_another_type(self, kind, tmp_path):
        for i in range(3):
            save(tmp_path / f'{i}.jpg', i)
        for numbers in (dict(image=kind), dict(category=kind)):
            (tmp_path / 'a.json').write_text(json.dumps(self.content(**numbers)))
            data = read_data(tmp_path, tell=quiet)
            assert [len(picture.annotations) for picture in data.pictures] == [1, 1, 1]
            assert data.problems == []

    def test_a_file_for_each_class(self, tmp_path):
        """Both count; a file of the same classes still is passed by."""
        for i in range(3):
            save(tmp_path / f'{i}.jpg', i)
        for name in ('cat', 'dog'):
            (tmp_path / f'{name}s.json').write_text(json.dumps(self.content(name)))
        told = []
        data = read_data(tmp_path, tell=told.append)
        assert data.classes == ['cat', 'dog']
        assert [[item.label for item in picture.annotations] for picture in data.pictures] == [[0, 1]] * 3
        assert not any('passed by' in line for line in told)
        assert any('no class in common: both are read' in line for line in told)
        (tmp_path / 'again.json').write_text(json.dumps(self.content('cat')))
        data = read_data(tmp_path, tell=told.append)
        assert [len(picture.annotations) for picture in data.pictures] == [2, 2, 2]
        assert any('passed by' in line for line in told)
