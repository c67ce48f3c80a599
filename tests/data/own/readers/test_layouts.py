"""What tools write around annotations: lists of splits, projects, classes of what has no area."""

import json

import numpy as np
import pytest
from PIL import Image

from focalnet_mm.data.own import read_data
from tests.helpers import own

HEIGHT, WIDTH = 60, 80
POINTS = [[5, 6], [40, 6], [40, 50]]


def voc_devkit(folder):
    """Eight pictures in VOC's own layout; boxes and maps are split in opposite ways."""
    names = [f'2007 {number}' for number in range(8)]
    for kind, order in (('Main', ('train', 'val')), ('Segmentation', ('val', 'train'))):
        (folder / 'ImageSets' / kind).mkdir(parents=True)
        for split, chosen in zip(order, (names[:4], names[4:])):
            (folder / 'ImageSets' / kind / f'{split}.txt').write_text('\n'.join(chosen))
    (folder / 'ImageSets/Main/boat_val.txt').write_text('\n'.join(f'{name}  1' for name in names))
    (folder / 'Annotations').mkdir()
    for number, name in enumerate(names):
        own.picture(folder / 'JPEGImages' / f'{name}.jpg', HEIGHT, WIDTH)
        for kind in ('Class', 'Object'):
            (folder / f'Segmentation{kind}').mkdir(exist_ok=True)
            values = np.zeros((HEIGHT, WIDTH), np.uint8)
            values[:9] = 1 if kind == 'Object' else 1 + number % 2
            Image.fromarray(values).save(folder / f'Segmentation{kind}' / f'{name}.png')
        (folder / 'Annotations' / f'{name}.xml').write_text(
            f'<annotation><filename>{name}.jpg</filename><object><name>boat</name><bndbox><xmin>1</xmin><ymin>1</ymin>'
            '<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>')
    return names


@pytest.mark.parametrize(('format', 'train'), [('voc', slice(4)), ('labelmaps', slice(4, 8))])
def test_voc_with_maps(format, train, tmp_path):
    names = voc_devkit(tmp_path)
    data = read_data(tmp_path, format, tell=lambda line: None)
    # Maps of objects are neither pictures nor maps of classes.
    assert sorted(picture.path.stem for picture in data.pictures) == names
    assert sorted(picture.path.stem for picture in data.pictures if picture.split == 'train') == names[train]
    if format == 'labelmaps':
        assert {picture.label_map.parent.name for picture in data.pictures} == {'SegmentationClass'}


def test_voc_in_folders(tmp_path):
    """As CVAT lists pictures of subsets that are called alike."""
    (tmp_path / 'ImageSets/Main').mkdir(parents=True)
    for folder, split in (('a', 'train'), ('b', 'val')):
        (tmp_path / f'ImageSets/Main/{split}.txt').write_text(f'{folder}/0\n{folder}/1\n')
        (tmp_path / 'Annotations' / folder).mkdir(parents=True)
        for number in range(2):
            own.picture(tmp_path / 'JPEGImages' / folder / f'{number}.jpg', HEIGHT, WIDTH)
            (tmp_path / 'Annotations' / folder / f'{number}.xml').write_text(
                f'<annotation><filename>{folder}/{number}.jpg</filename><object><name>c</name><bndbox><xmin>1</xmin>'
                '<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>')
    data = read_data(tmp_path, tell=lambda line: None)
    assert {(picture.path.parent.name, picture.split) for picture in data.pictures} == {('a', 'train'), ('b', 'val')}


@pytest.mark.parametrize(('written', 'classes'), [
    ('names: [yes, no]', ['yes', 'no']), ('names: {0: on, 1: 1_0}', ['on', '1_0']), ('names: [007, ~]', ['007', '~']),
    ('nc: 2', ['class_0', 'class_1'])])
def test_names_of_yolo(written, classes, tmp_path):
    own.picture(tmp_path / 'images' / 'a.jpg', HEIGHT, WIDTH)
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels' / 'a.txt').write_text('1 0.5 0.5 0.2 0.3\n')
    (tmp_path / 'data.yaml').write_text(f'train: images\n{written}\n')
    data = read_data(tmp_path, tell=lambda line: None)
    assert (data.classes, data.pictures[0].annotations[0].label) == (classes, 1)


def test_the_project_of_roboflow(tmp_path, told):
    for split in ('train', 'valid'):
        own.picture(tmp_path / split / f'{split}.jpg', HEIGHT, WIDTH)
        categories = [dict(id=0, name='ships', supercategory='none'), dict(id=1, name='ferry', supercategory='ships')]
        (tmp_path / split / '_annotations.coco.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name=f'{split}.jpg', height=HEIGHT, width=WIDTH)], categories=categories,
            annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 30, 40])])))
    data = read_data(tmp_path, tell=told.append)
    assert (data.classes, {each.label for picture in data.pictures for each in picture.annotations}) == (['ferry'], {0})
    assert sum("The category 'ships' is passed by" in line for line in told) == 1


def labelstudio(folder, *results):
    own.picture(folder / 'a.jpg', HEIGHT, WIDTH)
    results = [dict(id='x', original_height=HEIGHT, original_width=WIDTH, **result) for result in results]
    (folder / 'tasks.json').write_text(json.dumps([dict(id=1, data=dict(image='a.jpg'), annotations=[
        dict(result=results)])]))
    return read_data(folder, tell=lambda line: None)


@pytest.mark.parametrize(('kind', 'value', 'box'), [
    ('rectangle', dict(x=10, y=10, width=30, height=40), (8, 6, 32, 30)),
    ('polygon', dict(points=[[10, 10], [50, 10], [50, 50]]), (8, 6, 40, 30)),
    ('ellipse', dict(x=50, y=50, radiusX=25, radiusY=50), (20, 0, 60, 60))])
def test_classes_apart_from_shapes(kind, value, box, tmp_path):
    """The tag Labels, and remarks about a shape."""
    data = labelstudio(tmp_path, dict(type=kind, value=value), dict(type='labels', value=dict(value, labels=['boat'])),
                       dict(type='textarea', value=dict(value, text=['torn'])))
    annotation, = data.pictures[0].annotations
    assert annotation.box == pytest.approx(box)
    assert (data.classes, data.problems) == (['boat'], [])


@pytest.mark.parametrize('form', ['labelme', 'cvat'])
def test_classes_of_points_and_lines(form, tmp_path):
    own.picture(tmp_path / 'a.jpg', HEIGHT, WIDTH)
    if form == 'labelme':
        shapes = [dict(label='dot', shape_type='point', points=[[1, 1]]), dict(label='boat', points=POINTS)]
        (tmp_path / 'a.json').write_text(json.dumps(dict(imagePath='a.jpg', shapes=shapes)))
    else:
        labels = ''.join(f'<label><name>{name}</name>{more}</label>' for name, more in (
            ('hull', '<type>polygon</type>'), ('boat', '<type>any</type>'), ('man', '<type>skeleton</type>'),
            ('1', '<type>points</type><parent>man</parent>'), ('way', '<type>polyline</type>')))
        (tmp_path / 'a.xml').write_text(
            f'<annotations><meta><task><labels>{labels}</labels></task></meta><image id="0" name="a.jpg"><polygon '
            'label="boat" points="5,6;40,6;40,50"/><polyline label="way" points="5,6;40,6"/></image></annotations>')
    data = read_data(tmp_path, tell=lambda line: None)
    # A list of classes keeps those that nothing is of.
    assert data.classes == (['boat'] if form == 'labelme' else ['hull', 'boat'])
    assert data.classes[data.pictures[0].annotations[0].label] == 'boat'
    assert [problem.kind for problem in data.problems] == ['malformed']


@pytest.mark.parametrize(('name', 'content', 'said'), [
    ('0.json', '{"shapes": "船"}'.encode('gbk'), '0.json is no JSON in UTF-8'),
    ('min.json', json.dumps([dict(image='a.jpg', id=1, annotator=1, annotation_id=1)]).encode(),
     "min.json is Label Studio's JSON-MIN: export as JSON"),
    ('a.txt', b'0 0.5 0.5 0.1 0.1\n', "a.txt looks like YOLO's, without a list of classes"),
    ('list.csv', b'a.jpg,5,6,20,30,boat\n', 'list.csv has other headings')])
def test_what_annotations_seem_to_be(name, content, said, tmp_path):
    own.picture(tmp_path / 'a.jpg', HEIGHT, WIDTH)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_data(tmp_path, tell=lambda line: None)


@pytest.mark.parametrize('odd', [None, 'x', 3, []])
@pytest.mark.parametrize('form', ['images', 'annotations', 'categories', 'shapes', 'tasks'])
def test_entries_that_are_no_objects(form, odd, tmp_path):
    """One odd entry costs itself alone, and is said."""
    own.picture(tmp_path / 'a.jpg', HEIGHT, WIDTH)
    if form == 'shapes':
        content = dict(imagePath='a.jpg', shapes=[dict(label='a', points=POINTS), odd])
    elif form == 'tasks':
        labelstudio(tmp_path, dict(type='polygonlabels', value=dict(points=POINTS, polygonlabels=['a'])))
        content = [*json.loads((tmp_path / 'tasks.json').read_text()), odd]
        (tmp_path / 'tasks.json').unlink()
    else:
        content = dict(images=[dict(id=1, file_name='a.jpg')], categories=[dict(id=1, name='a')],
                       annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 30, 40])])
        content[form].append(odd)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    data = read_data(tmp_path, tell=lambda line: None)
    assert (data.classes, len(data.pictures[0].annotations)) == (['a'], 1)
    assert [problem.kind for problem in data.problems] == ['malformed']


def test_what_is_not_as_the_form_has_it(tmp_path):
    own.picture(tmp_path / 'a.jpg', HEIGHT, WIDTH)
    (tmp_path / 'a.json').write_text(json.dumps(dict(
        images=[dict(id=[1], file_name='a.jpg')], categories=[dict(id=1, name='a')],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 30, 40])])))
    with pytest.raises(ValueError, match=r'not as the form coco has them .*: export them anew, or mend the entry'):
        read_data(tmp_path, tell=lambda line: None)
