"""The kernels for GPUs on a CPU, beside the plain steps in float64; test_triton.py runs this file in a process with
``TRITON_INTERPRET=1``, which Triton reads when it is imported."""

import random
from collections import defaultdict

import numpy as np
import pytest
import torch
import triton.language as tl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from triton.runtime import interpreter

from focalnet_mm.backbone.compute import BlockTensors
from focalnet_mm.backbone.compute.gpu import aggregation, block, rows
from focalnet_mm.backbone.compute.gpu.aggregation import aggregate, aggregate_backward
from focalnet_mm.backbone.compute.gpu.block import _block, _block_backward, _compute_block
from focalnet_mm.backbone.compute.gpu.launches import launch
from focalnet_mm.backbone.compute.gpu.weights import Weights
from focalnet_mm.benchmark import traffic
from focalnet_mm.benchmark.agreement import DTYPES, Drawn, _spread, agreements, draw, error, evaluate, excess, networks
from tests.backbone.compute.test_autocast import differs
from tests.backbone.test_sharing import CHANGED_IN_PLACE, MEMORY, different_memory, differently_changed_in_place

SWEEP = 15
#: Data types of the map and of the layers, which differ under autocast.
COMPUTED = [*((dtype, dtype) for dtype in DTYPES), *((torch.float32, low) for low in DTYPES[1:])]


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


@settings(max_examples=SWEEP, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(), st.sampled_from(COMPUTED))
def test_block(choice, dtypes):
    """Output and all gradients, as near as the plain steps are in the same data types."""
    assert excess(choice, 'cpu', *dtypes) <= 1


@pytest.mark.parametrize('spoil', ['number', 'shape', 'dtype', 'nan'])
def test_the_comparison_fails(spoil, monkeypatch):
    """Where the kernels return another number, shape or data type."""
    compute = block.compute_block

    def spoiled(*args):
        out = compute(*args)
        if spoil == 'number':
            return out + 1e-3 * out.detach().norm() / out.numel()**0.5
        return {'shape': out[..., None], 'dtype': out.double(), 'nan': out / 0 * 0}[spoil]

    monkeypatch.setattr(block, 'compute_block', spoiled)
    assert not excess(random.Random(1), 'cpu', torch.float32) <= 1


def test_agreements():
    """What the benchmark compares before it measures, as far as a CPU goes."""
    rows = list(agreements('cpu'))
    assert len(rows) == 11
    assert all(row.share <= 1 for row in rows)
    assert {row.reason for row in rows if 'CUDA graph' in row.name or row.name in ('DDP', 'FSDP')} == {'needs a GPU'}
    assert [row.name for row in rows if not row.reason] == [
        '5 blocks, float32, forward and gradients', 'network, float32, training',
        'network, float32, training, checkpointing', 'network, float32, training, norms behind, layer scale',
        'network, torch.compile as one graph', 'the same numbers twice']


def test_in_processes_of_their_own():
    """As on a GPU, where each block has to be compiled for: the same numbers, but for the threads of torch's sums."""
    expected = [excess(random.Random(seed), 'cpu', torch.float32, torch.float32) for seed in (0, 1)]
    assert expected[0] > 2 * expected[1]
    assert _spread('cpu', torch.float32, torch.float32, 2) == pytest.approx(expected, rel=0.3)


class TestAggregation:

    def run(self, size=(2, 5, 6), channels=17, kernels=(3, 5), columns=32):
        torch.manual_seed(0)
        context_gates = torch.randn(size[0] * size[1] * size[2], columns)
        context, gates = context_gates[:, :channels], context_gates[:, channels:channels + len(kernels) + 1]
        taps = Weights.of(plain_tensors(channels, kernels), torch.float32).taps
        aggregated, mean, levels = aggregate(context, gates, kernels, taps, size, True, True)
        grads = torch.zeros_like(context_gates)
        found = aggregate_backward(
            torch.randn(aggregated.shape), context, gates, kernels, taps, mean, levels, size, True, True,
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


class TestNetwork:

    @pytest.mark.parametrize('channels_last', [False, True])
    def test_inference(self, channels_last):
        reference, fused = networks()
        x = torch.randn(2, 3, 17, 40)
        given = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        with torch.no_grad():
            for found, expected in zip(fused.eval()(given), reference.eval()(given), strict=True):
                assert error(found, expected) < 1e-5
                assert found.stride() == expected.stride()

    @pytest.mark.parametrize('training', [False, True])
    def test_compiled(self, training):
        """As one graph, in which a block is one operator."""
        _, fused = networks()
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


@pytest.mark.parametrize('kind', MEMORY)
def test_memory_of_parameters(kind):
    arch = dict(embed_dims=4, depths=(1,), focal_levels=1, focal_windows=3)
    assert different_memory('triton', kind, torch.randn(1, 3, 8, 12), together=True, arch=arch) == []
    if 'sign' in kind:
        x, grad = torch.randn(1, 4, 5, 8), torch.randn(1, 4, 5, 8)
        found = []
        for turned in (lambda value: value, lambda value: torch._neg_view(-value)):
            block = networks()[1].layers[0].blocks[0].train()
            given = turned(x).requires_grad_()
            out = block(given, 'triton')
            found.append([out, *torch.autograd.grad(out, [given, *block.parameters()], turned(grad))])
        for first, second in zip(*found, strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize('kind', CHANGED_IN_PLACE)
def test_results_that_are_changed_in_place(kind):
    arch = dict(embed_dims=4, depths=(2,), focal_levels=1, focal_windows=3)
    assert differently_changed_in_place('triton', kind, torch.randn(1, 3, 8, 12), arch=arch) == []


@pytest.mark.parametrize('way', ['eager', 'recomputed'])
def test_another_autocast_around_the_backward_pass(way):
    assert differs('triton', way) < 1e-5


def arguments(seed, dtype=torch.float32):
    x, tensors, (drops, *rest), _ = draw(random.Random(seed))
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
    drawn = Drawn(x, tensors, [[], [1e-5, 1e-5], False, False], False)
    evaluate(block.compute_block, drawn, 'cpu', torch.float32, torch.bfloat16)
    found = [(name, *(sum(size for _, size in part) for part in touched[number + 1, name]))
             for number, name in enumerate(running)]
    steps = traffic.forward(shape) + traffic.backward(shape)
    expected = [step[:3] for step in steps if 'torch' not in step.name]
    assert found == expected
