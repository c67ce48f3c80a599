"""A network with a block of each modulation."""

import torch
from torch import nn

from focalnet_mm import FocalNet
from focalnet_mm.backbone.variants import MODULATIONS


def all_in_one(names=tuple(MODULATIONS), **settings):
    """One stage of 8 channels whose blocks have one modulation each, with random tensors."""
    torch.manual_seed(0)
    arch = dict(embed_dims=8, depths=(len(names),), focal_levels=2, focal_windows=3, layer_scale_init_value=0.5,
                post_norm_in_modulation=True)
    net, *others = (FocalNet(dict(arch, modulation=name), **settings) for name in names)
    for i, other in enumerate(others, 1):
        net.layers[0].blocks[i] = other.layers[0].blocks[i]
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, mean=float('weight' in name and parameter.dim() == 1), std=0.3)
    return net
