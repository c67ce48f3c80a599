"""What Triton has compiled is started directly, and only for what it was compiled for."""

import contextlib

import pytest
import torch

from focalnet_mm.backbone.compute.gpu import launches
from focalnet_mm.backbone.compute.gpu.launches import launch


class Kernel:
    """Notes what it is asked for, as Triton's kernels are: compiled by the call, or as it was compiled."""

    arg_names = ('x', 'y', 'number', 'scale', 'BLOCK', 'FLAG')

    def __init__(self):
        self.compiled, self.started = [], []

    def __getitem__(self, grid):
        def run(*args, num_warps, **constants):
            self.compiled.append((grid, args, num_warps, constants))
            return Compiled(self)
        return run


class Compiled:

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *args: self.kernel.started.append((grid, args))


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(launches, '_compiled', {})
    return Kernel()


X = torch.zeros(64)


def start(kernel, x=X, y=X, number=32, scale=0.5, warps=4, **constants):
    # Constants in another order than the kernel's.
    launch(kernel, (3, 2), warps, x, y, number, scale, **{**dict(FLAG=True, BLOCK=16), **constants})


def test_once_compiled_it_is_started_directly(kernel):
    start(kernel)
    start(kernel, number=48, scale=2.0, y=torch.ones(5))
    assert len(kernel.compiled) == 1
    assert kernel.compiled[0][2:] == (4, dict(FLAG=True, BLOCK=16))
    (grid, (x, y, *rest)), = kernel.started
    # Constants too, in the order of the kernel.
    assert (grid, rest) == ((3, 2, 1), [48, 2.0, 16, True])
    assert x is X
    assert y.tolist() == [1] * 5


@pytest.mark.parametrize('other', [
    dict(number=1), dict(number=33), dict(number=1 << 31), dict(x=X.double()), dict(y=X.to(torch.bfloat16)),
    dict(x=X[1:]), dict(BLOCK=32), dict(FLAG=False), dict(warps=8)], ids=str)
def test_for_anything_else_it_is_compiled(other, kernel):
    start(kernel)
    start(kernel, **other)
    assert len(kernel.compiled) == 2
    assert not kernel.started
    start(kernel)
    start(kernel, **other)
    assert (len(kernel.compiled), len(kernel.started)) == (2, 2)


def test_each_device_has_its_own(kernel, monkeypatch):
    """A kernel runs on the device of its first tensor, whichever is the current one."""
    class OnCard:
        def __init__(self, index):
            self.device = torch.device('cuda', index)

    entered = []
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'device', lambda device: entered.append(device) or contextlib.nullcontext())
    for index in (0, 1, 0, 1):
        launch(kernel, (1,), 4, OnCard(index), X, 1, 1.0, BLOCK=16, FLAG=True)
    assert entered == [torch.device('cuda', 1)] * 2
    assert (len(kernel.compiled), len(kernel.started)) == (2, 2)


def test_what_is_interpreted_is_not_kept(kernel, monkeypatch):
    monkeypatch.setattr(Kernel, '__getitem__', lambda self, grid: lambda *args, **others: self.compiled.append(args))
    start(kernel)
    start(kernel)
    assert len(kernel.compiled) == 2
