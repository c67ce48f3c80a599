"""On which GPUs the Triton kernels were measured to be faster than the reference."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ...releases import is_compiling
from .compiling import decided_while_compiling

__all__ = ['MEASURED', 'Measured', 'is_faster']


class Measured(NamedTuple):
    """What was measured to be faster; docs/speed.md has the figures.

    Attributes:
        card: The kind of GPU, as torch calls it.
        dtypes: In which layers were computed.
        kernel: The largest depthwise kernel of the network. Below it cuDNN's convolutions are fast too.
    """

    card: str
    dtypes: tuple[torch.dtype, ...]
    kernel: int


#: 2026-11-27, FocalNet-T at 800×1216, inference and training without torch.compile.
MEASURED = (Measured('NVIDIA H200', (torch.bfloat16,), 13),)


def is_faster(dtype: torch.dtype, device: torch.device, kernel: int) -> bool:
    """Whether the kernels are known to be faster.

    Args:
        dtype: In which layers are computed.
        device: The GPU.
        kernel: The largest depthwise kernel of the network.
    """
    # Without torch.compile alone.
    return device.type == 'cuda' and not is_compiling() and _is_measured(dtype, device, kernel)


@decided_while_compiling
def _is_measured(dtype: torch.dtype, device: torch.device, kernel: int) -> bool:
    return any(dtype in row.dtypes and kernel >= row.kernel and torch.cuda.get_device_name(device) == row.card
               for row in MEASURED)
