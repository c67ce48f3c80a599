"""The implementations of FocalNet's block, and the choice between them."""

from __future__ import annotations

import torch
from torch import Tensor

from .cpu.block import compute_block
from .tensors import BlockTensors

__all__ = ['IMPLEMENTATIONS', 'BlockTensors', 'choose', 'compute_block']

#: What ``FocalNet(implementation=…)`` takes.
IMPLEMENTATIONS = ('auto', 'reference', 'channels_last')


def choose(implementation: str, x: Tensor) -> str:
    """Which implementation computes a forward pass.

    On CPUs it is ``channels_last`` in float32 and bfloat16, measured as in docs/speed.md; on GPUs, where nothing
    has been measured yet, the reference. What traces or exports a model gets the reference, whose operators are
    torch's own; torch.compile gets operators of ours.

    Args:
        implementation: One of :data:`IMPLEMENTATIONS`.
        x: The images.

    Returns:
        ``reference`` or ``channels_last``.
    """
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return 'reference'
    if implementation != 'auto':
        return implementation
    if x.device.type != 'cpu':
        return 'reference'
    dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype
    return 'channels_last' if dtype in (torch.float32, torch.bfloat16) else 'reference'
