"""How kernels are started."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ['launch']


def launch(kernel: Any, grid: tuple[int, ...], warps: int, *args: Any, **constants: Any) -> None:
    """Start a kernel on the device of its first tensor, which need not be the current one."""
    with torch.cuda.device_of(next(arg for arg in args if isinstance(arg, Tensor))):
        kernel[grid](*args, **constants, num_warps=warps)
