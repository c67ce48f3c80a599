"""Keys of a config that nothing reads."""

import pytest
from mmengine.config import Config

from focalnet_mm.run.config import load_config
from focalnet_mm.run.unread import unread_keys
from tests.helpers.tools import ROOT, SHAPES

# An option → what was meant. That each of the keys that are meant is one of mmengine's is in its documentation.
MEANT = {
    'lr': 'optim_wrapper.optimizer.lr?', 'optimizer.lr': 'optim_wrapper.optimizer.lr?',
    'data.samples_per_gpu': 'train_dataloader.batch_size,', 'load_form': 'load_from?',
    'randomnes.seed': 'randomness.seed?', 'max_epochs': 'train_cfg.max_epochs?', 'zzz': None}


@pytest.fixture(scope='module')
def cfg():
    return Config.fromfile(ROOT / SHAPES)


@pytest.mark.parametrize('key', MEANT)
def test_options(key, cfg):
    told, = unread_keys(cfg, {key: 1})
    assert told == f'nothing reads {key}.' if MEANT[key] is None else told.startswith(
        f'nothing reads {key}: did you mean {MEANT[key]}')


@pytest.mark.parametrize('key', ['data_root', 'optim_wrapper.optimizer.lr', 'randomness.seed', 'resume'])
def test_options_that_are_read(key, cfg):
    assert not unread_keys(cfg, {key: 1})


@pytest.mark.parametrize(('line', 'meant'), [
    ("load_form = 'x.pth'", 'load_form: did you mean load_from?'), ('randomnes = dict(seed=1)', 'randomnes: did you'),
    ("test_pipelin = []", None), ('lr = 1e-3', None)])
def test_files(line, meant, tmp_path, log):
    """Whose own variables are nobody's business."""
    (tmp_path / 'x.py').write_text(f"model = dict(type='x')\n{line}\n")
    load_config(str(tmp_path / 'x.py'))
    assert [f'nothing reads {meant}' in line for line in log] == ([True] if meant else [])
