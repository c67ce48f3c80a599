"""What is written, read back by the libraries' own data sets and metrics."""

import json
import os

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from focalnet_mm.data.own import (
    OwnData,
    Picture,
    as_task,
    find_problems,
    fix_data,
    read_data,
    read_label_map,
    split_data,
    write_annotations,
)
from focalnet_mm.data.shapes import PALETTE, STUFF_CLASSES, THING_CLASSES
from tests.helpers import formats
from tests.helpers.folders import quiet
from tests.helpers.own import build

CLASSES = [*THING_CLASSES, *STUFF_CLASSES]


@pytest.mark.parametrize('task', ['instances', 'boxes'])
def test_objects(task, sources, tmp_path):
    (tmp_path / 'data').mkdir()
    formats.write_coco(sources, tmp_path / 'data')
    written = write_annotations(read_data(tmp_path / 'data', tell=quiet), tmp_path / 'out', task)
    assert {split: entry.pictures for split, entry in written.items()} == dict(train=6, val=4)
    by_name = {source.path.name: source for source in sources}
    for split, entry in written.items():
        dataset = build('mmdet', entry, metainfo=dict(classes=THING_CLASSES), test_mode=True)
        assert len(dataset) == entry.pictures
        for number in range(len(dataset)):
            info = dataset.get_data_info(number)
            source = by_name[os.path.basename(info['img_path'])]
            assert source.split == split
            assert os.path.isfile(info['img_path'])
            assert [instance['bbox'] for instance in info['instances']] == [list(item.box) for item in source.objects]
            assert [THING_CLASSES[instance['bbox_label']] for instance in info['instances']] == [
                item.name for item in source.objects]
        coco = COCO(entry.ann_file)
        for image in coco.loadImgs(coco.getImgIds()):
            entries = coco.loadAnns(coco.getAnnIds(image['id']))
            for found, item in zip(entries, by_name[os.path.basename(image['file_name'])].objects):
                if task == 'instances':
                    assert (coco.annToMask(found).astype(bool) == item.mask).all()
                    assert found['area'] == item.mask.sum()
                else:
                    assert 'segmentation' not in found


def test_panoptic(shapes, tmp_path):
    """The given segments and what is written of them: panopticapi finds a quality of 1."""
    from panopticapi.evaluation import pq_compute_single_core
    data = read_data(shapes / 'coco', tell=quiet)
    written = write_annotations(data, tmp_path / 'out')['val']
    dataset = build('mmdet', written, test_mode=True, metainfo=dict(
        classes=CLASSES, thing_classes=THING_CLASSES, stuff_classes=STUFF_CLASSES))
    assert all(os.path.isfile(dataset.get_data_info(number)[key]) for number in range(4)
               for key in ('img_path', 'seg_map_path'))
    given_folder = shapes / 'coco' / 'annotations' / 'panoptic_val2017'
    given, ours = (json.loads(path.read_text()) for path in (given_folder.with_suffix('.json'), written.ann_file))
    pairs = list(zip(given['annotations'], ours['annotations'], strict=True))
    quality, _ = pq_compute_single_core(
        0, pairs, str(given_folder), written.data_prefix['seg'],
        {category['id']: category for category in given['categories']}).pq_average(
            {category['id']: category for category in given['categories']}, None)
    assert quality['pq'] == 1
    assert [category['isthing'] for category in ours['categories']] == [1] * 5 + [0] * 4
    # mmdet's metric looks for the segments of a picture by its name alone.
    for number in range(4):
        name = os.path.basename(dataset.get_data_info(number)['img_path']).replace('.jpg', '.png')
        assert os.path.isfile(os.path.join(written.data_prefix['seg'], name))


def test_what_follows_from_panoptic(shapes, sources, tmp_path):
    data = read_data(shapes / 'coco', tell=quiet)
    boxes = as_task(data, 'boxes')
    assert (boxes.classes, data.classes) == (list(THING_CLASSES), CLASSES)
    written = write_annotations(data, tmp_path / 'boxes', 'boxes')['train']
    count = sum(len(source.objects) for source in sources if source.split == 'train')
    assert len(COCO(written.ann_file).anns) == count
    written = write_annotations(data, tmp_path / 'semantic', 'semantic')['val']
    dataset = build('mmseg', written, metainfo=dict(classes=CLASSES, palette=PALETTE))
    ade = shapes / 'ade' / 'ADEChallengeData2016' / 'annotations' / 'validation'
    for number, path in enumerate(sorted(ade.iterdir())):
        assert (loaded_map(dataset, number) == cv2.imread(str(path), cv2.IMREAD_UNCHANGED) - 1).all()
    with pytest.raises(ValueError, match='annotated for panoptic, from which labels does not follow: choose from'):
        as_task(data, 'labels')


def loaded_map(dataset, number):
    """As mmseg's own pipeline loads it."""
    from mmseg.datasets.transforms import LoadAnnotations
    return LoadAnnotations()(dataset.get_data_info(number))['gt_seg_map']


@pytest.mark.parametrize(('colours', 'ending', 'as_they_are'), [
    (None, '.png', True), (None, '.tif', True), (PALETTE, '.png', False)])
def test_label_maps(colours, ending, as_they_are, shapes, tmp_path):
    formats.write_labelmaps(shapes, tmp_path / 'data', colours, ending)
    data = read_data(tmp_path / 'data', tell=quiet)
    written = write_annotations(data, tmp_path / 'out')
    assert (tmp_path / 'out' / 'label_maps').exists() is not as_they_are
    pictures = {str(picture.path): picture for picture in data.pictures}
    for entry in written.values():
        dataset = build('mmseg', entry, metainfo=dict(classes=CLASSES, palette=PALETTE))
        assert len(dataset) == entry.pictures
        for number in range(len(dataset)):
            picture = pictures[dataset.get_data_info(number)['img_path']]
            expected = read_label_map(data, picture)
            assert (loaded_map(dataset, number) == np.where(expected < 0, 255, expected)).all()


def test_classes_and_labels(sources, tmp_path):
    formats.write_folders(sources, tmp_path / 'folders')
    data = read_data(tmp_path / 'folders', tell=quiet)
    written = write_annotations(data, tmp_path / 'classes')['train']
    dataset = build('mmpretrain', written, metainfo=dict(classes=data.classes))
    expected = {source.path.name: formats.largest(source) for source in sources if source.split == 'train'}
    found = [dataset.get_data_info(number) for number in range(len(dataset))]
    assert {os.path.basename(info['img_path']): data.classes[info['gt_label']] for info in found} == expected

    (tmp_path / 'csv').mkdir()
    formats.write_csv(sources, tmp_path / 'csv', 'labels')
    data = read_data(tmp_path / 'csv', tell=quiet)
    dataset = build('mmpretrain', write_annotations(data, tmp_path / 'labels')['train'])
    found = [dataset.get_data_info(number) for number in range(len(dataset))]
    assert list(dataset.metainfo['classes']) == data.classes
    labels = {os.path.basename(info['img_path']): {data.classes[label] for label in info['gt_label']} for info in found}
    assert labels == {
        source.path.name: {item.name for item in source.objects} for source in sources if source.split == 'train'}


class TestFolder:

    @pytest.fixture
    def data(self, sources, tmp_path):
        (tmp_path / 'data').mkdir()
        formats.write_coco(sources, tmp_path / 'data')
        return read_data(tmp_path / 'data', tell=quiet)

    def test_second_time(self, data, tmp_path):
        write_annotations(data, tmp_path / 'out')
        (tmp_path / 'out' / 'notes.txt').write_text('mine')
        data.pictures[0].annotations.clear()
        written = write_annotations(data, tmp_path / 'out')
        assert not COCO(written['train'].ann_file).getAnnIds(imgIds=[1])
        assert (tmp_path / 'out' / 'notes.txt').read_text() == 'mine'
        assert sorted(path.name for path in tmp_path.iterdir()) == ['data', 'out']

    def test_what_was_changed_stays(self, data, tmp_path):
        written = write_annotations(data, tmp_path / 'out')['train'].ann_file
        written.write_text('{"mine": 1}')
        with pytest.raises(FileExistsError, match=r'instances_train\.json was changed since it was written'):
            write_annotations(data, tmp_path / 'out')
        assert written.read_text() == '{"mine": 1}'

    def test_refusals(self, data, tmp_path):
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'data').rglob('*')}
        with pytest.raises(ValueError, match=r'lies in the folder of the data, .* to which nothing is written'):
            write_annotations(data, tmp_path / 'data' / 'out')
        (tmp_path / 'mine').mkdir()
        (tmp_path / 'mine' / 'thesis.tex').write_text('dear')
        with pytest.raises(FileExistsError, match='holds something else than annotations that were written here'):
            write_annotations(data, tmp_path / 'mine')
        for picture in data.pictures:
            picture.split = None
        with pytest.raises(ValueError, match='No picture has a split'):
            write_annotations(data, tmp_path / 'out')
        assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / 'data').rglob('*')}

    def test_whole_or_not_at_all(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(json, 'dumps', lambda content: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_annotations(data, tmp_path / 'out')
        assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_pictures_elsewhere(sources, tmp_path):
    """A list that names pictures of another folder: the root of the files lies above both."""
    (tmp_path / 'a' / 'b').mkdir(parents=True)
    (tmp_path / 'a' / 'data').mkdir()
    formats.write_yolo(sources, tmp_path / 'a' / 'b')
    yaml = (tmp_path / 'a' / 'b' / 'data.yaml').read_text().replace('path: .', 'path: ../b')
    (tmp_path / 'a' / 'data' / 'data.yaml').write_text(yaml)
    (tmp_path / 'a' / 'data' / 'one.jpg').write_bytes(sources[0].path.read_bytes())
    data = read_data(tmp_path / 'a' / 'data', tell=quiet)
    written = write_annotations(data, tmp_path / 'out')
    assert written['train'].data_root == tmp_path / 'a'
    dataset = build('mmdet', written['val'], metainfo=dict(classes=THING_CLASSES), test_mode=True)
    assert all(os.path.isfile(dataset.get_data_info(number)['img_path']) for number in range(4))


def test_names_that_no_list_can_hold(sources, tmp_path):
    for number, name in enumerate((b'caf\xe9.jpg', b'two words, and a comma.jpg', 'Größe.JPG'.encode())):
        for label in 'ab':
            folder = tmp_path / 'data' / label
            folder.mkdir(parents=True, exist_ok=True)
            target = os.path.join(os.fsencode(folder), name)
            with open(target, 'wb') as file:
                file.write(sources[2 * number + (label == 'b')].path.read_bytes())
    data = read_data(tmp_path / 'data', tell=quiet)
    split_data(data, val=0.5)
    with pytest.raises(ValueError, match=r'read names of pictures from lists, in which .*caf\\udce9\.jpg'):
        write_annotations(data, tmp_path / 'out')
    data.pictures = [picture for picture in data.pictures if 'caf' not in picture.path.name]
    written = write_annotations(data, tmp_path / 'out')
    for entry in written.values():
        dataset = build('mmpretrain', entry)
        assert all(os.path.isfile(dataset.get_data_info(number)['img_path']) for number in range(len(dataset)))
    # COCO's JSON holds any name.
    data = read_data(tmp_path / 'data', tell=quiet)
    data.task = 'boxes'
    for picture in data.pictures:
        picture.split = 'train'
    dataset = build('mmdet', write_annotations(data, tmp_path / 'boxes')['train'], metainfo=dict(classes=data.classes),
                        test_mode=True)
    assert sum(os.path.isfile(dataset.get_data_info(number)['img_path']) for number in range(6)) == 6


def test_too_many_classes(tmp_path):
    data = OwnData(tmp_path / 'data', 'labelmaps', 'semantic', [f'class {number}' for number in range(256)],
                   [Picture(tmp_path / 'data' / 'a.jpg', 4, 4, split='train')])
    with pytest.raises(ValueError, match='256 classes, but mmseg reads label maps in 8 bits, of at most 255'):
        write_annotations(data, tmp_path / 'out')


def test_unreadable_pictures_are_said(sources, tmp_path):
    (tmp_path / 'data').mkdir()
    formats.write_coco(sources, tmp_path / 'data')
    (tmp_path / 'data' / 'images' / sources[0].path.name).unlink()
    data = read_data(tmp_path / 'data', tell=quiet)
    with pytest.raises(ValueError, match=r'1 annotated pictures are not there .*--fix missing,unreadable'):
        write_annotations(data, tmp_path / 'out')
    find_problems(data)
    fix_data(data, ['missing'])
    assert write_annotations(data, tmp_path / 'out')['train'].pictures == 5
