"""FocalNetOptimWrapperConstructor against mmpretrain's and mmengine's own constructors."""

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from focalnet_mm import FocalNet
from focalnet_mm.backbone.parts import plain_name
from focalnet_mm.run.build import build_model
from tests.helpers.training import tiny_runner

THIN = dict(type='FocalNet', arch=dict(embed_dims=8, depths=(1, 1, 2, 1), focal_levels=2, focal_windows=3),
            layer_scale_init_value=1e-4)
# What the constructors of mmengine and mmpretrain both know, alone and together.
RULES = [{}, dict(norm_decay_mult=0.0), dict(bias_decay_mult=0.0), dict(flat_decay_mult=0.0),
         dict(norm_decay_mult=0.5, bias_decay_mult=0.25, flat_decay_mult=0.0,
              custom_keys={'.fc': dict(decay_mult=3.0), 'gamma': dict(decay_mult=0.1), '.fc1': dict(decay_mult=2.0)})]


def settings(constructor=None, **paramwise):
    found = dict(optimizer=dict(type='AdamW', lr=0.5, weight_decay=0.25), paramwise_cfg=paramwise)
    return dict(found, constructor=constructor) if constructor else found


def ours(model, **paramwise):
    return rates(model, settings('FocalNetOptimWrapperConstructor', **paramwise))


def rates(model, cfg):
    """Name → (learning rate, weight decay) of each parameter that is optimized."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    found = [(names[parameter], (group['lr'], group['weight_decay']))
             for group in groups for parameter in group['params']]
    assert len(dict(found)) == len(found)
    return dict(found)


def close(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == pytest.approx(expected[name], rel=1e-12), name


def classifier(backbone=None):
    init_default_scope('mmpretrain')
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone or dict(THIN, out_indices=(3,)),
                             neck=dict(type='GlobalAveragePooling'),
                             head=dict(type='LinearClsHead', num_classes=5, in_channels=64)))


@pytest.mark.parametrize('rules', RULES, ids=range(len(RULES)))
@pytest.mark.parametrize('frozen', [-1, 2])
def test_mmpretrains_own(rules, frozen):
    model = classifier(dict(THIN, out_indices=(3,), frozen_stages=frozen))
    theirs = rates(model, settings('LearningRateDecayOptimWrapperConstructor', layer_decay_rate=0.7, **rules))
    assert len({lr for lr, _ in theirs.values()}) == (7 if frozen < 0 else 4)
    close(ours(model, layer_decay_rate=0.7, **rules), theirs)


@pytest.mark.parametrize('backbone', [
    dict(type='SwinTransformer', arch=dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 1, 1])),
    dict(type='VisionTransformer', arch=dict(embed_dims=64, num_layers=3, num_heads=2, feedforward_channels=16),
         img_size=32)], ids=['swin', 'vit'])
def test_mmpretrains_own_on_other_backbones(backbone):
    model = classifier(backbone)
    close(ours(model, layer_decay_rate=0.6, flat_decay_mult=0.0),
          rates(model, settings('LearningRateDecayOptimWrapperConstructor', layer_decay_rate=0.6, flat_decay_mult=0.0)))


def depth_by_hand(name):
    """Blocks before a parameter of depths (1, 1, 2, 1), from 0 for the stem to 6 for the output norms."""
    if name.startswith('patch_embed'):
        return 0
    for depth, beginning in enumerate(('layers.0.', 'layers.1.', 'layers.2.blocks.0.', 'layers.2.', 'layers.3.'), 1):
        if name.startswith(beginning):
            return depth
    return 6


@pytest.mark.parametrize(('path', 'rules'), [
    ('mmdet/maskrcnn_focalnet_t_1x.py', dict(norm_decay_mult=0.0, dwconv_decay_mult=0.5)),
    ('mmdet/atss_focalnet_t_3x.py', dict(bias_lr_mult=2.0, bias_decay_mult=0.0)),
    ('mmseg/upernet_focalnet_t_160k.py', dict(custom_keys={'norm': dict(decay_mult=0.0, lr_mult=3.0)})),
    ('mmpretrain/focalnet_t_in1k.py', {})])
def test_every_library(path, rules, thin_config):
    """mmengine's own rates and decays, the backbone's rates multiplied by what its depth says."""
    cfg = thin_config(path)
    cfg.model.backbone.depths = (1, 1, 2, 1)
    model = build_model(cfg, 'meta')
    expected = {
        name: (lr * (0.5 * 0.8**(6 - depth_by_hand(name.removeprefix('backbone.'))) if 'backbone' in name else 1),
               decay)
        for name, (lr, decay) in rates(model, settings(bypass_duplicate=True, **rules)).items()}
    close(ours(model, layer_decay_rate=0.8, backbone_lr_mult=0.5, bypass_duplicate=True, **rules), expected)
    # The scope of the library finds the constructor by its name, and a pure-Python config's class is taken too.
    from focalnet_mm import FocalNetOptimWrapperConstructor
    close(rates(model, settings(FocalNetOptimWrapperConstructor, layer_decay_rate=0.8, backbone_lr_mult=0.5,
                                bypass_duplicate=True, **rules)), expected)


def test_two_backbones():
    """Each by its own depth, and none of a frozen teacher."""
    model = nn.ModuleDict(dict(student=nn.ModuleDict(dict(backbone=MODELS.build(THIN))),
                               other=MODELS.build(dict(THIN, depths=(1, 1, 1, 1))),
                               teacher=MODELS.build(THIN).requires_grad_(False), head=nn.Linear(2, 2)))
    found = ours(model, layer_decay_rate=0.5)
    assert found['student.backbone.patch_embed.proj.weight'][0] == 0.5 * 0.5**6
    assert found['other.patch_embed.proj.weight'][0] == 0.5 * 0.5**5
    assert found['head.weight'][0] == found['other.norm3.bias'][0] == 0.5
    assert not [name for name in found if name.startswith('teacher')]


@pytest.mark.parametrize('wrap', ['compile', 'checkpoint', 'bare', 'data parallel'])
def test_wrapped_models(wrap):
    """The names of wrapped modules do not hide the depth."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    net = FocalNet(**{key: value for key, value in THIN.items() if key != 'type'})
    model = nn.ModuleDict(dict(backbone=net, head=nn.Linear(2, 2)))
    expected = {id(parameter): (0.5 * 0.5**(6 - depth_by_hand(name.removeprefix('backbone.'))
                                             if name.startswith('backbone') else 0),
                                0 if 'layers.2.blocks.1.norm1' in name else 0.25)
                for name, parameter in model.named_parameters()}
    rules = dict(layer_decay_rate=0.5, custom_keys={'layers.2.blocks.1.norm1': dict(decay_mult=0.0)})
    if wrap == 'compile':
        net.layers[0] = torch.compile(net.layers[0])
        net.layers[2].blocks[1] = torch.compile(net.layers[2].blocks[1])
        model = torch.compile(model)
    elif wrap == 'checkpoint':
        net.layers[2] = checkpoint_wrapper(net.layers[2])
    elif wrap == 'bare':
        model = net
    else:
        model = nn.DataParallel(model)
    groups = build_optim_wrapper(model, settings('FocalNetOptimWrapperConstructor', **rules)).optimizer.param_groups
    assert len(groups) == len(list(model.parameters()))
    for group in groups:
        assert (group['lr'], group['weight_decay']) == expected[id(group['params'][0])]


@pytest.mark.parametrize('whole', [True, False])
def test_sharded_models(whole, tmp_path):
    """FSDP keeps each parameter with use_orig_params; otherwise it joins those of many depths."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    from focalnet_mm.backbone.block import Block, Stage
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = classifier()
        expected = ours(model, layer_decay_rate=0.5)
        model = FullyShardedDataParallel(model, auto_wrap_policy=ModuleWrapPolicy({Block, Stage}),
                                         use_orig_params=whole, device_id=torch.device('cpu'))
        if whole:
            found = ours(model, layer_decay_rate=0.5)
            assert any('_fsdp_wrapped_module' in name for name in found)
            assert {plain_name(name): rates for name, rates in found.items()} == expected
        else:
            with pytest.raises(ValueError, match=r'FSDP has flattened .*: wrap the model with use_orig_params=True'):
                ours(model, layer_decay_rate=0.5)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.train
def test_schedules_and_auto_scale_work_on_it(tmp_path):
    """A real training: warm-up and --auto-scale-lr keep the ratios."""
    runner = tiny_runner(
        tmp_path, optim_wrapper=settings('FocalNetOptimWrapperConstructor', layer_decay_rate=0.5),
        auto_scale_lr=dict(base_batch_size=4, enable=True),
        param_scheduler=dict(type='MultiStepLR', milestones=[1], gamma=0.1, by_epoch=True))
    runner.train()
    rates = sorted({group['lr'] for group in runner.optim_wrapper.optimizer.param_groups}, reverse=True)
    assert rates == pytest.approx([0.5 / 2 * 0.1 * 0.5**depth for depth in range(7)])


@pytest.mark.parametrize(('paramwise', 'message'), [
    (dict(layer_decay_rat=0.7), r'paramwise_cfg\.layer_decay_rat is unknown to FocalNetOptimWrapperConstructor: '
     r'layer_decay_rate is the nearest\.'),
    (dict(norm_decay=0), 'norm_decay is unknown to .*: norm_decay_mult is the nearest'),
    (dict(decay_rate=0.7, decay_type='layer_wise', num_layers=6), 'decay_rate .* it is called layer_decay_rate here'),
    (dict(layer_decay_rate=0.7, num_layers=6), 'num_layers .* leave it out, the backbone tells its depth itself'),
    (dict(zzz=1), 'zzz is unknown to .*: there are layer_decay_rate, backbone_lr_mult, custom_keys'),
    (dict(layer_decay_rate=0), 'layer_decay_rate must be a number, more than 0, got 0'),
    (dict(layer_decay_rate='0.7'), "layer_decay_rate must be a number, more than 0, got '0.7'"),
    (dict(backbone_lr_mult=-1), 'backbone_lr_mult must be a number, 0 or more, got -1')])
def test_bad_settings(paramwise, message):
    with pytest.raises(ValueError, match=message):
        ours(classifier(), **paramwise)


def test_what_it_cannot_do():
    with pytest.raises(ValueError, match='but the Linear has no FocalNet, and no other one with get_layer_depth'):
        ours(nn.Linear(1, 1), layer_decay_rate=0.5)
    with pytest.raises(ValueError, match=r'multiplies the learning rate of the optimizer: give optimizer\.lr'):
        build_optim_wrapper(classifier(), dict(constructor='FocalNetOptimWrapperConstructor',
                                               optimizer=dict(type='AdamW'), paramwise_cfg=dict(backbone_lr_mult=0.1)))
    # Without keys of its own it is mmengine's, for any model.
    assert ours(nn.Linear(1, 1), bias_decay_mult=0.0) == {'weight': (0.5, 0.25), 'bias': (0.5, 0)}


def test_keys_that_change_nothing_are_told(log):
    ours(classifier(), custom_keys={'backbone.stages': dict(decay_mult=0.0), 'fc': dict(decay_mult=0.0)})
    assert [line for line in log if 'changes nothing' in line] == [
        "paramwise_cfg.custom_keys: 'backbone.stages' is in no parameter's name and changes nothing."]


def test_settings_are_left_alone():
    cfg = ConfigDict(settings('FocalNetOptimWrapperConstructor', layer_decay_rate=0.5))
    before = copy.deepcopy(cfg)
    build_optim_wrapper(classifier(), cfg)
    assert cfg == before
    assert isinstance(Config(dict(optim_wrapper=cfg)).pretty_text, str)
