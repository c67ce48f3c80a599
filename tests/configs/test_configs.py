"""Every config: it parses, builds, follows the recipe and has the published size."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from focalnet_mm.data.shapes import STUFF_CLASSES, THING_CLASSES
from focalnet_mm.run.build import build_model
from focalnet_mm.zoo.rows import read_zoo
from focalnet_mm.zoo.sizes import model_size
from tests.configs.test_ablations import SAME_RECIPE
from tests.helpers.tools import ROOT

CONFIGS = sorted(path.relative_to(ROOT / 'configs') for path in (ROOT / 'configs').glob('*/*.py'))
ROWS = {row.name: row for row in read_zoo(ROOT)}
# One of each kind of head.
TRANSFORMERS = ('mask2former_focalnet_t_50e_instance', 'mask2former_focalnet_l_160k', 'dino_focalnet_t_4scale_12e',
                'dino_focalnet_l_fl4_5scale_12e')


def shorter(name):
    """The config of the same network with the shorter schedule, where there is one."""
    names = {path.stem for path in CONFIGS} - {name}
    return next((other for other in (name.replace('_3x', '_1x'), name.replace('_36e', '_12e')) if other in names), None)


# A step knows no schedule: the shorter one stands for both. Those with Objects365 have tests of their own, and of those
# that share a recipe two stand for all.
STEPPED = [path for path in CONFIGS if 'o365' not in path.name and not shorter(path.stem)
           and path.stem not in SAME_RECIPE - {'focalnet_t_sliding_window_in1k', 'maskrcnn_focalnet_t_sum_1x'}]


def load(name):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    remove_scopes(cfg._cfg_dict)
    return cfg


def remove_scopes(node):
    """mmengine marks what is inherited from another library with that library's name."""
    if isinstance(node, dict):
        node.pop('_scope_', None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        remove_scopes(child)


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_parses_and_says_where_its_data_comes_from(path):
    cfg = load(path)
    assert cfg.default_scope == path.parts[0]
    assert 'focalnet_mm' in cfg.custom_imports.imports
    assert cfg.data_source
    assert cfg.model.backbone.type == 'FocalNet'


@pytest.mark.slow
@pytest.mark.parametrize('name', ROWS)
def test_size(name):
    """Parameters within 1% and FLOPs within 5% of the published ones, and just those that the metafile says."""
    row = ROWS[name]
    if shorter(name):
        assert row.size == ROWS[shorter(name)].size
    elif row.collection.startswith(('FocalNet DINO', 'FocalNet Mask2Former')) and name not in TRANSFORMERS:
        # Seconds each: `focalnet-mm zoo sizes` counts all of them.
        model = build_model(load(row.config.removeprefix('configs/')), 'meta')
        assert sum(p.numel() for p in model.parameters()) == row.size.parameters
    else:
        assert model_size(ROOT / row.config, row.input_size) == row.size
    if row.published_parameters is None:
        return
    parameters = row.size.parameters
    if name.endswith('in22k'):
        # Published with a head of 1000 classes.
        parameters -= 20842 * (load(row.config.removeprefix('configs/')).model.head.in_channels + 1)
    if name in ('maskrcnn_focalnet_t_1x', 'maskrcnn_focalnet_t_3x'):
        # What the paper's table says does not fit its own kernels.
        assert row.note
    else:
        assert parameters / 1e6 == pytest.approx(row.published_parameters, rel=0.01)
    if row.published_flops:
        assert row.size.flops / 1e9 == pytest.approx(row.published_flops, rel=0.05)


def test_panoptic_model_has_the_known_size():
    assert ROWS['mask2former_focalnet_l_100e_panoptic'].size.parameters / 1e6 == pytest.approx(226.1, abs=0.05)


def shallow(cfg):
    """A config with fewer queries and layers: two of them, since what one hands to the next is part of a method."""
    if cfg.model.type == 'DINO':
        cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 2
    if cfg.model.type == 'SparseRCNN':
        cfg.model.rpn_head.num_proposals = 30
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('path', STEPPED, ids=str)
def test_step_and_prediction(path, batch, build, thin_config):
    cfg = shallow(thin_config(path))
    model, wrapper = build(cfg)
    model.train()
    losses, _ = model.parse_losses(model(**model.data_preprocessor(batch(cfg), True), mode='loss'))
    losses.backward()
    assert torch.isfinite(losses)
    assert not [name for name, p in model.backbone.named_parameters() if p.grad is None or not p.grad.any()]
    # So that several processes need no find_unused_parameters, which costs time at each step.
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    wrapper.step()
    model.eval()
    predictions = model.test_step(batch(cfg))
    assert len(predictions) == 2


@pytest.mark.slow
@pytest.mark.parametrize('path', [path for path in CONFIGS if 'shapes' in path.name], ids=str)
def test_shapes_configs_are_their_methods(path, build, thin_config):
    """Of the built-in data set's classes, and thinner, but the same model and optimizer."""
    real = {'maskrcnn': 't_1x', 'mask2former': 'l_100e_panoptic', 'dino': 't_4scale_12e', 'upernet': 't_160k'}
    method = path.name.split('_focalnet')[0]
    cfg = load(path)
    reference = load(path.with_name(f'{method}_focalnet_{real.get(method, "t_3x")}.py'))
    assert cfg.model.type == reference.model.type
    assert cfg.optim_wrapper.optimizer.type == reference.optim_wrapper.optimizer.type
    semantic = method in ('upernet', 'mask2former')
    for split in ('train', 'val', 'test'):
        metainfo = cfg[f'{split}_dataloader'].dataset.metainfo
        assert metainfo.classes == (THING_CLASSES + STUFF_CLASSES if semantic else THING_CLASSES)
        assert len(metainfo.palette) == len(metainfo.classes)
    assert cfg.data_root in str(cfg.train_dataloader.dataset.data_root)
    model, _ = build(thin_config(path))
    counts = {module.num_classes for name, module in model.named_modules()
              if hasattr(module, 'num_classes') and name != 'rpn_head'}
    assert counts == {9 if semantic else 5}


def test_model_index_names_every_config():
    named = {Path(row.config).relative_to('configs') for row in ROWS.values()}
    assert named == {path for path in CONFIGS if 'shapes' not in path.name}
    assert all(row.name == Path(row.config).stem for row in ROWS.values())
