"""How long each kernel of a block runs on a GPU, beside the least that its reading, writing and arithmetic take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType

from .measure import DTYPES, machine, model_and_images, step_of
from .traffic import Shape, Step, backward, forward

__all__ = ['KernelTime', 'Launch', 'busy', 'kernel_table', 'kernel_times', 'launches_of', 'shares']

_REPEATS = 10


class Launch(NamedTuple):
    """A kernel, or a copy, that a GPU ran: how it is called, and for how many seconds it ran."""

    name: str
    seconds: float


class KernelTime(NamedTuple):
    """All launches of a kernel in a training step of a block.

    Attributes:
        name: The kernel, with the size of its depthwise kernel, where there is one.
        launches: How many there are.
        seconds: How long they take.
        floor: How long they take at least.
    """

    name: str
    launches: int
    seconds: float
    floor: float


def launches_of(step: Callable[[], None], repeats: int) -> list[Launch]:
    """What a GPU runs in so many steps, in its order. A step ends when the GPU is done."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(repeats):
            step()
    events: Any = profiler.events()
    # The rest are calls of CUDA on the host.
    found = [event for event in events if event.device_type == DeviceType.CUDA]
    return [Launch(event.name, event.time_range.elapsed_us() / 1e6)
            for event in sorted(found, key=lambda event: event.time_range.start)]


def shares(steps: Sequence[Step], launches: Sequence[Launch], repeats: int, bandwidth: float,
           rate: float) -> list[KernelTime]:
    """Measured times of the Triton kernels beside their roofline.

    Args:
        steps: The steps of the passes that were measured.
        launches: What the GPU ran.
        repeats: How often it ran the passes.
        bandwidth: Bytes a second.
        rate: Multiply-adds a second, in float32.

    Returns:
        A row for each kernel, and size of it, in the order in which they first run.

    Raises:
        RuntimeError: A kernel ran more or less often than the steps say.
    """
    ours: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if not step.name.startswith('torch:'):
            ours[step.name].append(step)
    rows: dict[str, KernelTime] = {}
    for name, expected in ours.items():
        seconds = [launch.seconds for launch in launches if launch.name == name]
        if len(seconds) != repeats * len(expected):
            raise RuntimeError(f'the profiler has seen {name} {len(seconds)} times in {repeats} steps, which should '
                               f'run it {repeats * len(expected)} times')
        for i, step in enumerate(expected):
            label = f'{name} {step.size}' if step.size else name
            floor = max((step.read + step.written) / bandwidth, step.multiply_adds / rate)
            row = rows.get(label, KernelTime(label, 0, 0.0, 0.0))
            rows[label] = KernelTime(label, row.launches + 1, row.seconds + sum(seconds[i::len(expected)]) / repeats,
                                     row.floor + floor)
    return list(rows.values())


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
        torch.cuda.synchronize(device)

    step()
    launches = launches_of(step, _REPEATS)
    rate, _ = machine(device, 'float32')
    return shares(forward(shape) + backward(shape), launches, _REPEATS, machine(device, job['dtype'])[1], rate)


def busy(job: Mapping[str, Any]) -> tuple[float, int]:
    """Seconds for which a GPU works in a step of a job's model, and how many launches that are."""
    step = step_of(job, *model_and_images(job))
    step()
    launches = launches_of(step, _REPEATS)
    return sum(launch.seconds for launch in launches) / _REPEATS, round(len(launches) / _REPEATS)


def kernel_table(rows: Sequence[KernelTime]) -> str:
    """The rows as a Markdown table."""
    lines = ['| kernel | launches | µs | least µs | share of roofline |', '|---|---|---|---|---|']
    lines += [f'| {row.name} | {row.launches} | {row.seconds * 1e6:.0f} | {row.floor * 1e6:.0f} | '
              f'{row.floor / row.seconds:.0%} |' for row in rows]
    return '\n'.join(lines) + '\n'
