"""What torch's counter is told of our operators, beside what it counts of the plain steps."""

import importlib
import itertools
import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from focalnet_mm.backbone.compute import BlockTensors
from focalnet_mm.backbone.compute.plain import plain_block
from focalnet_mm.releases import HAS_OPERATORS

CHANNELS, KERNELS, SIZE = 24, (3, 5), (2, 6, 7)


def evaluate(compute, training, frozen=()):
    """Operations of a block by operator, without computing any."""
    def tensor(*shape, learns=True):
        return torch.empty(*shape, requires_grad=learns)

    def layer(name, rows, *columns):
        return tuple(tensor(*shape, learns=name not in frozen) for shape in ((rows, *columns), (rows,)))

    with FakeTensorMode():
        c = CHANNELS
        tensors = BlockTensors(
            f=layer('f', 2 * c + len(KERNELS) + 1, c), h=layer('h', c, c, 1, 1), proj=layer('proj', c, c),
            fc1=layer('fc1', 4 * c, c), fc2=layer('fc2', c, 4 * c), norm1=layer('norm1', c), norm2=layer('norm2', c),
            inner_norm=None, kernels=[tensor(c, 1, k, k, learns='kernels' not in frozen) for k in KERNELS], scales=[])
        x = tensor(*SIZE, c)
        inputs = [part for part in (x, *itertools.chain(*tensors.flatten())) if part.requires_grad]
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
            out = compute(x, tensors, [], [1e-5, 1e-5], False, False, torch.float32)
            if training:
                torch.autograd.grad(out, inputs, torch.empty_like(out))
    return counter.get_flop_counts()['Global']


@pytest.mark.skipif(not HAS_OPERATORS, reason='PyTorch 2.4 and later know operators of ours')
@pytest.mark.parametrize('frozen', [(), ('f', 'fc2'), ('kernels', 'h')])
@pytest.mark.parametrize(('module', 'name'), [('cpu', 'block'), ('gpu', 'triton_block')])
def test_operations_are_those_of_the_plain_steps(module, name, frozen, monkeypatch):
    # Outside torch.compile a block that learns is no operator.
    monkeypatch.setattr('focalnet_mm.backbone.compute.operators.is_compiling', lambda: True)
    if module == 'gpu':
        pytest.importorskip('triton', '3.6', reason='triton 3.6 or later is not installed')
    ours = importlib.import_module(f'focalnet_mm.backbone.compute.{module}.block').compute_block
    forward = sum(evaluate(plain_block, False).values())
    training = sum(evaluate(plain_block, True, frozen).values())
    found = {str(operator): count for operator, count in evaluate(ours, True, frozen).items()}
    positions = math.prod(SIZE)
    # The backward pass computes query and modulator once more.
    again = 2 * 2 * positions * CHANNELS**2
    # torch takes the gradient of a depthwise kernel for one of a full kernel.
    depthwise = 0 if 'kernels' in frozen else 2 * positions * CHANNELS * sum(size**2 for size in KERNELS)
    backward = training - forward - (CHANNELS - 1) * depthwise + again
    assert found == {f'focalnet_mm.{name}': forward, f'focalnet_mm.{name}_backward': backward}
