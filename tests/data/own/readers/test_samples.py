"""Real photos of COCO and ADE20K."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from focalnet_mm.data.own import as_task, find_problems, read_data, read_label_map, split_data, write_annotations
from tests.helpers.folders import quiet


def test_coco_objects(coco_samples, tmp_path):
    """Crowds, parts, run lengths: after reading and writing, pycocotools finds what it finds in COCO's own file."""
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'val2017').symlink_to(coco_samples / 'val2017')
    given_file = coco_samples / 'annotations' / 'instances_val2017.json'
    (tmp_path / 'data' / given_file.name).symlink_to(given_file)
    data = read_data(tmp_path / 'data', tell=quiet)
    find_problems(data)
    assert not {problem.kind for problem in data.problems} - {'unused_class', 'tiny', 'one_part'}
    given = COCO(given_file)
    assert data.classes == [category['name'] for category in given.loadCats(given.getCatIds())]
    written = COCO(write_annotations(data, tmp_path / 'out')['val'].ann_file)
    assert len(written.anns) == len(given.anns) > 20
    ids = {image['file_name']: image['id'] for image in given.loadImgs(given.getImgIds())}
    for image in written.loadImgs(written.getImgIds()):
        expected = given.loadAnns(given.getAnnIds(ids[image['file_name'].split('/')[-1]]))
        for entry, other in zip(written.loadAnns(written.getAnnIds(image['id'])), expected, strict=True):
            assert written.cats[entry['category_id']]['name'] == given.cats[other['category_id']]['name']
            assert entry['bbox'] == pytest.approx(other['bbox'])
            assert entry['iscrowd'] == other['iscrowd']
            assert (written.annToMask(entry) == given.annToMask(other)).all()


def test_coco_panoptic(coco_samples, tmp_path):
    data = read_data(coco_samples, tell=quiet)
    content = json.loads((coco_samples / 'annotations' / 'panoptic_val2017.json').read_text())
    assert Counter(len(picture.annotations) for picture in data.pictures) == Counter(
        len(entry['segments_info']) for entry in content['annotations'])
    by_name = {picture.path.stem: picture for picture in data.pictures}
    for entry in content['annotations']:
        things = {category['id']: category['name'] for category in content['categories']}
        for annotation, segment in zip(by_name[entry['file_name'][:-4]].annotations, entry['segments_info']):
            assert data.classes[annotation.label] == things[segment['category_id']]
            x, y, width, height = segment['bbox']
            assert annotation.box == (x, y, x + width, y + height)
            assert annotation.crowd == bool(segment['iscrowd'])
    assert len(as_task(data, 'boxes').classes) == sum(category['isthing'] for category in content['categories']) == 80


def test_ade(ade_samples, tmp_path):
    (tmp_path / 'data').mkdir()
    for name in ('images', 'annotations'):
        (tmp_path / 'data' / name).symlink_to(ade_samples / name)
    (tmp_path / 'data' / 'classes.txt').write_text('\n'.join(f'{number} class {number}' for number in range(1, 151)))
    data = read_data(tmp_path / 'data', tell=quiet)
    assert (data.task, len(data.classes), len(data.pictures)) == ('semantic', 150, 3)
    for picture in data.pictures:
        given = np.asarray(Image.open(ade_samples / 'annotations' / 'validation' / f'{picture.path.stem}.png'))
        assert (read_label_map(data, picture) == given.astype(int) - 1).all()
    split_data(data, val=0.3)
    assert sorted(picture.split for picture in data.pictures) == ['train', 'train', 'val']
    written = write_annotations(data, tmp_path / 'out')
    # As they are: 1 is the first class, and 0 none.
    assert written['train'].settings == dict(img_suffix='.jpg', seg_map_suffix='.png', reduce_zero_label=True)
    assert written['train'].data_prefix == dict(img_path='images', seg_map_path='annotations')
    assert not (tmp_path / 'out' / 'label_maps').exists()
