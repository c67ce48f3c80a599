"""Parameters that are shared, derived, hooked or of odd strides, and classes that are not torch's own."""

import pytest
import torch
from torch import nn

from focalnet_mm import FocalNet
from focalnet_mm.backbone import block as block_module
from focalnet_mm.releases import HAS_OPERATORS

SETTINGS = dict(arch=dict(embed_dims=8, depths=(2, 1), focal_levels=2, focal_windows=3))


def network(implementation, change=None, **settings):
    torch.manual_seed(0)
    net = FocalNet(implementation=implementation, **{**SETTINGS, **settings})
    for parameter in net.parameters():
        nn.init.normal_(parameter, mean=0.3, std=0.3)
    if change:
        change(net.layers[0].blocks[0])
    return net


def loss_of(net, x):
    return sum(feature.sin().sum() for feature in net(x))


def images():
    return torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))


def gradients(net, create_graph=False, x=None):
    parameters = list(dict.fromkeys(net.parameters()))
    return torch.autograd.grad(loss_of(net, images() if x is None else x), parameters, create_graph=create_graph)


def agree(found, expected, tolerance=1e-4):
    for actual, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance * max(wanted.abs().max().item(), 1e-6))


#: How memory may hold a parameter.
MEMORY = {'with gaps': lambda values: torch.stack([values, torch.full_like(values, 9)], -1)[..., 0],
          'one number a row': lambda values: values[..., :1].expand(values.shape),
          'backwards': lambda values: values.transpose(0, -1).contiguous().transpose(0, -1),
          'a sign that is still to be turned': lambda values: torch._neg_view(-values)}
NORMS_EVERYWHERE = dict(post_norm_in_modulation=True, layer_scale_init_value=0.5)


def different_memory(implementation, kind, x, together=False, **settings):
    """Which parameters of a block, each, or all vectors together, lead to other numbers than the reference's, held in
    another way."""
    settings = {**NORMS_EVERYWHERE, **settings}
    wrong = []
    parameters = dict(network('reference', **settings).layers[0].blocks[0].named_parameters())
    vectors = [name for name, parameter in parameters.items() if parameter.dim() == 1]
    for name in [vectors] if together else [[name] for name in parameters]:
        def change(block, name=name):
            for one in name:
                parameter = block.get_parameter(one)
                parameter.data = MEMORY[kind](parameter.data)

        found, expected = ([*net(x), *gradients(net, x=x)] for net in (
            network(way, change, **settings) for way in (implementation, 'reference')))
        try:
            agree(found, expected)
        except AssertionError:
            wrong += name
    return wrong


@pytest.mark.parametrize('kind', MEMORY)
@pytest.mark.parametrize('post_norm', [False, True])
def test_memory_of_parameters(kind, post_norm):
    assert different_memory('channels_last', kind, images()[:1, :, :16], post_norm=post_norm) == []


def tie_norms(block):
    block.norm2.weight = block.norm1.weight


def tie_biases(block):
    block.mlp.fc2.bias = block.modulation.proj.bias


def hook_a_weight(block):
    block.mlp.fc1.weight.register_hook(lambda grad: 2 * grad)


@pytest.mark.parametrize('change', [tie_norms, tie_biases, hook_a_weight])
@pytest.mark.parametrize('create_graph', [False, True])
def test_gradients_of_shared_and_hooked_parameters(change, create_graph):
    agree(gradients(network('auto', change), create_graph), gradients(network('reference', change), create_graph))


def test_a_derived_weight():
    found = []
    for implementation in ('auto', 'reference'):
        net = network(implementation)
        weight = net.layers[0].blocks[0].norm1.weight
        out = torch.func.functional_call(net, {'layers.0.blocks.0.norm2.weight': 2 * weight}, (images(),))
        found.append(torch.autograd.grad(sum(feature.sin().sum() for feature in out), [weight], create_graph=True))
    agree(*found)


def test_many_gradients_at_once():
    found = []
    for implementation in ('auto', 'reference'):
        x = images().requires_grad_()
        out = network(implementation)(x)[-1]
        seeds = torch.eye(3).repeat_interleave(out.numel(), 1)[:, :out.numel()].reshape(3, *out.shape)
        seeds = seeds + torch.arange(3.0).view(3, 1, 1, 1, 1)
        found.append(torch.autograd.grad(out, [x], seeds, is_grads_batched=True))
    agree(*found)


def double_in_place(module, args, out):
    return out.mul_(2)


def double_what_is_given(module, args):
    args[0].mul_(2)


CHANGED_IN_PLACE = {
    'by a hook of the block': lambda net: net.block(0, 0).register_forward_hook(double_in_place),
    'by a hook of the next block': lambda net: net.block(0, 1).register_forward_pre_hook(double_what_is_given),
    'detached': lambda net: net.block(0, 0).register_forward_hook(lambda module, args, out: out.detach_()),
    'features': lambda net: net.register_forward_hook(
        lambda module, args, out: tuple(feature.mul_(3) for feature in out))}


def differently_changed_in_place(implementation, kind, x, **settings):
    """By which kinds of recomputing outputs and gradients differ from the reference's, or end in an error."""
    wrong = []
    for with_cp in (False, True):
        found = []
        for way in (implementation, 'reference'):
            net = network(way, with_cp=with_cp, **settings)
            CHANGED_IN_PLACE[kind](net)
            given = x.clone().requires_grad_()
            out = net(given)
            grads = torch.autograd.grad(sum(feature.sin().sum() for feature in out), [given, *net.parameters()],
                                        allow_unused=True)
            found.append([*out, *(grad for grad in grads if grad is not None)])
        try:
            agree(*found)
        except (AssertionError, ValueError):
            wrong.append(with_cp)
    return wrong


@pytest.mark.parametrize('kind', CHANGED_IN_PLACE)
def test_results_that_are_changed_in_place(kind):
    assert differently_changed_in_place('channels_last', kind, images()) == []


@pytest.mark.skipif(not HAS_OPERATORS, reason='blocks learn through operators, which PyTorch 2.4 and later have')
@pytest.mark.parametrize('layout', [
    lambda tensor: tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor,
    lambda tensor: tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor])
def test_saved_tensors_that_come_back_in_other_strides(layout):
    """Of a block beside itself: gradients of torch's own layer_norm are wrong where its input comes back so."""
    block, x, found = network('channels_last').block(0, 0), torch.randn(2, 5, 6, 8), []
    for unpack in (layout, lambda tensor: tensor):
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach().clone(), unpack):
            loss = block(x, 'channels_last').sin().sum()
        found.append(torch.autograd.grad(loss, [*block.parameters()]))
    agree(*found)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(('owner', 'name', 'value'), [
    (nn, 'Linear', Doubled), (nn.GELU, 'forward', lambda self, x: x.relu()),
    (nn.LayerNorm, 'forward', lambda self, x: x.tanh()), (nn.Linear, '__call__', lambda self, x: 2 * self.forward(x)),
    (nn.Conv2d, '_conv_forward', lambda self, x, weight, bias: 2 * nn.functional.conv2d(
        x, weight, bias, self.stride, self.padding, self.dilation, self.groups)),
    (block_module.Block, '_branch', lambda self, x, norm, layer, gamma: layer(x)),
    (block_module, 'MLP', type('Silent', (block_module.MLP,), dict(forward=lambda self, x: 0 * x)))])
def test_what_was_replaced_before_building(monkeypatch, owner, name, value):
    monkeypatch.setattr(owner, name, value, raising=False)
    with torch.no_grad():
        agree(network('auto')(images()), network('reference')(images()))


def test_what_was_replaced_since(monkeypatch):
    default, reference = network('auto'), network('reference')
    monkeypatch.setattr(nn.Linear, '__call__', lambda self, x: 2 * self.forward(x), raising=False)
    with torch.no_grad():
        agree(default(images()), reference(images()))


@pytest.mark.parametrize('settings', [
    {}, dict(layer_scale_init_value=0.5), dict(post_norm=True), dict(post_norm=True, layer_scale_init_value=0.5)])
def test_stochastic_depth_under_autocast(settings):
    arch = {**SETTINGS['arch'], **settings}
    found = []
    for implementation in ('auto', 'reference'):
        net = network(implementation, arch=arch, drop_path_rate=0.6).train()
        torch.manual_seed(3)
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            found.append(net(torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1)))[-1].float())
    # Other images would be dropped, or none: per image, since bfloat16 rounds.
    distance = (found[0] - found[1]).flatten(1).norm(dim=1) / found[1].flatten(1).norm(dim=1)
    assert distance.median() < 0.05
    assert (distance > 0.3).sum() == 0


def test_no_hidden_layer():
    with torch.no_grad():
        agree(network('auto', mlp_ratio=0.0)(images()), network('reference', mlp_ratio=0.0)(images()))


def test_hooks_of_all_modules_while_compiling():
    default, reference = network('auto'), network('reference')
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, out: 2 * out if isinstance(module, nn.GELU) else None)
    try:
        with torch.no_grad():
            agree(torch.compile(default, backend='eager')(images()), reference(images()))
    finally:
        handle.remove()
