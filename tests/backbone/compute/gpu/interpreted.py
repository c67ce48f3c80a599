"""The kernels for GPUs on a CPU, beside the plain steps in float64; test_triton.py runs this file in a process with
``TRITON_INTERPRET=1``, which Triton reads when it is imported."""

import copy
import itertools
import random
from collections import defaultdict

import numpy as np
import pytest
import torch
import triton.language as tl
from torch import nn
from triton.runtime import interpreter

from focalnet_mm import FocalNet
from focalnet_mm.backbone.compute import BlockTensors
from focalnet_mm.backbone.compute.gpu import aggregation, rows
from focalnet_mm.backbone.compute.gpu.aggregation import aggregate, aggregate_backward
from focalnet_mm.backbone.compute.gpu.block import _block, _block_backward, _compute_block, compute_block
from focalnet_mm.backbone.compute.gpu.launches import launch
from focalnet_mm.backbone.compute.plain import plain_block
from tests.helpers import traffic

SWEEP = 25
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def _rounding(monkeypatch):
    """Cards round to bfloat16, and torch does; the interpreter cuts off."""
    convert = interpreter._convert_float

    def rounded(values, given, wanted, mode):
        if (given, wanted) != (tl.float32, tl.bfloat16):
            return convert(values, given, wanted, mode)
        low = torch.from_numpy(np.ascontiguousarray(values)).to(torch.bfloat16)
        return low.view(torch.int16).numpy().view(np.uint16).reshape(values.shape)

    monkeypatch.setattr(interpreter, '_convert_float', rounded)


def error(found, expected):
    """Relative to the size of the whole; where there is nothing but rounding errors, absolute."""
    difference = (found.double() - expected.double()).norm().item()
    return difference / max(expected.double().norm().item(), 1e-2 * expected.numel()**0.5)


def draw(seed):
    """A random block: what ``plain_block`` takes, in float64."""
    choice = random.Random(seed)
    torch.manual_seed(seed)
    channels = choice.choice((1, 3, 8, 16, 16, 17))
    large = seed % 8 == 0
    count, height, width = choice.choice((1, 2)), *(choice.choice(sizes) for sizes in ((1, 2, 4, 5), (1, 3, 8, 9)))
    kernels = [choice.choice((9, 11, 13) if large and i == 0 else (1, 3, 5, 7)) for i in range(seed % 5)]
    hidden = choice.choice((1, 2 * channels, 4 * channels))

    def pair(rows, columns, *more):
        return torch.randn(rows, columns, *more).double() / columns**0.5, 0.3 * torch.randn(rows).double()

    def norm():
        return 1 + 0.3 * torch.randn(channels).double(), 0.3 * torch.randn(channels).double()

    tensors = BlockTensors(
        f=pair(2 * channels + len(kernels) + 1, channels), h=pair(channels, channels, 1, 1),
        proj=pair(channels, channels), fc1=pair(hidden, channels), fc2=pair(channels, hidden), norm1=norm(),
        norm2=norm(), inner_norm=norm() if choice.random() < 0.4 else None,
        kernels=[torch.randn(channels, 1, k, k).double() / k for k in kernels],
        scales=[torch.rand(channels).double() for _ in range(2)] if choice.random() < 0.4 else [])
    drops = [torch.tensor([0.0, 1.25][:count]).view(-1, 1, 1, 1).double(), torch.full((count, 1, 1, 1), 1.25).double()]
    x = torch.randn(count, height, width, channels).double()
    eps = [1e-5, 1e-6, 1e-5][:3 if tensors.inner_norm else 2]
    settings = [drops if choice.random() < 0.4 else [], eps, choice.random() < 0.5, choice.random() < 0.5]
    return x, tensors, settings, choice.random() < 0.3


def evaluate(compute, x, tensors, settings, dtype, *args):
    """What a block returns, and its gradients."""
    drops, *rest = settings
    lists = tensors.flatten()
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (x, *itertools.chain(*lists))]
    given = iter(inputs[1:])
    parts = [list(itertools.islice(given, len(part))) for part in lists]
    out = compute(inputs[0], BlockTensors.unflatten(*parts), [drop.to(dtype) for drop in drops], *rest, *args)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(out.dtype)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True)]


@pytest.mark.parametrize('seed', range(SWEEP))
def test_block(seed):
    """Output and all gradients, as near as the plain steps are in the same data type."""
    dtype = DTYPES[seed % 3] if seed % 4 else torch.float32
    x, tensors, settings, recompute = draw(seed)
    rounded = BlockTensors.unflatten(*([tensor.to(dtype).double() for tensor in part] for part in tensors.flatten()))
    x = x.to(dtype).double()
    exact = evaluate(plain_block, x, rounded, settings, torch.float64, torch.float64)
    theirs = evaluate(plain_block, x, rounded, settings, dtype, dtype)
    ours = evaluate(compute_block, x, rounded, settings, dtype, dtype, recompute)
    for found, other, expected in zip(ours, theirs, exact, strict=True):
        if expected is None:
            assert found is None or not found.abs().max()
            continue
        assert found.shape == expected.shape
        assert found.dtype == dtype
        assert error(found, expected) <= 1.5 * error(other, expected) + (1e-5 if dtype == torch.float32 else 2e-3)


@pytest.mark.parametrize('autocast', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('seed', [1, 3, 7, 9])
def test_mixed_precision(seed, autocast):
    """Convolutions and linear layers in a lower data type, norms and sums in float32, as under autocast."""
    x, tensors, settings, recompute = draw(seed)
    exact = evaluate(plain_block, x, tensors, settings, torch.float64, torch.float64)
    theirs = evaluate(plain_block, x, tensors, settings, torch.float32, autocast)
    ours = evaluate(compute_block, x, tensors, settings, torch.float32, autocast, recompute)
    for found, other, expected in zip(ours, theirs, exact, strict=True):
        assert found.dtype == torch.float32
        assert error(found, expected) <= 1.5 * error(other, expected) + 2e-3


class TestAggregation:

    def run(self, size=(2, 5, 6), channels=17, kernels=(3, 5), columns=32):
        torch.manual_seed(0)
        context_gates = torch.randn(size[0] * size[1] * size[2], columns)
        context, gates = context_gates[:, :channels], context_gates[:, channels:channels + len(kernels) + 1]
        weights = [torch.randn(channels, 1, k, k) / k for k in kernels]
        aggregated, mean, levels = aggregate(context, gates, weights, size, True, True)
        grads = torch.zeros_like(context_gates)
        found = aggregate_backward(
            torch.randn(aggregated.shape), context, gates, weights, mean, levels, size, True, True,
            grads[:, :channels], grads[:, channels:channels + len(kernels) + 1])
        assert not grads[:, channels + len(kernels) + 1:].any()
        return [aggregated, mean, *levels, grads, *found]

    def test_it_is_deterministic(self):
        for first, second in zip(self.run(), self.run(), strict=True):
            assert torch.equal(first, second)

    def test_the_same_from_wide_offsets(self, monkeypatch):
        """As maps get them whose tiles reach over more than 2³¹ elements."""
        expected = self.run()
        monkeypatch.setattr(aggregation, '_is_wide', lambda *_: True)
        for first, second in zip(self.run(), expected, strict=True):
            assert torch.equal(first, second)

    def test_rows_may_lie_any_distance_apart(self):
        first, second = self.run(columns=32), self.run(columns=20)
        assert first[0].shape == second[0].shape
        assert all(torch.isfinite(part).all() for part in (*first, *second))

    def test_several_blocks_of_channels_and_shares_of_pixels(self, monkeypatch):
        expected = self.run(size=(1, 6, 6), channels=40, kernels=(3,), columns=48)
        monkeypatch.setattr('focalnet_mm.backbone.compute.gpu.classes._SHARES', (10, 4))
        found = self.run(size=(1, 6, 6), channels=40, kernels=(3,), columns=48)
        for first, second in zip(found, expected, strict=True):
            torch.testing.assert_close(first, second)


def network(**settings):
    torch.manual_seed(0)
    reference = FocalNet('tiny-lrf', implementation='reference', **{
        **dict(embed_dims=8, depths=(1, 1), focal_levels=2, focal_windows=3, out_indices=(0, 1)), **settings})
    for name, parameter in reference.named_parameters():
        nn.init.normal_(parameter, mean=float('norm' in name and 'weight' in name), std=0.3)
    fused = copy.deepcopy(reference)
    fused.implementation = 'triton'
    return reference, fused


class TestNetwork:

    @pytest.mark.parametrize('settings', [{}, dict(with_cp=True), dict(post_norm=True, layer_scale_init_value=0.1)])
    def test_training(self, settings):
        reference, fused = network(**settings)
        x = torch.randn(1, 3, 30, 21)
        grads = []
        for net in (reference.double(), fused):
            features = net(x.to(next(net.parameters()).dtype))
            sum(feature.sin().sum() for feature in features).backward()
            grads.append([*features, *(parameter.grad for parameter in net.parameters())])
        for expected, found in zip(*grads, strict=True):
            assert error(found, expected) < 1e-5

    @pytest.mark.parametrize('channels_last', [False, True])
    def test_inference(self, channels_last):
        reference, fused = network()
        x = torch.randn(2, 3, 17, 40)
        given = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        with torch.no_grad():
            for found, expected in zip(fused.eval()(given), reference.eval()(given), strict=True):
                assert error(found, expected) < 1e-5
                assert found.stride() == expected.stride()

    @pytest.mark.parametrize('training', [False, True])
    def test_compiled(self, training):
        """As one graph, in which a block is one operator."""
        _, fused = network()
        compiled = torch.compile(fused.train(training), fullgraph=True, backend='aot_eager')
        x = torch.randn(1, 3, 24, 16)
        found = []
        with torch.set_grad_enabled(training):
            for net in (compiled, fused):
                fused.zero_grad()
                features = net(x)
                if training:
                    sum(feature.sin().sum() for feature in features).backward()
                found.append([*features, *(parameter.grad for parameter in fused.parameters() if training)])
        for first, second in zip(*found, strict=True):
            torch.testing.assert_close(first, second)


def arguments(seed, dtype=torch.float32):
    x, tensors, settings, _ = draw(seed)
    drops, *rest = settings
    lists = [[tensor.to(dtype) for tensor in part] for part in tensors.flatten()]
    return x.to(dtype), *lists, [drop.to(dtype) for drop in drops], *rest, dtype


@pytest.mark.parametrize('seed', [1, 2, 5, 15])
def test_torch_is_told_the_truth(seed):
    """Shapes, strides and data types of the results, and what may be written to."""
    given = arguments(seed)
    learning = [given[0], *([tensor.clone().requires_grad_() for tensor in part] for part in given[1:4]), *given[4:]]
    torch.library.opcheck(_block, (*learning, True, False), test_utils=(
        'test_schema', 'test_autograd_registration', 'test_faketensor'))
    out, *kept = _block(*given, True, False)
    for wanted in ([True] * 11, [True] + [False] * 10, [False] * 10 + [True]):
        torch.library.opcheck(_block_backward, (out, *given[:5], kept, *given[5:], wanted), test_utils=(
            'test_schema', 'test_faketensor'))


def plain_tensors(channels, kernels):
    """Those of a block of FocalNet-T's kind."""
    def pair(rows, columns):
        return torch.randn(rows, columns) / columns**0.5, torch.randn(rows)

    norm = torch.ones(channels), torch.zeros(channels)
    return BlockTensors(pair(2 * channels + len(kernels) + 1, channels), pair(channels, channels),
                        pair(channels, channels), pair(4 * channels, channels), pair(channels, 4 * channels), norm,
                        norm, None, [torch.randn(channels, 1, k, k) for k in kernels], [])


def test_what_a_training_keeps():
    """Beside its input, no more than ten maps and a fraction: 11 maps in all."""
    x = torch.randn(1, 2, 2, 96)
    _, *kept = _compute_block(x, *plain_tensors(96, (1, 1, 1)).flatten(), [], [1e-5, 1e-5], False, False, torch.float32,
                              True, False)
    assert sum(part.numel() for part in kept if len(part) == 4) <= 10.2 * x.numel()


def test_the_kernels_touch_what_the_model_of_their_traffic_says(monkeypatch):
    """Every address once, beside the shapes' count."""
    shape = traffic.Shape(1, 5, 6, 20, (3, 5), high=4)
    touched, running = defaultdict(lambda: (set(), set())), []

    def count(which, pointers, mask):
        read_or_written = touched[len(running), running[-1]][which]
        size = pointers.get_element_ty().primitive_bitwidth // 8
        read_or_written.update((address, size) for address in pointers.data[mask.data].tolist())

    builder = interpreter.InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store
    monkeypatch.setattr(builder, 'create_masked_load', lambda self, pointers, mask, *args: (
        count(0, pointers, mask), load(self, pointers, mask, *args))[1])
    monkeypatch.setattr(builder, 'create_masked_store', lambda self, pointers, value, mask, *args: (
        count(1, pointers, mask), store(self, pointers, value, mask, *args))[1])
    for module in (aggregation, rows):
        monkeypatch.setattr(module, 'launch', lambda kernel, *args, **constants: (
            running.append(kernel.fn.__name__), launch(kernel, *args, **constants)))
    x = torch.randn(1, 5, 6, 20)
    tensors = plain_tensors(20, (3, 5))
    evaluate(compute_block, x, tensors, [[], [1e-5, 1e-5], False, False], torch.float32, torch.bfloat16)
    found = [(name, *(sum(size for _, size in part) for part in touched[number + 1, name]))
             for number, name in enumerate(running)]
    expected = [tuple(step) for step in traffic.forward(shape) + traffic.backward(shape) if 'torch' not in step.name]
    assert found == expected
