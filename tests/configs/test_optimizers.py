"""Learning rates and weight decays of the configs with a slow backbone, parameter by parameter."""

import json
import re

import pytest
from mmengine.optim import build_optim_wrapper
from torch import nn

from focalnet_mm.run.build import build_model
from focalnet_mm.run.config import load_config
from focalnet_mm.run.machine import fit_to_machine
from tests.helpers.tools import ROOT

PATHS = sorted(str(path.relative_to(ROOT / 'configs')) for path in (ROOT / 'configs').glob('*/*.py')
               if path.name.startswith(('dino', 'mask2former')))
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
# Name of a config → of the published recipe, where that is another's.
RECIPES = {'dino_focalnet_(.)_4scale_12e': 'dino_{}_lrf_4scale_12e',
           'dino_focalnet_l_(fl.)_(.scale_..e)': 'dino_large_{}_{}',
           'mask2former_focalnet_l_100e_panoptic': 'mask2former_large_panoptic',
           'mask2former_focalnet_l_50e_instance': 'mask2former_large_instance',
           'mask2former_focalnet_t_50e_instance': 'mask2former_tiny_instance',
           'mask2former_focalnet_l_160k': 'mask2former_large_ade20k'}
SIZES = dict(t='tiny', s='small', b='base')


def optimized(path):
    """The model of a config, without memory for its weights, and name → (learning rate, weight decay)."""
    cfg = load_config(str(ROOT / 'configs' / path))
    fit_to_machine(cfg)
    model = build_model(cfg, 'meta')
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[parameter]: (group['lr'], group['weight_decay'])
             for group in groups for parameter in group['params']}
    assert found.keys() == set(names.values())
    optimizer = cfg.optim_wrapper.optimizer
    return model, found, optimizer.lr, optimizer.weight_decay


@pytest.mark.parametrize('path', PATHS)
def test_by_the_kind_of_module(path):
    model, found, lr, decay = optimized(path)
    shapes = 'shapes' in path
    for owner, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f'{owner}.{name}' if owner else name
            # FocalNet-DINO decays everything.
            without = 'o365' not in path and (isinstance(module, NORMS) or name in ('gamma_1', 'gamma_2') or (
                'mask2former' in path and not shapes and re.search('query_embed|query_feat|level_embed', full)))
            slow = full.startswith('backbone.') and not shapes
            assert found[full] == pytest.approx((lr * (0.1 if slow else 1), 0 if without else decay)), full


@pytest.mark.parametrize('path', [path for path in PATHS if 'shapes' not in path])
def test_as_published(path, recipes):
    name = path.rpartition('/')[2].removesuffix('.py')
    published = None
    for pattern, target in RECIPES.items():
        match = re.fullmatch(pattern, name)
        if match:
            published = recipes.get(target.format(*(SIZES.get(part, part) for part in match.groups())))
    if published is None:
        pytest.skip('nobody published this one')
    values = published['values']
    _, found, lr, decay = optimized(path)
    assert (lr, decay) == (values['optimizer.lr'], values['optimizer.weight_decay'])
    for full, (rate, of_parameter) in found.items():
        slow = full.startswith('backbone.')
        assert rate == pytest.approx(lr * (values['optimizer.backbone_lr_mult'] if slow else 1)), full
        # The layer scales are ours: the recipes' rules go by kinds of modules, which do not name them.
        without = any(re.search(pattern, full) for pattern in values['no_decay']) or 'gamma_' in full
        assert of_parameter == pytest.approx(0 if without else decay), full


@pytest.fixture(scope='module')
def recipes():
    from tests.conftest import SAMPLES
    file = SAMPLES.parent / 'recipes' / 'recipes.json'
    if not file.is_file():
        pytest.skip(f'no published recipes at {file}')
    return json.loads(file.read_text())
