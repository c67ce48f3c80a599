"""How kernels are started."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ['launch']

#: What a kernel was compiled for → what came out, and the names of its constants in their order.
_compiled: dict[tuple[Any, ...], tuple[Any, list[str]]] = {}


def launch(kernel: Any, grid: tuple[int, ...], warps: int, first: Tensor, *rest: Any, **constants: Any) -> None:
    """Start a kernel on the device of its first argument, which need not be the current one.

    Triton looks at each argument on every call, which takes longer than a small kernel. What it has compiled is
    started directly while nothing differs that it compiles for.
    """
    device = first.device
    if device.index is None or device.index == torch.cuda.current_device():
        _start(kernel, grid, warps, device.index, (first, *rest), constants)
    else:
        with torch.cuda.device(device):
            _start(kernel, grid, warps, device.index, (first, *rest), constants)


def _start(kernel: Any, grid: tuple[int, ...], warps: int, device: int | None, args: tuple[Any, ...],
           constants: dict[str, Any]) -> None:
    key = (kernel, device, warps, *constants.values(), *[
        (arg.dtype, arg.data_ptr() % 16 == 0) if isinstance(arg, Tensor)
        # What is 1, a multiple of 16 or needs 64 bits is compiled for.
        else (arg == 1, arg % 16 == 0, arg >> 31) if isinstance(arg, int) else None for arg in args])
    found = _compiled.get(key)
    if found is None:
        compiled = kernel[grid](*args, **constants, num_warps=warps)
        # The interpreter compiles nothing.
        if compiled is not None:
            _compiled[key] = compiled, kernel.arg_names[len(args):]
        return
    compiled, names = found
    compiled[(*grid, 1, 1)[:3]](*args, *[constants[name] for name in names])
