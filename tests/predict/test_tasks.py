"""Classifiers of several tasks: with PyTorch and as a file, beside what mmpretrain's model says."""

import json

import cv2
import numpy as np
import pytest
import torch

from focalnet_mm.cli import run as command
from focalnet_mm.deploy import Runtime, export_model
from focalnet_mm.predict import ExportedPredictor, Predictor
from focalnet_mm.predict.classified import categories, class_name
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import mmpretrain

CLASSES = dict(animal=['cat', 'dog', 'owl'], side=['left', 'right'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory, save_weights):
    """A config, its checkpoint with random weights and the names of classes, and a picture."""
    folder = tmp_path_factory.mktemp('tasks')
    packed = "'PackMultiTaskInputs', 'multi_task_fields': ('gt_label',)"
    (folder / 'config.py').write_text(mmpretrain.multi_task(folder / 'data').replace("'PackInputs'", packed))
    save_weights(load_config(str(folder / 'config.py')), folder / 'x.pth', dataset_meta=dict(classes=CLASSES))
    picture = np.random.default_rng(0).integers(256, size=(40, 50, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / 'x.png'), picture)
    return folder


def told(found):
    """Task, class and score of what was predicted, of each task the best class first."""
    names = {(one['task'], one['id']): one['name'] for one in found['categories']}
    return [(one['task'], names[one['task'], one['category_id']], one['score']) for one in found['annotations']]


def test_beside_the_model(folder):
    named = [str(folder / name) for name in ('config.py', 'x.pth', 'x.png')]
    command('predict', [*named, '--out', str(folder / 'out')], 'predict')
    found = told(json.loads((folder / 'out' / 'predictions.json').read_text()))
    cfg = load_config(str(folder / 'config.py'))
    model, predictor = load_model(cfg, str(folder / 'x.pth')), Predictor(cfg, str(folder / 'x.pth'))
    with torch.no_grad():
        sample = model.test_step(predictor.load(folder / 'x.png').batch)[0]
    for task, names in CLASSES.items():
        scores = dict(zip(names, sample.get(task).pred_score.tolist(), strict=True))
        best = sorted(scores, key=scores.get, reverse=True)
        assert [name for of, name, _ in found if of == task] == best
        np.testing.assert_allclose([score for of, _, score in found if of == task], [scores[name] for name in best])


@pytest.mark.slow
def test_as_a_file(folder):
    cfg = load_config(str(folder / 'config.py'))
    export_model(load_model(cfg, str(folder / 'x.pth')), folder / 'x.onnx', 'onnx', tell=lambda _: None, cfg=cfg)
    assert Runtime(folder / 'x.onnx').classes == CLASSES
    own, exported = Predictor(cfg, str(folder / 'x.pth')), ExportedPredictor(Runtime(folder / 'x.onnx'))
    entries = [one.entries(one.predict(one.load(folder / 'x.png')), 0) for one in (own, exported)]
    assert [dict(one, score=0) for one in entries[0]] == [dict(one, score=0) for one in entries[1]]
    np.testing.assert_allclose(*([one['score'] for one in each] for each in entries), rtol=1e-4)


def test_drawn(folder, monkeypatch):
    """A line for each task, with the class that it predicts."""
    predictor, drawn = Predictor(load_config(str(folder / 'config.py')), str(folder / 'x.pth')), []
    monkeypatch.setattr('focalnet_mm.predict.predictor.draw_classes', lambda image, lines: drawn.extend(lines))
    loaded = predictor.load(folder / 'x.png')
    sample = predictor.predict(loaded)
    predictor.draw(loaded.image, sample)
    assert drawn == [f'{task}: {names[sample.get(task).pred_label]} {sample.get(task).pred_score.max():.2f}'
                     for task, names in CLASSES.items()]


@pytest.mark.parametrize(('classes', 'task', 'expected'), [
    (('a', 'b'), '', ['a', 'b', 'class 2']),
    # Of which task they are the names is not known.
    (('a', 'b'), 'colour', ['class 0', 'class 1', 'class 2']),
    (dict(colour=['a', 'b'], more=dict(size=['c'])), 'colour', ['a', 'b', 'class 2']),
    (dict(colour=['a', 'b'], more=dict(size=['c'])), 'more.size', ['c', 'class 1', 'class 2']),
    (dict(colour=['a', 'b'], more=dict(size=['c'])), 'other', ['class 0', 'class 1', 'class 2'])])
def test_names(classes, task, expected):
    assert [class_name(classes, label, task) for label in range(3)] == expected


def test_categories():
    assert list(categories(('a', 'b'))) == [dict(id=0, name='a'), dict(id=1, name='b')]
    assert list(categories(dict(colour=['a'], more=dict(size=['b', 'c'])))) == [
        dict(id=0, name='a', task='colour'), dict(id=0, name='b', task='more.size'),
        dict(id=1, name='c', task='more.size')]
