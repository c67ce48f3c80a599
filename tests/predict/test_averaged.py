"""Of checkpoints with averaged weights those are taken that a test of the same config takes."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from focalnet_mm.predict import Predictor
from focalnet_mm.run import build

pytestmark = pytest.mark.slow
HOOKS = {
    'mmengine': dict(type='mmengine.EMAHook', momentum=0.5),
    'mmpretrain': dict(type='mmpretrain.EMAHook', momentum=0.5),
    'mmpretrain, of the last step': dict(type='mmpretrain.EMAHook', momentum=0.5, evaluate_on_ema=False),
    'none': None,
}


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp('picture') / 'x.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(255, size=(60, 90, 3)).astype(np.uint8))
    return str(path)


@pytest.fixture(scope='module')
def written(config_for, for_test, picture, tmp_path_factory):
    """A config, and what mmengine's hook writes of weights that differ from their average."""
    folder = tmp_path_factory.mktemp('averaged')
    cfg = config_for('mmpretrain', 3, dict(type='LoadImageFromFile'))
    tested = for_test(cfg, [picture], folder / 'x.pkl')
    tested.work_dir = str(folder)
    runner = Runner.from_cfg(tested)
    hook = EMAHook(momentum=0.5)
    hook.before_run(runner)
    torch.manual_seed(0)
    for parameter in hook.ema_model.module.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    checkpoint = dict(state_dict=dict(runner.model.state_dict()), meta={})
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, folder / 'x.pth')
    return cfg, str(folder / 'x.pth')


@pytest.mark.parametrize('name', HOOKS)
def test_predictions_are_those_of_the_test(name, written, picture, tested, tmp_path, monkeypatch):
    cfg, checkpoint = written
    cfg = type(cfg)(cfg.to_dict())
    cfg.custom_hooks = [HOOKS[name]] if HOOKS[name] else []
    expected, = tested(cfg, checkpoint, [picture], tmp_path)
    log = []
    monkeypatch.setattr(build, 'print_log', lambda text, logger: log.append(text))
    predictor = Predictor(cfg, checkpoint, 'cpu')
    torch.testing.assert_close(predictor.predict(picture).pred_score, expected['pred_score'])
    took = 'took the last, as evaluate_on_ema=False' if 'last' in name else 'took the averaged ones'
    assert any(f'{checkpoint} holds averaged weights and those of the last step: {took}' in line for line in log)


def test_the_two_differ(written, picture):
    cfg, checkpoint = written
    scores = []
    for hook in ('mmpretrain', 'mmpretrain, of the last step'):
        cfg.custom_hooks = [HOOKS[hook]]
        scores.append(Predictor(cfg, checkpoint, 'cpu').predict(picture).pred_score)
    assert (scores[0] - scores[1]).abs().max() > 1e-3
