"""Time and memory of a step of a model, in this process or in one of its own."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..backbone.block import Block
from ..releases import synchronize
from ..run.shipped import shipped
from .models import BUILDERS, build

__all__ = ['DTYPES', 'floor', 'in_new_process', 'machine', 'model_and_images', 'step_of', 'time_step', 'without_tf32']

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
_MEASURED_SECONDS = 2.0


def tensors(outputs: Any) -> list[Tensor]:
    """All feature maps that a backbone returns, in whatever form."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = outputs.values()
    return [tensor for output in outputs for tensor in tensors(output)]


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM at most so far."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def time_step(job: dict[str, Any]) -> dict[str, float]:
    """Median time of a step in seconds, and peak memory of model and step in bytes, in this process.

    The memory of devices other than CPUs and NVIDIA's and AMD's is not known (NaN).
    """
    device = torch.device(job['device'])
    model, images = model_and_images(job)
    before = resident('VmRSS') if device.type == 'cpu' else 0
    step = step_of(job, model, images)
    step()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    while len(times) < 2 or sum(times) < _MEASURED_SECONDS:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    peak = float('nan')
    if device.type == 'cuda':
        peak = torch.cuda.max_memory_allocated(device)
    elif device.type == 'cpu':
        # The images and the model are counted with the step: both begin after the imports.
        held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), images))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before + held
    return dict(seconds=statistics.median(times), peak=peak)


def model_and_images(job: Mapping[str, Any]) -> tuple[Any, Tensor]:
    """What a job measures, on its device: a model, and images (N, 3, H, W)."""
    device = torch.device(job['device'])
    torch.manual_seed(0)
    # The types of Module.to() know no memory format.
    model: Any = build(job)
    images = torch.randn(job['batch'], 3, job['height'], job['width'])
    if 'channels-last' in job['model']:
        model, images = (thing.to(memory_format=torch.channels_last) for thing in (model, images))
    # mmdet's Swin returns nothing from train().
    model.train(job['step'] == 'training')
    model, images = model.to(device), images.to(device)
    if job['mode'] == 'frozen':
        model.requires_grad_(False)
        images.requires_grad_()
    return model, images


def step_of(job: Mapping[str, Any], model: Any, images: Tensor) -> Callable[[], None]:
    """A step of a job, which ends when the device is done."""
    device, training, dtype = images.device, job['step'] == 'training', DTYPES[job['dtype']]
    run = torch.compile(model) if job['mode'] == 'compile' else model

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32), torch.set_grad_enabled(training):
            outputs = tensors(run(images))
            if training:
                first, *others = (output.float().mean() for output in outputs)
                loss = sum(others, first)
        if training:
            loss.backward()
            images.grad = None
            model.zero_grad(set_to_none=True)
        wait_for(device)

    return step


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given; the CPU has."""
    if device.type != 'cpu':
        synchronize(device)


def without_tf32() -> AbstractContextManager[None]:
    """Convolutions on GPUs in float32, which are in TF32 by default."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


def machine(device: str, dtype: str) -> tuple[float, float]:
    """Measured rates of this machine: multiply-adds a second of pointwise layers, bytes a second of a copy.

    In float32 without TF32, in which the sums of the kernels are not either.
    """
    def fastest(run: Callable[[], Any]) -> float:
        times = []
        for _ in range(8):
            started = time.perf_counter()
            run()
            wait_for(torch.device(device))
            times.append(time.perf_counter() - started)
        return min(times)

    channels, pixels = 512, 128
    x = torch.randn(1, channels, pixels, pixels, device=device, dtype=DTYPES[dtype])
    x = x.to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 1, 1, device=device, dtype=DTYPES[dtype])
    with torch.inference_mode(), without_tf32():
        rate = channels**2 * pixels**2 / fastest(lambda: nn.functional.conv2d(x, weight))
        block = torch.zeros(1 << 26, device=device)
        other = torch.empty_like(block)
        bandwidth = 2 * block.nbytes / fastest(lambda: other.copy_(block))
    return rate, bandwidth


def floor(job: dict[str, Any]) -> float:
    """Seconds that the arithmetic of ours takes at the machine's rate, or its reading and writing if that is more."""
    with torch.device('meta'):
        model = BUILDERS['focalnet-mm reference'](job['arch'], job['window'])
        images = torch.empty(job['batch'], 3, job['height'], job['width'])
    moved = sum(parameter.numel() for parameter in model.parameters())

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel()

    for module in model.modules():
        if isinstance(module, Block):
            module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    rate, bandwidth = machine(job['device'], job['dtype'])
    # A backward pass multiplies twice as much as the forward pass, and reads and writes what that did twice.
    factor = 3 if job['step'] == 'training' else 1
    return factor * max(counter.get_total_flops() / 2 / rate, moved * DTYPES[job['dtype']].itemsize / bandwidth)


def in_new_process(job: dict[str, Any]) -> dict[str, float]:
    """What a process of its own returns: :func:`time_step`, or what the command has for the job's model.

    Raises:
        RuntimeError: The process failed; says with which message.
    """
    # Unlike `python -m`, a file does not put the folder one stands in before all packages.
    tool = shipped() / 'tools' / 'benchmark.py'
    command = [sys.executable, '-W', 'ignore', str(tool), '--worker', json.dumps(job)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
        raise RuntimeError(f'{job["model"]} failed ({job["step"]}, {job["size"]}, {job["dtype"]}, '
                         f'{job["mode"]}): {reason}') from RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])
