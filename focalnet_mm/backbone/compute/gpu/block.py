"""FocalNet's block over channels-last memory, for GPUs: focal aggregation and what lies between the linear layers in
Triton, the linear layers by torch.

Training keeps what the form for CPUs keeps (the context, the levels and the hidden layer before their activation), and
recomputes what is cheap: norms, activations, the query and the modulator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....releases import custom_op
from ..operators import as_given, register, run_block
from ..tensors import BlockTensors, kept_branches, residual_dtype
from .backward import Backward
from .forward import Forward, Kept, context_columns

__all__ = ['compute_block']


def compute_block(x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                  normalize_modulator: bool, dtype: torch.dtype, recompute: bool = False) -> Tensor:
    """What a block computes, see :func:`~..operators.run_block`."""
    return run_block(_block, _compute_block, x, tensors, drops, eps, post_norm, normalize_modulator, dtype, recompute)


def _compute_block(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                   drops: list[Tensor], eps: list[float], post_norm: bool, normalize_modulator: bool,
                   dtype: torch.dtype, keep: bool, whole: bool) -> list[Tensor]:
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    return Forward(x, tensors, drops, eps, post_norm, normalize_modulator, dtype).run(keep)


# On every device: the interpreter of Triton takes tensors of CPUs.
_block = custom_op('focalnet_mm::triton_block')(_compute_block)


@_block.register_fake
def _(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor], drops: list[Tensor],
      eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype, keep: bool,
      whole: bool) -> list[Tensor]:
    out = x.new_empty(x.shape, dtype=residual_dtype(x, scales))
    if not keep:
        return [out]
    rows, channels, levels = x.view(-1, x.shape[3]), x.shape[3], len(kernels)
    hidden = len(BlockTensors.unflatten(parameters, kernels, scales).fc1[0])
    aggregated, *maps = (torch.empty_like(rows, dtype=dtype)
                         for _ in range(1 + levels + kept_branches(scales, post_norm)))
    return [out, *Kept(
        rows.new_empty(len(rows), context_columns(channels, levels), dtype=dtype), aggregated,
        x.new_empty(len(x), channels, dtype=torch.float32), torch.empty_like(rows, dtype=out.dtype),
        rows.new_empty(len(rows), hidden, dtype=dtype), maps[:levels], maps[levels:]).flatten()]


@custom_op('focalnet_mm::triton_block_backward')
def _block_backward(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                    drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool,
                    normalize_modulator: bool, dtype: torch.dtype, wanted: list[bool]) -> list[Tensor]:
    """Gradients of the input, the parameters, the kernels and the layer scales, empty where they are not wanted.

    What the forward pass did not keep is computed once more.
    """
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    found = (Kept.unflatten(kept, len(kernels)) if kept else
             Forward(x, tensors, drops, eps, post_norm, normalize_modulator, dtype).kept())
    grad_x, grads = Backward(grad, x, tensors, drops, found, eps, post_norm, normalize_modulator, dtype, wanted).run()
    return as_given(grad_x, grads, tensors)


register('triton_block', _block, _block_backward)
