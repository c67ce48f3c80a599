"""A project is trained and tested."""

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from focalnet_mm.new.project import Options, write_project
from focalnet_mm.run.checks import build_runner
from focalnet_mm.run.config import load_config
from focalnet_mm.run.machine import fit_to_machine
from tests.helpers import own_table
from tests.helpers.projects import CPU
from tests.helpers.tools import ROOT

# A config of one's own: thin, for pictures of 32 pixels.
BASE = f"""
_base_ = {str(ROOT / 'configs/mmpretrain/focalnet_t_in1k.py')!r}
model = dict(
    backbone=dict(embed_dims=16, depths=(1, 1, 1, 1), drop_path_rate=0.0),
    head=dict(in_channels=128),
    train_cfg=None)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), dict(type='PackInputs')]
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(pipeline=pipeline))
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = None
train_cfg = dict(max_epochs=12, val_interval=12)
log_level = 'ERROR'
"""


def coloured(folder):
    """Pictures of three classes, each of its colour in noise."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(('red', 'green', 'blue')):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(160, size=(32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 90
            Image.fromarray(pixels).save(folder / name / f'{i}.png')
    return folder


@pytest.mark.train
def test_it_learns(tmp_path):
    """From class folders and a config of one's own: better than untrained on pictures that it has not seen."""
    (tmp_path / 'base.py').write_text(BASE)
    project = write_project(coloured(tmp_path / 'data'), tmp_path / 'project',
                            Options(base=str(tmp_path / 'base.py'), weights='none', val=0.3), CPU, lambda line: None)
    assert project.pictures == dict(train=21, val=9)

    def runner(name):
        DefaultScope._instance_dict.clear()
        # A runner draws a seed of its own where the config has none, and some untrained models guess well.
        cfg = load_config(str(project.config), {'experiment_name': f'{tmp_path.name} {name}', 'randomness.seed': 0})
        fit_to_machine(cfg)
        return build_runner(cfg)[0]
    untrained = runner('untrained').test()['accuracy/top1']
    run = runner('trained')
    run.train()
    trained = run.test()['accuracy/top1']
    assert untrained < 70 < trained


@pytest.mark.train
@pytest.mark.parametrize(('method', 'form', 'epochs'), [('upernet', 'labelme polygons', 12)])
def test_a_cell_of_the_table(method, form, epochs, tmp_path):
    cell = own_table.measure(method, form, tmp_path, epochs)
    assert cell.before < cell.after
