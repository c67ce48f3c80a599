"""A generator of changes: whatever of a block is changed, the default computes what the modules as they stand compute.

For each module of a block, each of its attributes, parameters, children and methods is changed, and each kind of
wrapper that people put around layers is put around it. After each change the fused implementation and the reference
must agree, in values and in gradients; where the reference fails, so must the other.
"""

import copy
import functools
import pickle
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils import parametrizations, parametrize, prune

from focalnet_mm import FocalModulation
from focalnet_mm.backbone.block import Block
from focalnet_mm.releases import HAS_OPERATORS

# Not of the computation: bookkeeping of torch's own, and what says how to compute.
LEFT_OUT = {'_built', 'training', '_parameters', '_buffers', '_modules', '_is_full_backward_hook',
            '_non_persistent_buffers_set'}


def build(kind='pre-norm'):
    torch.manual_seed(0)
    block = Block(8, FocalModulation(8, 2, 3, post_norm=kind == 'norms inside', normalize_modulator=kind != 'pre-norm'),
                  mlp_ratio=2.0, drop_rate=0.0, drop_path_rate=0.3, post_norm=kind != 'pre-norm',
                  layer_scale_init_value=0.0 if kind == 'pre-norm' else 0.5)
    for parameter in block.parameters():
        nn.init.normal_(parameter, mean=0.3, std=0.3)
    return block.eval()


class Doubled(nn.Module):
    """What stands around a layer doubles what it returns."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *args):
        return 2 * self.layer(*args)


class Lora(nn.Module):
    """A low-rank update beside a linear layer, as PEFT and mmpretrain put it there."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


class Tagged(torch.Tensor):
    """A tensor of a class of its own, as quantised and distributed ones are."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        found = super().__torch_function__(function, types, args, kwargs or {})
        return found * 2 if function is nn.functional.linear else found


#: Between an attribute and the value that it has already, in another type.
SAME = '=='


def others(value):
    """Other values of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1, value * 2 + 0.5, -value - 1]
    if isinstance(value, str):
        return ['tanh', 'reflect', 'circular', 'none']
    if isinstance(value, tuple):
        return [tuple(item + 1 if isinstance(item, int) else item for item in value), value[:1], value * 2]
    if value is None:
        return [1, 'tanh']
    return []


def retyped(value):
    """The same value in other types."""
    if isinstance(value, (bool, int, float)):
        return [float(value), np.array(value)[()], np.array(value), torch.tensor(value), torch.tensor([value, value]),
                np.array([value, value])]
    if isinstance(value, tuple):
        return [list(value), np.array(value)]
    return []


def attribute_changes():
    """(name, function that changes a block) for each attribute of each module."""
    for path, module in build('norms inside').named_modules():
        for name, value in vars(module).items():
            if name in LEFT_OUT or isinstance(value, (dict, set)):
                continue
            for sign, other in (*(('=', other) for other in others(value)), *((SAME, same) for same in retyped(value))):
                yield (f'{path}.{name} {sign} {other!r}',
                       lambda block, path=path, name=name, other=other: setattr(
                           block.get_submodule(path), name, other))
        if path:
            yield f'{path}.new = 1', lambda block, path=path: setattr(block.get_submodule(path), 'new', 1)


def parameter_changes():
    new = dict(
        doubled=lambda p: nn.Parameter(p.detach() * 2), frozen=lambda p: p.detach().requires_grad_(False),
        float64=lambda p: nn.Parameter(p.detach().double()), longer=lambda p: nn.Parameter(torch.cat([p, p]).detach()),
        tagged=lambda p: nn.Parameter(p.detach().as_subclass(Tagged)),
        missing=lambda p: None, sparse=lambda p: nn.Parameter(p.detach().to_sparse()))
    for path, _ in build('norms inside').named_parameters():
        owner, _, name = path.rpartition('.')
        for kind, change in new.items():
            def apply(block, owner=owner, name=name, change=change):
                module = block.get_submodule(owner)
                parameter = getattr(module, name)
                changed = change(parameter)
                delattr(module, name)
                if isinstance(changed, nn.Parameter) or changed is None:
                    module.register_parameter(name, changed)
                else:
                    setattr(module, name, changed)
            yield f'{path} {kind}', apply
        yield f'{path}.data doubled', lambda block, path=path: block.get_parameter(path).data.mul_(2)
        yield (f'{path}.data in float64',
               lambda block, path=path: setattr(block.get_parameter(path), 'data', block.get_parameter(path).double()))


def wrap(block, path, wrapper):
    owner, _, name = path.rpartition('.')
    parent = block.get_submodule(owner)
    parent._modules[name] = wrapper(parent._modules[name])


def patched(module):
    original = module.forward
    module.forward = lambda *args: 2 * original(*args)


def offloaded(module):
    """As accelerate does it: a patched call brings the weights, which are on the meta device until then."""
    original, weights = module.forward, dict(module._parameters)
    for name, weight in weights.items():
        if weight is not None:
            module._parameters[name] = nn.Parameter(weight.to('meta'))

    def forward(*args):
        module._parameters.update(weights)
        return original(*args)

    module.forward = forward


HOOKS = {
    'forward': lambda m: m.register_forward_hook(lambda m, a, out: out * 2),
    'forward with kwargs': lambda m: m.register_forward_hook(lambda m, a, k, out: out * 2, with_kwargs=True),
    'forward, always': lambda m: m.register_forward_hook(lambda m, a, out: out * 2, always_call=True),
    'before forward': lambda m: m.register_forward_pre_hook(lambda m, a: (a[0] * 2, *a[1:])),
    'backward': lambda m: m.register_full_backward_hook(lambda m, given, got: tuple(
        None if g is None else g * 2 for g in given)),
    'before backward': lambda m: m.register_full_backward_pre_hook(lambda m, got: tuple(
        None if g is None else g * 2 for g in got)),
}
WRAPPERS = {
    'exchanged for nothing': (lambda m: True, lambda b, p: wrap(b, p, lambda m: nn.Identity())),
    'doubled': (lambda m: True, lambda b, p: wrap(b, p, Doubled)),
    'in a sequence': (lambda m: True, lambda b, p: wrap(b, p, lambda m: nn.Sequential(m, nn.ReLU()))),
    'exchanged for one of a subclass': (lambda m: True, lambda b, p: setattr(
        b.get_submodule(p), '__class__', type('Sub', (type(b.get_submodule(p)),), dict(
            forward=lambda self, *args: 2 * super(type(self), self).forward(*args))))),
    'patched': (lambda m: True, lambda b, p: patched(b.get_submodule(p))),
    'patched by a partial': (lambda m: True, lambda b, p: setattr(b.get_submodule(p), 'forward', functools.partial(
        lambda forward, *args: 3 * forward(*args), b.get_submodule(p).forward))),
    'patched by a method': (lambda m: True, lambda b, p: setattr(b.get_submodule(p), 'forward', types.MethodType(
        lambda self, *args: 2 * type(self).forward(self, *args), b.get_submodule(p)))),
    'offloaded': (lambda m: True, lambda b, p: offloaded(b.get_submodule(p))),
    'with a low-rank update': (lambda m: isinstance(m, nn.Linear), lambda b, p: wrap(b, p, Lora)),
    'parametrised': (lambda m: hasattr(m, 'weight'), lambda b, p: parametrize.register_parametrization(
        b.get_submodule(p), 'weight', Doubled(nn.Identity()))),
    'weight-normed': (lambda m: isinstance(m, (nn.Linear, nn.Conv2d)), lambda b, p: parametrizations.weight_norm(
        b.get_submodule(p))),
    'weight-normed in the old way': (lambda m: isinstance(m, (nn.Linear, nn.Conv2d)), lambda b, p: nn.utils.weight_norm(
        b.get_submodule(p))),
    'spectral-normed': (lambda m: isinstance(m, (nn.Linear, nn.Conv2d)), lambda b, p: parametrizations.spectral_norm(
        b.get_submodule(p))),
    'pruned': (lambda m: hasattr(m, 'weight'), lambda b, p: prune.l1_unstructured(
        b.get_submodule(p), 'weight', amount=0.5)),
    'with a buffer': (lambda m: True, lambda b, p: b.get_submodule(p).register_buffer('extra', torch.ones(1))),
    'with another child': (lambda m: True, lambda b, p: b.get_submodule(p).add_module('extra', nn.Linear(2, 2))),
    'in training mode': (lambda m: True, lambda b, p: b.get_submodule(p).train()),
    'in float64': (lambda m: any(True for _ in m.parameters()), lambda b, p: b.get_submodule(p).double()),
    'in bfloat16': (lambda m: any(True for _ in m.parameters()), lambda b, p: b.get_submodule(p).bfloat16()),
    **{f'hooked {name}': (lambda m: not isinstance(m, nn.ModuleList), lambda b, p, hook=hook: hook(b.get_submodule(p)))
       for name, hook in HOOKS.items()},
}


def module_changes():
    for path, module in build('norms inside').named_modules():
        if not path:
            continue
        for name, (fits, change) in WRAPPERS.items():
            if fits(module):
                yield f'{path} {name}', lambda block, path=path, change=change: change(block, path)
    yield 'linear layers quantised', lambda block: quantize_dynamic(block, {nn.Linear}, inplace=True)
    yield 'all in training mode', lambda block: block.train()
    yield 'all in bfloat16', lambda block: block.bfloat16()
    yield 'all in float64', lambda block: block.double()
    yield 'all frozen', lambda block: block.requires_grad_(False)
    yield 'copied', lambda block: None


CHANGES = dict([*attribute_changes(), *parameter_changes(), *module_changes()])


def outcome(block, x, implementation, learning):
    """Value and gradients, or the kind of the error."""
    torch.manual_seed(7)
    x = x.clone().requires_grad_(learning)
    try:
        with torch.set_grad_enabled(learning):
            out = block(x, implementation)
            if not learning:
                return [out]
            (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    except Exception as error:
        return type(error)
    grads = [parameter.grad for parameter in block.parameters()]
    for parameter in block.parameters():
        parameter.grad = None
    return [out, x.grad, *grads]


def agree(found, expected):
    """Whether two outcomes are the same but for rounding."""
    if isinstance(found, type) or isinstance(expected, type):
        return found is expected
    greatest = max(value.nan_to_num().abs().max().item() for value in expected if value is not None)
    for actual, wanted in zip(found, expected, strict=True):
        if wanted is None or actual is None:
            if any(value is not None and value.any() for value in (actual, wanted)):
                return False
            continue
        tolerance = 2e-2 if wanted.dtype == torch.bfloat16 else 1e-5
        if actual.dtype != wanted.dtype or not torch.allclose(actual, wanted, rtol=0, atol=tolerance * greatest,
                                                              equal_nan=True):
            return False
    return True


@pytest.mark.skipif(not HAS_OPERATORS, reason='blocks learn through operators, which PyTorch 2.4 and later have')
@pytest.mark.parametrize('kind', ['pre-norm', 'norms inside'])
@pytest.mark.parametrize('learning', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_changes(kind, learning, record_property):
    x = torch.randn(2, 5, 7, 8, generator=torch.Generator().manual_seed(1))
    tried, failed, wrong = 0, 0, []
    for name, change in CHANGES.items():
        block = build(kind)
        # The first call may not decide for the next ones.
        block(x, 'channels_last')
        try:
            change(block)
        except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
            # What this kind of block does not have.
            continue
        expected, found = (outcome(block, x, implementation, learning) for implementation in (
            'reference', 'channels_last'))
        tried += 1
        failed += isinstance(expected, type)
        if f' {SAME} ' in name and expected is TypeError and not isinstance(found, type):
            # Some of torch's functions refuse a number for its type alone; without them it is the number that it was.
            expected = outcome(build(kind), x, 'reference', learning)
        if not agree(found, expected):
            wrong.append(name)
    assert not wrong, f'{len(wrong)} of {tried}'
    record_property('changes', tried)
    print(f'{tried} changes, of which the reference refuses {failed}')
    assert tried > 500


@pytest.mark.slow
def test_a_blind_comparison_would_be_seen(monkeypatch):
    """The generator finds what it is for: with the recording switched off it fails."""
    monkeypatch.setattr('focalnet_mm.backbone.block.is_as_built', lambda recording, root: True)
    with pytest.raises(AssertionError):
        test_changes('pre-norm', False, lambda *_: None)


@pytest.mark.parametrize('copied', [copy.copy, copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
def test_copies_have_a_record_of_their_own(copied):
    """A copy is computed as it is built, or by the reference; a change to it is seen."""
    x = torch.randn(1, 5, 7, 8)
    block = copied(build())
    assert agree(*(outcome(block, x, implementation, False) for implementation in ('channels_last', 'reference')))
    block.mlp.act = nn.Identity()
    assert agree(*(outcome(block, x, implementation, False) for implementation in ('channels_last', 'reference')))
