"""A project is trained and tested as mmseg's own tools do it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from tests.helpers.tools import ROOT


def runner(config, **options):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({'log_level': 'ERROR', 'experiment_name': '_'.join(options), **{
        f'{split}_dataloader.{key}': value for split in ('train', 'val', 'test')
        for key, value in dict(num_workers=0, persistent_workers=False).items()}, **options})
    torch.manual_seed(0)
    return Runner.from_cfg(cfg)


@pytest.mark.train
def test_it_learns(new):
    """From a folder of label maps, without weights: better than untrained on pictures that it has not seen."""
    project = new('labelmaps', base=str(ROOT / 'configs/mmseg/upernet_focalnet_t_shapes.py'), weights='none')
    untrained = runner(project.config, untrained=True).test()
    DefaultScope._instance_dict.clear()
    size = dict.fromkeys(('train_cfg.max_iters', 'train_cfg.val_interval', 'default_hooks.checkpoint.interval'), 20)
    run = runner(project.config, param_scheduler=None, **size)
    run.train()
    assert run.iter == 20
    assert run.test()['mIoU'] > untrained['mIoU'] + 1
