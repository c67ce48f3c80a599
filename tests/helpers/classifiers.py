"""Classifiers of the authors, timm, transformers and mmpretrain, and their tensors."""

import re

import torch
from mmengine.config import Config
from torch import nn

from focalnet_mm import ARCHS, FocalNet
from tests.helpers.tools import ROOT

# timm's names of our variants.
TIMM_NAMES = {name: f'focalnet_{name.replace("-", "_")}' for name in ARCHS
              if not any(part in name for part in ('deep', 'dw', 'iso', 'overlap'))}


def classifier(arch, classes=5):
    """An official classifier, narrow, with random tensors everywhere."""
    torch.manual_seed(0)
    last = len(ARCHS[arch]['depths']) - 1
    net = FocalNet(arch, embed_dims=8, out_indices=(last,))
    state = {name.replace(f'norm{last}.', 'norm.') if name.startswith(f'norm{last}.') else name: torch.randn(p.shape)
             for name, p in net.state_dict().items()}
    channels = net.out_channels[0]
    state.update({'head.weight': torch.randn(classes, channels), 'head.bias': torch.randn(classes)})
    return net, state


def transformers_classifier(arch, classes=5):
    from transformers import FocalNetConfig, FocalNetForImageClassification
    settings = ARCHS[arch]
    scaled_up = settings.get('post_norm', False)
    return FocalNetForImageClassification(FocalNetConfig(
        embed_dim=8, depths=list(settings['depths']), focal_levels=[settings['focal_levels']] * 4,
        focal_windows=[settings['focal_windows']] * 4, use_conv_embed=scaled_up, use_layerscale=scaled_up,
        use_post_layernorm=scaled_up, normalize_modulator=settings.get('normalize_modulator', False),
        use_post_layernorm_in_modulation=settings.get('post_norm_in_modulation', False),
        patch_size=4, num_labels=classes)).eval()


def timm_model(arch):
    """timm's model with 8 channels."""
    from timm.models.focalnet import _create_focalnet
    settings = ARCHS[arch]
    scaled_up = settings.get('post_norm', False)
    return _create_focalnet(TIMM_NAMES[arch], pretrained=False, embed_dim=8, depths=settings['depths'], num_classes=5,
                            focal_levels=[settings['focal_levels']] * 4, focal_windows=[settings['focal_windows']] * 4,
                            use_overlap_down=scaled_up, use_post_norm=scaled_up,
                            use_post_norm_in_modulation=settings.get('post_norm_in_modulation', False),
                            layerscale_value=1e-4 if scaled_up else None).eval()


def logits(net, state, x):
    """What the official classifier computes, from our backbone."""
    last = max(net.out_indices)
    net.load_state_dict({name.replace('norm.', f'norm{last}.') if name.startswith('norm.') else name: tensor
                         for name, tensor in state.items() if not name.startswith('head.')})
    pooled = net.eval()(x)[0].mean((2, 3))
    return nn.functional.linear(pooled, state['head.weight'], state['head.bias'])


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def mmpretrain_classifier(arch, classes=5, **settings):
    from mmpretrain.registry import MODELS
    from mmpretrain.utils import register_all_modules
    register_all_modules()
    cfg = Config.fromfile(ROOT / 'configs' / 'mmpretrain' / 'focalnet_t_in1k.py').model
    last = len(ARCHS[arch]['depths']) - 1
    cfg.backbone.update(arch=arch, out_indices=(last,), **settings)
    cfg.head.update(num_classes=classes, in_channels=settings['embed_dims'] << last)
    return MODELS.build(cfg).eval()


def load_timm(net, reference):
    """Load the weights of a timm FocalNet: every tensor of the backbone but the output norms must be hit."""
    own, ready = net.state_dict(), {}
    post_norm = any('norm1_post' in name for name in reference.state_dict())
    for name, tensor in reference.state_dict().items():
        if name.startswith(('norm.', 'head.')):
            continue
        name = name.replace('stem.', 'patch_embed.')
        name = re.sub(r'layers\.(\d+)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', name)
        name = name.replace('modulation.norm.', 'modulation.ln.')
        name = re.sub(r'ls(\d)\.gamma', r'gamma_\1', name)
        if post_norm:
            name = re.sub(r'norm(\d)_post', r'norm\1', name)
        ready[name] = tensor.reshape(own[name].shape)
    missing = net.load_state_dict(ready, strict=False).missing_keys
    assert {name.split('.')[0] for name in missing} == {f'norm{i}' for i in net.out_indices}


def timm_features(net, x):
    """The outputs of the stages before the output norms."""
    norms = {i: getattr(net, f'norm{i}') for i in net.out_indices}
    for i in norms:
        setattr(net, f'norm{i}', torch.nn.Identity())
    try:
        return net(x)
    finally:
        for i, norm in norms.items():
            setattr(net, f'norm{i}', norm)


def random_net(arch='tiny-lrf', **settings):
    """A narrow backbone with random tensors everywhere."""
    net = FocalNet(arch, **{'embed_dims': 8, 'depths': (1, 1, 2, 1), **settings})
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    return net


def classification_state(net):
    """A state dict as the authors' classifiers have it: one norm and a head in place of the output norms."""
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith('norm')}
    channels = net.out_channels[-1]
    state.update({'norm.weight': torch.randn(channels), 'norm.bias': torch.randn(channels),
                  'head.weight': torch.randn(10, channels), 'head.bias': torch.randn(10)})
    return state


def relative_error(actual, expected):
    """The largest difference, relative to the greatest value that is expected."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()
