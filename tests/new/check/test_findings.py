"""Faults planted into configs of the corpus are told, and configs that are in order are not accused."""

import hashlib
import json

import numpy as np
import pytest

from focalnet_mm.new.check import check_config, findings
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import CASES
from tests.helpers.corpus.common import write


def checked(name, folder, change=lambda source: source, spoil=None, **options):
    """(level, text) of what is found in a case whose config or files were changed."""
    _, case = CASES[name]
    source = change(case(folder / 'data'))
    if spoil:
        spoil(folder / 'data')
    cfg = load_config(str(write(folder / 'config.py', source)))
    return check_config(cfg, folder / 'out', device='cpu', tell=lambda line: None, **{'train': False, **options})


def told(result):
    return [(finding.level, finding.text) for finding in result.checked.findings
            if finding.level in ('error', 'warning')]


def after(*lines):
    return lambda source: source + '\n' + '\n'.join(lines) + '\n'


def instead(old, new):
    def change(source):
        assert old in source
        return source.replace(old, new)
    return change


def annotated(change):
    """Change each picture and object of a file for training."""
    def spoil(root):
        content = json.loads((root / 'train.json').read_text())
        for each in (*content['images'], *content['annotations']):
            change(each)
        write(root / 'train.json', content)
    return spoil


EVALUATOR = after("val_evaluator['ann_file'] = val_evaluator['ann_file'].replace('val.', 'other.')")
TRAIN = "train_dataloader['dataset']"
FAULTS = [
    ('mmdet coco', EVALUATOR, lambda root: _other_file(root, lambda image: image.update(file_name='x.jpg')),
     'error', ['val_evaluator.ann_file names', 'other.json, which lacks 2 of the 2 pictures of the data set, such as',
               "set val_evaluator.ann_file to '", "/val.json'."]),
    ('mmdet coco', EVALUATOR, lambda root: _other_file(root, lambda each: each.update(name=each.get('name', '') + 's')),
     'error', ["other.json, which lacks 3 classes of the data set: 'box', 'ball', 'cone'"]),
    ('mmdet coco', EVALUATOR, lambda root: _other_file(root, lambda each: None, 'train'), 'warning',
     ['other.json, which has 2 pictures that the data set lacks']),
    # A copy is as good.
    ('mmdet coco', EVALUATOR, lambda root: _other_file(root, lambda each: None), None, []),
    ('mmdet coco', after("val_evaluator['ann_file'] += 'x'"), None, 'error',
     ['val.jsonx, which does not exist, and the data set reads']),
    ('mmdet coco', after("optim_wrapper['optimizer']['lr'] = 50.0"), None, 'warning',
     ['optimizer.lr is 50, far above what SGD is used with']),
    ('mmdet coco', after("optim_wrapper['optimizer']['lr'] = 0"), None, 'error', ['lr is 0: nothing would be learned']),
    ('mmdet coco', after('auto_scale_lr = dict(base_batch_size=16)'), None, 'warning',
     ['lr=0.002 is meant for 16 pictures a step', 'takes 2:', 'makes it 0.00025, or on 8 GPUs']),
    ('mmdet coco', after(f"{TRAIN}['pipeline'].insert(2, dict(type='FilterAnnotations', min_gt_bbox_wh=(90, 90)))"),
     None, 'error', ['train_dataloader.dataset: all 4 boxes of 4 pictures are gone', 'at the step FilterAnnotations']),
    ('mmdet coco', instead('[9.0] * 3', '[0.4] * 3'), None, None, []),
    ('mmdet coco', instead('std=[50.0] * 3', 'std=[0.2] * 3'), None, 'warning',
     ['The network is given (', 'where about 0 and 1 were expected']),
    ('mmdet coco', instead('mean=[9.0] * 3', 'mean=[103.53, 116.28, 123.675]'), None, 'warning',
     ["The network is given RGB, and the mean (104, 116, 124) of", "is ImageNet's in BGR"]),
    ('mmdet coco', None, annotated(lambda each: each.update(width=99) if 'width' in each else None), 'warning',
     ['0.jpg is annotated as 99 × 64 pixels and loaded as 64 × 64, and 3 more are']),
    ('mmdet coco', None, annotated(lambda each: each.update(category_id=3) if 'bbox' in each else None), 'warning',
     ["In val and not in train: 2 of the 3 classes ('box', 'ball'), which cannot be learned"]),
    ('mmdet coco', None, annotated(lambda each: each.update(bbox=[0, 0, 0, 0]) if 'bbox' in each else None), 'error',
     ['train_dataloader.dataset leaves out all 4 objects of', 'train.json, boxes that are empty']),
    ('mmdet coco', None, annotated(lambda each: each.update(bbox=[70, 0, 9, 9]) if each.get('image_id') == 2 else None),
     'warning', ['train_dataloader.dataset leaves out 1 of the 4 objects of']),
    ('mmdet coco', instead("type='RetinaHead'", "type='RetinaHed'"), None, 'error', ['did you mean RetinaHead?']),
    ('mmseg plain folders', None, lambda root: _labels(root, 7), 'error',
     ['has the value 7, and the 2 classes have 0 to 1']),
    ('mmseg plain folders', None, lambda root: _labels(root, 255, 255), 'error', ['every pixel of 4 label maps']),
    ('mmseg plain folders', None, lambda root: _labels(root, 0), 'warning', ["In val and not in train: 1 of the 2"]),
    ('mmpretrain lists', None, lambda root: (root / 'train/cat/0.png').unlink(), 'error',
     ['train/cat/0.png does not exist, although the annotations name it']),
    ('mmpretrain folders', instead("'num_classes': 3", "'num_classes': 9"), None, 'error',
     ['model.head has 9 classes']),
]


def _other_file(root, change, split='val'):
    content = json.loads((root / f'{split}.json').read_text())
    for each in (*content['images'], *content['categories']):
        change(each)
    write(root / 'other.json', content)


def _labels(root, value, background=0):
    from tests.helpers.corpus.common import box_of
    from tests.helpers.corpus.mmseg import label_map
    for i in range(4):
        label_map(root / f'ann/train/{i}.png', box_of(i), value, background)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'change', 'spoil', 'level', 'parts'), FAULTS)
def test_a_planted_fault(name, change, spoil, level, parts, tmp_path):
    result = checked(name, tmp_path, change or (lambda source: source), spoil)
    found = told(result)
    if level is None:
        assert found == []
        return
    assert any(each == level and all(part in text for part in parts) for each, text in found), found
    assert bool(result.errors) == any(each == 'error' for each, _ in found)
    kept = json.loads((tmp_path / 'out/report.json').read_text())['check']['findings']
    assert [(each['level'], each['text']) for each in kept if each['level'] in ('error', 'warning')] == sorted(
        found, key=lambda each: each[0])


# Where numbers of 16 bits, or of no mean at all, reach the network as they are, the corpus is told so.
IN_ORDER = ['mmdet coco', 'mmdet voc', 'mmdet joined', 'mmdet mixed', 'mmdet in memory', 'mmdet panoptic',
            'mmdet pure python', 'mmdet several loaders in another scope', 'mmdet crowdhuman', 'mmseg ade20k',
            'mmseg repeated', 'mmseg binary of one class', 'mmpretrain multi label', 'mmpretrain grey',
            'mmpretrain without labels']


@pytest.mark.slow
@pytest.mark.parametrize('name', IN_ORDER)
def test_what_is_in_order_is_not_accused(name, tmp_path):
    files = {}

    def kept(source):
        files.update({path: hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / 'data').rglob('*')
                      if path.is_file() and path.suffix != '.pyc'})
        return source

    result = checked(name, tmp_path, kept)
    assert told(result) == []
    assert result.checked.given or name == 'mmpretrain without labels'
    # What the case itself takes away once its config is read is not the check's doing.
    left = {path: digest for path, digest in files.items() if path.exists() or name != 'mmdet in memory'}
    assert left == {path: hashlib.sha256(path.read_bytes()).digest() for path in left}


@pytest.mark.slow
def test_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(findings, '_available_memory', lambda: 64 * 64 * 3 * 5 * 2 - 1)
    (level, text), = told(checked('mmdet coco', tmp_path))
    assert level == 'warning'
    assert '64 × 64 pixels: 2 of this size' in text


def test_memory_that_is_free():
    assert findings._available_memory() is None or 2**24 < findings._available_memory() < 2**50


@pytest.mark.slow
def test_what_the_network_is_given(tmp_path):
    """The bright box of each picture lies where it is drawn, and in the picture's own brightness."""
    result = checked('mmdet coco', tmp_path)
    for view in result.checked.given:
        assert '64 × 64 · 1 objects' in view.text
        bright = view.image.min(axis=2) > 150
        assert 300 < bright.sum() / (view.image.shape[0] / 64)**2 < 700
        # Noise goes to 63, the box to 224.
        assert np.percentile(view.image, 50) < 70
