"""How long each kernel of a block runs on a GPU, beside the least that its reading, writing and arithmetic take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from .measure import DTYPES, machine
from .traffic import Shape, Step, backward, forward

__all__ = ['KernelTime', 'kernel_table', 'kernel_times', 'shares']

_REPEATS = 10


class KernelTime(NamedTuple):
    """All launches of a kernel in a training step of a block.

    Attributes:
        name: The kernel.
        launches: How many there are.
        seconds: How long they take.
        floor: How long they take at least.
    """

    name: str
    launches: int
    seconds: float
    floor: float


def shares(steps: Sequence[Step], seconds: Mapping[str, float], bandwidth: float, rate: float) -> list[KernelTime]:
    """Measured times of the Triton kernels beside their roofline.

    Args:
        steps: The steps of the passes that were measured.
        seconds: Kernel → seconds of all of its launches.
        bandwidth: Bytes a second.
        rate: Multiply-adds a second, in float32.

    Returns:
        A row for each kernel, in the order in which they first run.

    Raises:
        RuntimeError: A kernel that should have run was not measured.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for step in steps:
        if not step.name.startswith('torch:'):
            found[step.name].append(max((step.read + step.written) / bandwidth, step.multiply_adds / rate))
    missing = [name for name in found if name not in seconds]
    if missing:
        raise RuntimeError(f'the profiler has not seen {", ".join(missing)}, only {", ".join(seconds) or "nothing"}')
    return [KernelTime(name, len(floors), seconds[name], sum(floors)) for name, floors in found.items()]


def kernel_times(job: Mapping[str, Any]) -> list[KernelTime]:
    """Profile a training step of a block of FocalNet's first stage.

    Args:
        job: ``device``, ``dtype``, ``height``, ``width`` and ``batch`` of the images, ``channels`` of the first stage,
            sizes of its ``kernels``.

    Returns:
        A row for each kernel.
    """
    from ..backbone.compute.gpu.block import compute_block
    from ..backbone.compute.tensors import BlockTensors
    device, dtype, channels = job['device'], DTYPES[job['dtype']], job['channels']
    shape = Shape(job['batch'], -(-job['height'] // 4), -(-job['width'] // 4), channels, tuple(job['kernels']),
                  low=dtype.itemsize)

    def pair(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return (torch.randn(*size, device=device).div_(size[-1]**0.5).requires_grad_(),
                torch.zeros(size[0], device=device).requires_grad_())

    tensors = BlockTensors(
        f=pair(2 * channels + len(shape.kernels) + 1, channels), h=pair(channels, channels),
        proj=pair(channels, channels), fc1=pair(4 * channels, channels), fc2=pair(channels, 4 * channels),
        norm1=pair(channels), norm2=pair(channels), inner_norm=None,
        kernels=[torch.randn(channels, 1, k, k, device=device).div_(k).requires_grad_() for k in shape.kernels],
        scales=[])
    x = torch.randn(shape.count, shape.height, shape.width, channels, device=device, requires_grad=True)

    def step() -> None:
        compute_block(x, tensors, [], [1e-5, 1e-5], False, False, dtype).sum().backward()

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(_REPEATS):
            step()
        torch.cuda.synchronize(device)
    seconds: dict[str, float] = defaultdict(float)
    events: Any = profiler.events()
    for event in events:
        # Microseconds; before 2.4 devices were all called CUDA.
        taken: float = getattr(event, 'self_device_time_total', 0) or getattr(event, 'self_cuda_time_total', 0)
        seconds[event.name] += taken / 1e6 / _REPEATS
    rate, _ = machine(device, 'float32')
    return shares(forward(shape) + backward(shape), seconds, machine(device, job['dtype'])[1], rate)


def kernel_table(rows: Sequence[KernelTime]) -> str:
    """The rows as a Markdown table."""
    lines = ['| kernel | launches | µs | least µs | share of roofline |', '|---|---|---|---|---|']
    lines += [f'| {row.name} | {row.launches} | {row.seconds * 1e6:.0f} | {row.floor * 1e6:.0f} | '
              f'{row.floor / row.seconds:.0%} |' for row in rows]
    return '\n'.join(lines) + '\n'
