"""Autocast that differs between what runs forward and what runs backward."""

import pytest
import torch
from torch import nn

from focalnet_mm import FocalNet
from focalnet_mm.releases import HAS_OPERATORS

ARCH = dict(embed_dims=8, depths=(1, 1), focal_levels=2, focal_windows=3)
WAYS = ['eager', 'recomputed', 'second derivatives', 'float32 within']


class Float32(nn.Module):
    """A model that turns autocast off for its backbone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.autocast('cpu', enabled=False):
            return self.net(x)


def network(implementation, **settings):
    torch.manual_seed(0)
    net = FocalNet(ARCH, implementation=implementation, **settings)
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, mean=float('norm' in name and 'weight' in name), std=0.3)
    return net


def outputs_and_gradients(implementation, way, autocast, **settings):
    """Of a network in float32, with bfloat16 by autocast in the backward pass alone, or around all but the network."""
    net = network(implementation, with_cp=way == 'recomputed', **settings)
    x = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(1)).requires_grad_()
    run = Float32(net) if way == 'float32 within' else net
    if way == 'float32 within':
        run = torch.compile(run, backend='aot_eager')

    def changed(is_wanted):
        return torch.autocast('cpu', torch.bfloat16, enabled=autocast and is_wanted)

    with changed(way == 'float32 within'):
        out = run(x)
    loss = sum(feature.sin().sum() for feature in out)
    with changed(True):
        if way == 'second derivatives':
            grad, = torch.autograd.grad(loss, x, create_graph=True)
            loss = grad.square().sum()
        loss.backward()
    return [*out, x.grad, *(parameter.grad for parameter in net.parameters() if parameter.grad is not None)]


def differs(implementation, way, **settings):
    """By how much of the largest number at most."""
    found, expected = (outputs_and_gradients(implementation, way, autocast, **settings) for autocast in (True, False))
    return max(((actual - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)).item()
               for actual, wanted in zip(found, expected, strict=True))


@pytest.mark.skipif(not HAS_OPERATORS, reason='blocks learn through operators, which PyTorch 2.4 and later have')
@pytest.mark.parametrize('settings', [{}, dict(post_norm=True, layer_scale_init_value=0.5)])
@pytest.mark.parametrize('way', WAYS)
def test_another_one_around_the_backward_pass(way, settings):
    """Blocks heed that of the forward pass alone; second derivatives are of torch's own operations, which heed both."""
    assert differs('channels_last', way, **settings) < (0.05 if way == 'second derivatives' else 1e-5)
