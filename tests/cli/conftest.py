"""A data set and a training run, for the commands."""


import pytest

from focalnet_mm.data.shapes import write_dataset
from tests.helpers.tools import SHAPES, SMALL


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    write_dataset(folder, train=8, val=4, size=96)
    return folder


@pytest.fixture(scope='session')
def trained(shapes, tmp_path_factory, tool):
    """A work dir after one epoch of training."""
    work_dir = tmp_path_factory.mktemp('work')
    tool('train.py', SHAPES, '--work-dir', work_dir, '--cfg-options', f'data_root={shapes}/coco', *SMALL,
         'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    return work_dir
