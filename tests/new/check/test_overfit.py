"""Training on two batches beside mmengine's own runner, and what its losses say."""

import copy
import itertools

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from focalnet_mm.new.check.overfit import first_batches, of_losses, overfit
from focalnet_mm.run.build import build_model
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import CASES
from tests.helpers.corpus.common import write
from tests.new.check.test_findings import after, checked, told

STEPS = 10


@pytest.mark.train
@pytest.mark.parametrize('name', ['mmdet coco', 'mmpretrain lists'])
def test_losses_are_those_of_a_runner(name, tmp_path):
    """mmengine's runner over the same two batches in turn, with a warm-up of a fifth of the steps."""
    cfg = load_config(str(write(tmp_path / 'config.py', CASES[name][1](tmp_path / 'data'))))
    cfg.optim_wrapper.accumulative_counts = 4
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    dataset = Runner.build_dataloader(cfg.train_dataloader).dataset
    batches = first_batches(cfg.train_dataloader, dataset)
    assert [len(batch['inputs']) for batch in batches] == [2, 2]
    kept = copy.deepcopy(batches)
    losses = overfit(copy.deepcopy(model), cfg, batches, STEPS)
    assert _tensors(batches) == _tensors(kept)

    optimizer = ConfigDict(cfg.optim_wrapper, accumulative_counts=1)
    loader = DataLoader([*itertools.islice(itertools.cycle(kept), STEPS)], batch_size=None, collate_fn=copy.deepcopy)
    # Without a name of its own, a run of the same second adds to these losses.
    runner = Runner(
        model, str(tmp_path / 'work'), experiment_name=str(tmp_path), train_dataloader=loader, optim_wrapper=optimizer,
        default_scope=cfg.default_scope, log_level='WARNING',
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=STEPS, val_interval=10**6),
        param_scheduler=dict(type='LinearLR', start_factor=1 / (STEPS // 5), begin=0, end=STEPS // 5,
                             by_epoch=False),
        default_hooks=dict(checkpoint=None, sampler_seed=None, logger=dict(type='LoggerHook', interval=1)))
    runner.train()
    np.testing.assert_allclose(losses, runner.message_hub.get_scalar('train/loss').data[0], rtol=1e-5)


def _tensors(batches):
    """The shape and sum of each picture, and of each mask and box of its sample."""
    found = []
    for batch in batches:
        for image, sample in zip(batch['inputs'], batch['data_samples']):
            objects = sample.get('gt_instances', {})
            found.append((tuple(image.shape), image.sum().item(), *(
                (tuple(value.shape), value.sum().item()) for value in objects.values() if hasattr(value, 'sum'))))
    return found


def test_batches_of_a_small_data_set(tmp_path):
    cfg = load_config(str(write(tmp_path / 'config.py', CASES['mmpretrain lists'][1](tmp_path / 'data'))))
    init_default_scope('mmpretrain')
    dataset = Runner.build_dataloader(cfg.train_dataloader).dataset
    settings = dict(cfg.train_dataloader, batch_size=64, num_workers=7, persistent_workers=True, prefetch_factor=3,
                    drop_last=True)
    assert [len(batch['inputs']) for batch in first_batches(settings, dataset)] == [6]
    assert [len(batch['inputs']) for batch in first_batches(settings, dataset, 2)] == [2, 2]


@pytest.mark.parametrize(('losses', 'level', 'part'), [
    ([3.5, 2.5, *np.linspace(2, 1.5, 16), 0.9, 1.1], 'passed',
     'from 3 (the mean of the first 2 steps) to 1 (of the last 2) in 20 steps'),
    # Batches of which one is always harder.
    ([3, 1] * 10, 'warning', 'it does not fall'),
    ([2.9, 0.9] * 2 + [1.1, 0.2] * 8, 'passed', 'from 1.9 (the mean of the first 2 steps) to 0.65 (of the last 2)'),
    (np.linspace(1, 3, 20), 'warning', 'it does not fall'),
    ([0.0] * 20, 'warning', 'The loss is 0 from the first step'),
    ([2.0, 5.0, float('nan')], 'warning', 'The loss is nan in step 3 of training on 4 pictures alone, after 2 in the'),
    ([2.0, float('inf')], 'warning', 'The loss is inf in step 2'),
    ([2.0, 1.0], 'note', 'too few to tell')])
def test_what_losses_say(losses, level, part):
    (found,) = of_losses(list(losses), 4)
    assert found.level == level
    assert part in found.text
    assert list(of_losses([], 0)) == []


@pytest.mark.train
@pytest.mark.parametrize(('lr', 'level', 'part'), [
    (0.002, 'passed', 'Training on 4 pictures alone took the loss from'),
    (1e-12, 'warning', 'it does not fall, although the model could learn so few by heart'),
    (1e12, 'warning', 'The loss is nan')])
def test_a_training(lr, level, part, tmp_path):
    result = checked('mmdet coco', tmp_path, after(f"optim_wrapper['optimizer']['lr'] = {lr}"), train=True, steps=14)
    assert any(finding.level == level and part in finding.text for finding in result.checked.findings), told(result)
    assert len(result.checked.losses) == 14 or level == 'warning'
    assert len(result.checked.predicted) == 4 or lr > 1
    assert not result.errors


@pytest.mark.train
@pytest.mark.parametrize('name', ['mmdet panoptic', 'mmseg binary of one class'])
def test_predictions_are_drawn(name, tmp_path):
    result = checked(name, tmp_path, train=True, steps=2)
    assert told(result) == []
    assert len(result.checked.predicted) == 4


@pytest.mark.train
def test_weights_that_are_not_there(tmp_path):
    result = checked('mmpretrain lists', tmp_path, after("load_from = 'nowhere.pth'"), train=True, steps=2)
    assert any(level == 'error' and 'nowhere.pth' in text for level, text in told(result))
