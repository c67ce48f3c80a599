"""Keys of a config that nothing reads."""

import ast
import importlib.util
from pathlib import Path

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
    assert told == (f'neither the runner nor a tool reads {key}: it is there for code of your own alone.') if MEANT[
        key] is None else told.startswith(f'nothing reads {key}: did you mean {MEANT[key]}')


# The last one is read by mmengine's FlexibleRunner.
@pytest.mark.parametrize('key', ['data_root', 'optim_wrapper.optimizer.lr', 'randomness.seed', 'resume',
                                 'init_weights_for_test_or_val'])
def test_options_that_are_read(key, cfg):
    assert not unread_keys(cfg, {key: 1})


@pytest.mark.parametrize(('line', 'meant'), [
    ("load_form = 'x.pth'", 'load_form: did you mean load_from?'), ('randomnes = dict(seed=1)', 'randomnes: did you'),
    ('train_cgf = dict(max_epochs=2)', 'train_cgf: did you mean train_cfg?'),
    ('val_evaluater = dict()', 'val_evaluater: did you mean val_evaluator?'),
    ("test_pipelin = []", None), ('lr = 1e-3', None), ("work_dirs = 'x'", 'work_dirs: did you mean work_dir?')])
def test_files(line, meant, tmp_path, log):
    """Whose own variables are nobody's business."""
    (tmp_path / 'x.py').write_text(f"model = dict(type='x')\n{line}\n")
    load_config(str(tmp_path / 'x.py'))
    assert [f'nothing reads {meant}' in line for line in log] == ([True] if meant else [])


@pytest.mark.parametrize('library', ['mmdet', 'mmseg', 'mmpretrain'])
def test_the_libraries_own_files(library):
    """None of the names in them is a mistake."""
    spec = importlib.util.find_spec(library)
    if spec is None:
        pytest.skip(f'{library} is not installed')
    values, count = {'x': {}, 'y': {}}, 0
    for path in Path(spec.origin).parent.rglob('configs/**/*.py'):
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            for target in node.targets if isinstance(node, ast.Assign) else ():
                if isinstance(target, ast.Name):
                    laid_out = isinstance(node.value, (ast.Dict, ast.List, ast.Tuple, ast.Call))
                    values['x' if laid_out else 'y'][target.id] = [] if laid_out else 1
        count += 1
    assert count > 100
    assert not [told for each in values.values() for told in unread_keys(Config(each), {})]
