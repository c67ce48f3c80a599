"""The implementations of FocalNet's block: for what they are, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as nn_module
from torch.utils._device import DeviceContext

from ...releases import HAS_OPERATORS, autocast_dtype, is_compiling, is_exporting
from . import cpu
from .compiling import decided_while_compiling
from .measured import is_faster
from .needs import TRITON_DEVICES, onednn_runs, triton_runs
from .tensors import BlockTensors

__all__ = ['IMPLEMENTATIONS', 'TABLE', 'BlockTensors', 'Implementation', 'choose', 'compute_block']


@dataclass(frozen=True)
class Implementation:
    """A way to compute a block.

    Attributes:
        name: What ``FocalNet(implementation=…)`` calls it.
        device_types: Where it runs; empty where it runs everywhere.
        dtypes: With which data types ``'auto'`` takes it, since it is faster there; empty for all.
        runs: What else it needs: whether this process has it, for a data type and a device.
        is_faster: Whether ``'auto'`` takes it: for a data type, a device and the largest kernel of the network.
    """

    name: str
    device_types: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    runs: Callable[[torch.dtype, torch.device], bool]
    is_faster: Callable[[torch.dtype, torch.device, int], bool] = lambda dtype, device, kernel: True


#: The implementations, the preferred ones first; the last one takes what no other does.
TABLE = (
    Implementation('channels_last', ('cpu',), (torch.float32, torch.bfloat16), onednn_runs),
    Implementation('triton', TRITON_DEVICES, (), triton_runs, is_faster),
    Implementation('reference', (), (), lambda dtype, device: True),
)
#: What ``FocalNet(implementation=…)`` takes.
IMPLEMENTATIONS = ('auto', 'reference', *(row.name for row in TABLE[:-1]))

_GLOBAL_HOOKS = [getattr(nn_module, name) for name in (
    '_global_forward_hooks', '_global_forward_pre_hooks', '_global_backward_hooks', '_global_backward_pre_hooks')]
_FUNCTIONS = [(nn.functional, name, getattr(nn.functional, name)) for name in (
    'linear', 'conv2d', 'gelu', 'layer_norm', 'dropout')]


def choose(implementation: str, x: Tensor, kernel: int = 0) -> str:
    """Which implementation computes a forward pass.

    On CPUs it is ``channels_last`` in float32 and bfloat16, measured as in docs/speed.md, where oneDNN is there and
    enabled; on GPUs ``triton`` where :data:`~.measured.MEASURED` says that it is faster, else the reference. Whatever
    looks at the single operations, or replaces them, gets the reference, whose operators are torch's own: tracing,
    export, modes that intercept torch's functions or operators, ``torch.func``, forward-mode derivatives, hooks of all
    modules. torch.compile gets operators of ours.

    Args:
        implementation: One of :data:`IMPLEMENTATIONS`.
        x: The images.
        kernel: The largest depthwise kernel of the network.

    Returns:
        The name of a row of :data:`TABLE`.

    Raises:
        ValueError: The implementation that was asked for does not run on the device of the images.
    """
    if implementation == 'reference' or torch.jit.is_tracing() or is_exporting():
        return 'reference'
    device = x.device.type
    dtype = autocast_dtype(device) or x.dtype
    for row in TABLE:
        if implementation not in ('auto', row.name):
            continue
        if row.device_types and device not in row.device_types:
            if implementation == row.name:
                raise ValueError(f'implementation={row.name!r} runs on {" and ".join(row.device_types)}, but the '
                                 f"images are on {device}: take 'auto', or move them.")
            continue
        if row is not TABLE[-1] and (not _has_operator() or _is_watched()):
            continue
        wanted = implementation == row.name or (
            (not row.dtypes or dtype in row.dtypes) and row.is_faster(dtype, x.device, kernel))
        if wanted and row.runs(dtype, x.device):
            return row.name
    return TABLE[-1].name


def compute_block(implementation: str, x: Tensor, tensors: BlockTensors, *args: Any) -> Tensor:
    """What a block computes.

    Args:
        implementation: What :func:`choose` returned, other than ``'reference'``.
        x: Feature map (N, H, W, C), contiguous.
        tensors: The block's parameters.
        *args: What :func:`~.operators.run_block` takes besides.

    Returns:
        Feature map (N, H, W, C), contiguous.
    """
    if implementation == 'triton':
        from .gpu.block import compute_block as compute
        return compute(x, tensors, *args)
    return cpu.block.compute_block(x, tensors, *args)


def _has_operator() -> bool:
    """Whether the block is an operator where it has to be one: for derivatives and for torch.compile."""
    return HAS_OPERATORS or not (torch.is_grad_enabled() or is_compiling())


def _is_watched() -> bool:
    """Whether something takes part in every operation, or has replaced some."""
    if _has_replaced():
        return True
    if is_compiling():
        return False
    return bool(
        torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or (torch._C._len_torch_function_stack() and any(
            type(torch._C._get_function_stack_at(i)) is not DeviceContext
            for i in range(torch._C._len_torch_function_stack()))))


@decided_while_compiling
def _has_replaced() -> bool:
    """Whether there are hooks of all modules, or other functions in place of torch's own."""
    return any(_GLOBAL_HOOKS) or any(getattr(owner, name) is not function for owner, name, function in _FUNCTIONS)
