"""Every config beside the recipe that was published: its values, its parameters' groups, and that any change shows.

``python -m tests.helpers.recipes`` prints the tables of all configs.
"""

import copy
import re
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

from focalnet_mm.zoo.recipes import read_deviations
from tests.helpers.recipes import (
    LIBRARIES_OWN,
    WITHOUT,
    counterpart,
    differences,
    groups,
    load,
    of_rule,
    read_recipes,
    unexplained,
)
from tests.helpers.recipes.mutation import additions, changed, is_noticed, survivors, values
from tests.helpers.tools import ROOT

CONFIGS = sorted(str(path.relative_to(ROOT / 'configs'))[:-3] for path in (ROOT / 'configs').glob('*/*.py'))
COMPARED = [name for name in CONFIGS if counterpart(name)]
# One of each method, with what is rare: five scales, 384 pixels, another policy.
METHODS = ['mmdet/maskrcnn_focalnet_t_1x', 'mmdet/cascade_maskrcnn_focalnet_t_3x', 'mmdet/atss_focalnet_t_3x',
           'mmdet/sparsercnn_focalnet_t_3x', 'mmdet/dino_focalnet_l_fl4_5scale_36e',
           'mmdet/mask2former_focalnet_l_100e_panoptic', 'mmseg/mask2former_focalnet_l_160k',
           'mmseg/upernet_focalnet_t_160k', 'mmpretrain/focalnet_t_in1k', 'mmpretrain/focalnet_l_fl4_in22k']
RECIPES = read_recipes()
DEVIATIONS = read_deviations(ROOT)


@pytest.fixture(scope='module')
def loaded():
    return {name: load(ROOT / 'configs' / f'{name}.py') for name in COMPARED}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_recipe_or_a_reason(name):
    entry = counterpart(name)
    assert (entry in RECIPES) != bool(counterpart(name, WITHOUT))
    if entry:
        assert counterpart(name, LIBRARIES_OWN)


@pytest.mark.parametrize('name', COMPARED)
def test_values(name, loaded):
    assert unexplained(name, differences(name, loaded[name], RECIPES[counterpart(name)]), DEVIATIONS) == {}


@pytest.mark.parametrize('one', DEVIATIONS, ids=lambda one: one.reason[:40])
def test_deviations_are_of_configs(one):
    for pattern in one.configs:
        assert any(replace(one, configs=(pattern,)).holds_for(name) for name in COMPARED), pattern


def test_what_is_no_deviation_any_more_is_noticed(loaded):
    name = 'mmdet/maskrcnn_focalnet_t_1x'
    found = differences(name, loaded[name], RECIPES[counterpart(name)])
    gone = replace(DEVIATIONS[0], configs=(name,), fields={'optimizer.lr': (1e-3, 1e-4)})
    assert unexplained(name, found, [*DEVIATIONS, gone]) == {'optimizer.lr': (None, (1e-3, 1e-4))}


@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
def test_every_change_shows(name, loaded):
    """Each value that training and evaluation read, changed by itself."""
    count, unnoticed = survivors(name, loaded[name], RECIPES[counterpart(name)], DEVIATIONS, with_groups=False)
    assert count > 100
    assert unnoticed == []


@pytest.mark.parametrize('name', METHODS)
def test_every_addition_shows(name, loaded):
    """A setting that nobody has published, a step of a pipeline or of a schedule, a hook, a cost."""
    assert [path for path, cfg in additions(loaded[name])
            if not is_noticed(name, cfg, RECIPES[counterpart(name)], DEVIATIONS)] == []


@pytest.mark.parametrize(('key', 'value'), [
    ('embed_dims', 64), ('depths', [2, 2, 4, 2]), ('focal_levels', [2, 3, 3, 3]), ('focal_windows', 5),
    ('focal_factor', 4), ('modulation', 'sum'), ('patch_size', 8), ('conv_stem', True), ('patch_norm', False),
    ('layer_scale_init_value', 0.1), ('post_norm', True), ('post_norm_in_modulation', True),
    ('normalize_modulator', True), ('depthwise_convs', True), ('in_channels', 4), ('mlp_ratio', 3.0),
    ('drop_rate', 0.1), ('drop_path_rate', 0.35), ('out_indices', [1, 2, 3]), ('frozen_stages', 0),
    ('implementation', 'reference'), ('with_cp', True), ('arch', 'small-lrf')])
def test_every_setting_of_the_backbone_shows(key, value, loaded):
    name = 'mmdet/maskrcnn_focalnet_t_1x'
    cfg = copy.deepcopy(loaded[name])
    cfg['model']['backbone'][key] = value
    assert unexplained(name, differences(name, cfg, RECIPES[counterpart(name)]), DEVIATIONS)


@pytest.mark.parametrize(('name', 'path'), [
    # Without it the neck has ReLUs.
    ('mmdet/dino_focalnet_t_4scale_12e', ('model', 'neck', 'act_cfg')),
    ('mmpretrain/focalnet_t_in1k', ('model', 'head', 'init_cfg'))])
def test_what_is_gone_shows(name, path, loaded):
    cfg = copy.deepcopy(loaded[name])
    *owners, key = path
    node = cfg
    for owner in owners:
        node = node[owner]
    del node[key]
    assert unexplained(name, differences(name, cfg, RECIPES[counterpart(name)]), DEVIATIONS)


@pytest.mark.parametrize(('name', 'path'), [
    ('mmdet/dino_focalnet_t_4scale_12e', ('model', 'dn_cfg', 'label_noise_scale')),
    ('mmdet/atss_focalnet_t_3x', ('param_scheduler', 1, 'milestones', 0)),
    ('mmseg/upernet_focalnet_s_160k', ('val_dataloader', 'dataset', 'pipeline', 1, 'scale', 0))])
def test_a_change_is_named(name, path, loaded):
    cfg = changed(loaded[name], path)
    assert path in values(cfg)
    found = unexplained(name, differences(name, cfg, RECIPES[counterpart(name)]), DEVIATIONS)
    assert any(re.search('label_noise|milestones|val_dataloader', field) for field in found)


@pytest.mark.slow
@pytest.mark.parametrize('name', COMPARED)
def test_groups_of_parameters(name):
    """Each parameter's learning rate and decay by the authors' rule: of names, kinds of modules, or dimensions."""
    model, found = groups(ROOT / 'configs' / f'{name}.py')
    cfg, recipe = Config.fromfile(ROOT / 'configs' / f'{name}.py'), RECIPES[counterpart(name)]
    # Not published for ImageNet-22K.
    expected = of_rule(model, {**recipe, 'optimizer.lr': recipe['optimizer.lr'] or cfg.optim_wrapper.optimizer.lr})
    assert {name: pytest.approx(settings) for name, settings in expected.items()} == found


class TestRates:
    """The learning rate at each step beside what the authors' own schedules give."""

    @staticmethod
    def rates(name, an_epoch, steps):
        """Those of the first steps, by mmengine's schedulers."""
        cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
        cfg.optim_wrapper.type = 'OptimWrapper'
        wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
        schedulers = []
        for step in cfg.param_scheduler:
            step = dict(step)
            kind = PARAM_SCHEDULERS.get(step.pop('type'))
            if step.pop('convert_to_iter_based', False):
                schedulers.append(kind.build_iter_from_epoch(optimizer=wrapper, epoch_length=an_epoch, **step))
            else:
                schedulers.append(kind(optimizer=wrapper, **step))
        found = []
        for _ in range(steps):
            found.append(wrapper.param_groups[0]['lr'])
            for scheduler in schedulers:
                assert not scheduler.by_epoch
                scheduler.step()
        return torch.tensor(found, dtype=torch.float64)

    def test_cosine(self):
        """timm's, which lr_scheduler.py of the authors calls."""
        schedulers = pytest.importorskip('timm.scheduler')
        an_epoch = 7
        optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1e-3)
        scheduler = schedulers.CosineLRScheduler(
            optimizer, t_initial=300 * an_epoch, lr_min=1e-5, warmup_t=20 * an_epoch, warmup_lr_init=1e-6,
            cycle_limit=1, t_in_epochs=False)
        expected = []
        for step in range(300 * an_epoch):
            scheduler.step_update(step)
            expected.append(optimizer.param_groups[0]['lr'])
        found, expected = self.rates('mmpretrain/focalnet_t_in1k', an_epoch, 300 * an_epoch), torch.tensor(
            expected, dtype=torch.float64)
        warm = 20 * an_epoch
        # timm's warm-up does not fall with the cosine yet; afterwards both are on it.
        assert (found[:warm] / expected[:warm] - 1).abs().max() < 0.008
        assert (found[warm:] / expected[warm:] - 1).abs().max() < 2e-4

    def test_warm_up_of_whole_epochs(self):
        """Below timm's by what the cosine has fallen, the more the longer epochs are: those of 1024 in ImageNet-1K."""
        an_epoch, warm = 1251, 20 * 1251
        found = self.rates('mmpretrain/focalnet_t_in1k', an_epoch, warm)
        steps = torch.arange(warm, dtype=torch.float64)
        linear = 1e-6 + steps / warm * (1e-3 - 1e-6)
        below = 1 - found / linear
        assert 0.0105 < below.max() < 0.011
        assert below.min() > -1e-3

    def test_poly(self):
        """mmcv 1.x: the polynomial of all iterations, times the warm-up."""
        steps = torch.arange(2000, dtype=torch.float64)
        factor = (1 - (1 - steps / 1500) * (1 - 1e-6)).clamp(max=1)
        expected = 6e-5 * (1 - steps / 160000) * factor
        found = self.rates('mmseg/upernet_focalnet_t_160k', 1, 2000)
        assert (found / expected - 1).abs().max() < 1e-3
        assert (found / expected - 1)[1500:].abs().max() < 1e-6


def test_runner_reads_nothing_else():
    """The keys that are compared are those that mmengine's runner takes of a config."""
    import inspect

    from tests.helpers.recipes.rest import READ
    source = inspect.getsource(Runner)
    taken = set(re.findall(r"\bcfg(?:\.get\(|\[)\s*'(\w+)'", source))
    assert {'model', 'sync_bn', 'compile'} <= taken
    # How it is started, and where it writes; the metrics and loaders of validation are compared with the test's.
    assert taken - set(READ) == {'work_dir', 'launcher', 'experiment_name', 'val_dataloader', 'val_evaluator'}
