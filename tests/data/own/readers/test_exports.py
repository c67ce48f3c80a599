"""Annotations as tools export them."""

import contextlib
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from focalnet_mm.data.own import (
    find_problems,
    fix_data,
    read_data,
    read_label_map,
    split_data,
    write_annotations,
)
from tests.helpers.folders import box_file, found, quiet, save


class TestLabelStudio:

    @staticmethod
    def export(folder, *urls):
        value = dict(x=0, y=0, width=50, height=50, rectanglelabels=['x'])
        result = dict(id='r', type='rectanglelabels', original_width=32, original_height=24, value=value)
        (folder / 'export.json').write_text(json.dumps([
            dict(id=number, data=dict(image=url), annotations=[dict(result=[result])])
            for number, url in enumerate(urls)]))

    def test_equal_names_in_a_bucket(self, tmp_path):
        """Each task means the picture whose path ends as its URL does."""
        for seed, name in enumerate(('a.jpg', 'sub/a.jpg')):
            save(tmp_path / name, seed)
        self.export(tmp_path, 's3://bucket/x/a.jpg', 's3://bucket/x/sub/a.jpg')
        data = read_data(tmp_path, tell=quiet)
        assert found(data) == {('a.jpg', None): 1, ('sub/a.jpg', None): 1}
        assert data.problems == []

    def test_names_that_the_server_changed(self, tmp_path):
        """Django's own example of a name that it changes (get_valid_filename)."""
        save(tmp_path / "pictures/john's portrait in 2004.jpg")
        self.export(tmp_path, '/data/upload/8/5ab31f0e-johns_portrait_in_2004.jpg')
        data = read_data(tmp_path, tell=quiet)
        assert [picture.path.name for picture in data.pictures] == ["john's portrait in 2004.jpg"]
        assert data.problems == []


class TestLabelMaps:

    @pytest.mark.parametrize('ignored', [False, True])
    @pytest.mark.parametrize('value', [1, 7, 255])
    def test_one_listed_class(self, value, ignored, tmp_path, told):
        """The object is where the mask is not 0, and the rest is background, which is learned too."""
        mask = np.random.default_rng(0).choice([0, value], size=(24, 32)).astype(np.uint8)
        if ignored and value != 255:
            mask[0] = 255
        save(tmp_path / 'images/a.jpg')
        (tmp_path / 'masks').mkdir()
        Image.fromarray(mask).save(tmp_path / 'masks/a.png')
        (tmp_path / 'classes.txt').write_text('crack\n')
        data = read_data(tmp_path, tell=told.append)
        assert data.classes == ['background', 'crack']
        expected = np.where(mask == value, 1, np.where(mask == 0, 0, -1))
        assert (read_label_map(data, data.pictures[0]) == expected).all()
        assert any('names crack alone' in line for line in told)

    @pytest.mark.parametrize(('values', 'names'), [((0, 255), None), ((0, 255), ['none', 'crack']), ((0, 1), ['crack']),
                                                   ((0, 1, 2), ['a', 'b', 'c'])])
    def test_greys_in_three_channels(self, values, names, tmp_path):
        """Read as the same values in one channel are."""
        mask = np.random.default_rng(0).choice(values, size=(24, 32)).astype(np.uint8)
        maps = []
        for folder, channels in (('grey', mask), ('rgb', np.repeat(mask[..., None], 3, 2))):
            save(tmp_path / folder / 'images/a.jpg')
            (tmp_path / folder / 'masks').mkdir()
            Image.fromarray(channels).save(tmp_path / folder / 'masks/a.png')
            if names:
                (tmp_path / folder / 'classes.txt').write_text('\n'.join(names))
            data = read_data(tmp_path / folder, tell=quiet)
            maps.append((data.classes, read_label_map(data, data.pictures[0]).tolist()))
        assert maps[0] == maps[1]
        assert maps[0][1] == np.searchsorted(values, mask).tolist()

    @pytest.mark.parametrize(('name', 'text'), [
        ('_classes.csv', 'Pixel Value, Class\n0, background\n1, car\n2, road\n'),
        ('class_names.txt', 'background\ncar\nroad\n')])
    def test_lists_of_tools(self, name, text, tmp_path):
        """Roboflow's semantic masks, and the list of labelme2voc."""
        mask = np.arange(24 * 32).reshape(24, 32) % 3
        save(tmp_path / 'train/a_jpg.rf.0123.jpg')
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / 'train/a_jpg.rf.0123_mask.png')
        (tmp_path / 'train' / name).write_text(text)
        data = read_data(tmp_path, tell=quiet)
        assert (data.format, data.classes) == ('labelmaps', ['background', 'car', 'road'])
        assert (read_label_map(data, data.pictures[0]) == mask).all()


    def test_isic(self, tmp_path):
        """The names of the ISIC archive's challenges."""
        for folder in ('ISIC2018_Task1-2_Training_Input', 'ISIC2018_Task1_Training_GroundTruth'):
            (tmp_path / folder).mkdir()
        save(tmp_path / 'ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg')
        mask = np.random.default_rng(0).choice([0, 255], size=(24, 32)).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / 'ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png')
        data = read_data(tmp_path, tell=quiet)
        assert (data.format, len(data.pictures)) == ('labelmaps', 1)
        assert (read_label_map(data, data.pictures[0]) == mask // 255).all()

    @pytest.mark.parametrize('name', ['a', 'a ', 'a (1) '])
    def test_a_blank_before_the_ending(self, name, tmp_path):
        """mmseg takes the blanks off a line, and puts the ending behind it (BaseSegDataset.load_data_list)."""
        for seed, stem in enumerate((name, 'b')):
            save(tmp_path / f'set/images/{stem}.jpg', seed)
            (tmp_path / 'set/masks').mkdir(exist_ok=True)
            Image.fromarray(np.eye(24, 32, dtype=np.uint8)).save(tmp_path / f'set/masks/{stem}.png')
        data = read_data(tmp_path / 'set', tell=quiet)
        split_data(data)
        for written in write_annotations(data, tmp_path / 'out').values():
            for line in written.ann_file.read_text().splitlines():
                for kind, ending in (('img_path', 'img_suffix'), ('seg_map_path', 'seg_map_suffix')):
                    folder = written.data_root / written.data_prefix[kind]
                    assert (folder / (line.strip() + written.settings[ending])).is_file()


class TestYolo:

    @pytest.mark.parametrize('place', ['/content/ds/images/{}', 'C:\\Users\\me\\ds\\images\\{}', '../images/{}'])
    def test_paths_of_another_machine(self, place, tmp_path, told):
        for seed, split in enumerate(('train', 'val')):
            save(tmp_path / f'set/images/{split}/{split}.jpg', seed)
            box_file(tmp_path / f'set/labels/{split}/{split}.txt')
        (tmp_path / 'set/data.yaml').write_text(json.dumps(dict(
            path='/content/ds', names=['x'], train=place.format('train'), val=place.format('val'))))
        data = read_data(tmp_path / 'set', tell=told.append)
        assert found(data) == {('images/train/train.jpg', 'train'): 1, ('images/val/val.jpg', 'val'): 1}

    def test_another_split_is_not_taken(self, tmp_path, told):
        save(tmp_path / 'train/images/a.jpg')
        box_file(tmp_path / 'train/labels/a.txt')
        (tmp_path / 'data.yaml').write_text('names: [x]\ntrain: ../train/images\nval: ../valid/images\n')
        data = read_data(tmp_path, tell=told.append)
        assert found(data) == {('train/images/a.jpg', 'train'): 1}
        assert [problem.kind for problem in data.problems] == ['missing']
        assert '../valid/images, the val pictures of data.yaml, is not there' in data.problems[0].text

    def test_a_list_in_each_folder(self, tmp_path):
        """LabelImg's."""
        for seed, split in enumerate(('train', 'val')):
            save(tmp_path / f'{split}/{split}.jpg', seed)
            box_file(tmp_path / f'{split}/{split}.txt')
            (tmp_path / split / 'classes.txt').write_text('x\ny\n')
        assert found(read_data(tmp_path, tell=quiet)) == {('train/train.jpg', 'train'): 1, ('val/val.jpg', 'val'): 1}
        (tmp_path / 'val/classes.txt').write_text('y\nx\n')
        with pytest.raises(ValueError, match='holds 2 lists of YOLO classes'):
            read_data(tmp_path, tell=quiet)

    def test_two_sets_of_equal_words(self, tmp_path):
        """Neither is passed by."""
        for name in ('a', 'b'):
            save(tmp_path / f'{name}/images/{name}.jpg')
            box_file(tmp_path / f'{name}/labels/{name}.txt')
            (tmp_path / f'{name}/data.yaml').write_text('names: [x]\ntrain: images\n')
        with pytest.raises(ValueError, match=r'holds 2 lists of YOLO classes, data\.yaml and b/data\.yaml among them'):
            read_data(tmp_path, tell=quiet)

    def test_labels_of_no_picture(self, tmp_path):
        save(tmp_path / 'images/a.jpg')
        for name in ('a', 'gone'):
            box_file(tmp_path / f'labels/{name}.txt')
        (tmp_path / 'data.yaml').write_text('names: [x]\n')
        problem, = read_data(tmp_path, tell=quiet).problems
        assert (problem.kind, problem.done) == ('missing', 'left out')
        assert 'labels/gone.txt annotates a picture that is not there' in problem.text

    def test_labels_in_another_folder(self, tmp_path):
        save(tmp_path / 'images/a.jpg')
        box_file(tmp_path / 'label/a.txt')
        (tmp_path / 'data.yaml').write_text('names: [x]\n')
        with pytest.raises(ValueError, match=r'holds no object: .* label files belong into labels beside images'):
            read_data(tmp_path, tell=quiet)


class TestVoc:

    @staticmethod
    def xml(path, filename):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'<annotation><filename>{filename}</filename><object><name>{path.stem}</name><bndbox><xmin>2'
                        '</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>')

    def test_a_file_that_was_copied(self, tmp_path):
        """The challenge, and mmdet's XMLDataset, go by the name of the XML."""
        for seed, name in enumerate('abc'):
            save(tmp_path / f'images/{name}.jpg', seed)
            self.xml(tmp_path / f'annotations/{name}.xml', 'c.jpg' if name == 'c' else 'a.jpg')
        data = read_data(tmp_path, tell=quiet)
        assert {picture.path.stem: [data.classes[each.label] for each in picture.annotations]
                for picture in data.pictures} == dict(a=['a'], b=['b'], c=['c'])
        assert [problem.kind for problem in data.problems] == ['moved']

    def test_two_files_that_name_pictures_that_are_gone(self, tmp_path):
        for seed, name in enumerate('ab'):
            save(tmp_path / f'images/{name}.jpg', seed)
            self.xml(tmp_path / f'annotations/{name}.xml', 'gone.jpg')
        data = read_data(tmp_path, tell=quiet)
        assert set(found(data).values()) == {1}
        assert {problem.text.partition(' is')[0] for problem in data.problems} == {'gone.jpg'}

    def test_parallel_folders(self, tmp_path):
        for seed, name in enumerate(('dog/1', 'cat/1')):
            save(tmp_path / f'images/{name}.jpg', seed)
            self.xml(tmp_path / f'annotations/{name}.xml', '1.jpg')
        data = read_data(tmp_path, tell=quiet)
        assert found(data) == {('images/cat/1.jpg', None): 1, ('images/dog/1.jpg', None): 1}
        assert data.problems == []


@pytest.mark.parametrize('stem', ['shot{}x', 'IMG_{}'])
def test_what_roboflow_made_of_one_picture_stays_on_one_side(stem, tmp_path):
    """Turned and mirrored copies look like none of the others; their names tell."""
    for number in range(30):
        digest = f'{number * 7919:032x}'
        save(tmp_path / f'train/{stem.format(number // 3)}_jpg.rf.{digest}.jpg', number)
    (tmp_path / 'train/_annotations.csv').write_text('filename,class,xmin,ymin,xmax,ymax\n' + ''.join(
        f'{path.name},x,1,1,9,9\n' for path in sorted((tmp_path / 'train').glob('*.jpg'))))
    data = read_data(tmp_path, tell=quiet)
    split_data(data)
    sides = {}
    for picture in data.pictures:
        sides.setdefault(picture.path.name.rsplit('.rf.')[0], set()).add(picture.split)
    assert len(sides) == 10
    assert {len(side) for side in sides.values()} == {1}
    assert set.union(*sides.values()) == {'train', 'val'}
    find_problems(data)
    assert not any(problem.kind == 'groups' for problem in data.problems)


@pytest.mark.parametrize('lines', [None, '0 none\n127 a\n255 b\n', 'none\na\n'])
def test_what_becomes_of_255(lines, tmp_path, told):
    """It is a class where a list numbers it; else it is none, and that is said."""
    mask = np.random.default_rng(0).choice([0, 127 if lines != 'none\na\n' else 1, 255], size=(24, 32)).astype(np.uint8)
    save(tmp_path / 'images/a.jpg')
    (tmp_path / 'masks').mkdir()
    Image.fromarray(mask).save(tmp_path / 'masks/a.png')
    if lines:
        (tmp_path / 'classes.txt').write_text(lines)
    data = read_data(tmp_path, tell=told.append)
    is_class = (read_label_map(data, data.pictures[0])[mask == 255] == 2).all()
    assert is_class == (lines is not None and '255' in lines)
    assert any('255 of the label maps is taken for no class' in line for line in told) != is_class


def test_what_the_libraries_cannot_load(tmp_path):
    """OpenCV, which mmcv loads pictures with, is asked itself."""
    for mode in ('L', 'RGB', 'CMYK', 'I', 'F', 'P'):
        for ending in ('tif', 'jpg', 'png'):
            path = tmp_path / f'a/{mode}.{ending}'
            path.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):
                Image.fromarray(np.eye(24, 32) * 255).convert(mode).save(path)
    # An ending that tells another form than the content has.
    Image.new('RGB', (32, 24)).save(tmp_path / 'a/icon.jpg', format='ICO')
    data = read_data(tmp_path, tell=quiet)
    find_problems(data)
    refused = {picture.path for picture in data.pictures if cv2.imread(str(picture.path)) is None}
    found = {problem.picture for problem in data.problems if problem.kind in ('unloadable', 'unreadable', 'damaged')}
    assert refused == found
    assert 'icon.jpg' in {path.name for path in refused}
    fix_data(data, ['unloadable', 'unreadable', 'damaged'])
    assert not refused & {picture.path for picture in data.pictures}


@pytest.mark.parametrize(('form', 'size', 'kinds'), [
    *((form, size, []) for form in ('coco', 'voc', 'cvat')
      for size in (('24', '32'), ('24.0', '32.0'), ('0', '0'), ('nan', '32'), ('', ''))),
    *((form, ('48', '64'), ['size']) for form in ('coco', 'voc', 'cvat'))])
def test_sizes_in_words(form, size, kinds, tmp_path):
    """Texts of numbers are numbers, and what is none says nothing of the picture of 32 × 24."""
    save(tmp_path / 'a.jpg')
    height, width = size
    if form == 'coco':
        (tmp_path / 'a.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name='a.jpg', height=height, width=width)], categories=[dict(id=1, name='x')],
            annotations=[dict(id=1, image_id=1, category_id=1, bbox=[2, 2, 8, 8])])))
    elif form == 'voc':
        TestVoc.xml(tmp_path / 'a.xml', 'a.jpg')
        text = (tmp_path / 'a.xml').read_text()
        (tmp_path / 'a.xml').write_text(text.replace(
            '<object>', f'<size><height>{height}</height><width>{width}</width></size><object>'))
    else:
        (tmp_path / 'a.xml').write_text(
            f'<annotations><image id="0" name="a.jpg" width="{width}" height="{height}">'
            '<box label="x" xtl="2" ytl="2" xbr="10" ybr="10"/></image></annotations>')
    data = read_data(tmp_path, tell=quiet)
    assert [problem.kind for problem in data.problems] == kinds
    fix_data(data, ['size'])
    (_, _, right, bottom), = (annotation.box for picture in data.pictures for annotation in picture.annotations)
    # VOC's last pixel belongs to the box.
    whole = (9, 9) if form == 'voc' else (10, 10)
    assert (right, bottom) == (tuple(side / 2 for side in whole) if kinds else whole)
