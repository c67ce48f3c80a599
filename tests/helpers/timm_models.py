"""Carry timm's weights over to our names, and stop before our output norms, which timm does not have."""

import re

import torch


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
