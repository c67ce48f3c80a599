import logging
import os
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

ROOT = Path(__file__).parents[1]
# Real samples of COCO and ADE20K; the project never needs them.
SAMPLES = Path(os.environ.get('FOCALNET_SAMPLES', ROOT.parent / 'shared' / 'data'))

# Tests run in parallel, a process a core.
torch.set_num_threads(1)


@pytest.fixture(scope='session')
def coco_samples():
    folder = SAMPLES / 'coco'
    if not folder.is_dir():
        pytest.skip(f'no COCO samples at {folder} (set FOCALNET_SAMPLES to a folder that holds them)')
    return folder


@pytest.fixture(scope='session')
def ade_samples():
    folder = SAMPLES / 'ade' / 'ADEChallengeData2016'
    if not folder.is_dir():
        pytest.skip(f'no ADE20K samples at {folder} (set FOCALNET_SAMPLES to a folder that holds them)')
    return folder


@pytest.fixture(autouse=True)
def _default_scope():
    """mmengine keeps the scope of the last runner: each test starts from the root's."""
    from mmengine.registry import DefaultScope
    DefaultScope.get_instance('test', scope_name='mmengine')
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture
def log():
    """What mmengine's logger says."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
