"""FocalNet's block over channels-last memory, for CPUs: the numbers of the reference in less time and memory.

Pointwise layers run over pieces of the feature map that stay in the cache, so that what lies between two of them is
never as large as the map. Training keeps what is dear to compute (the context, the levels and the hidden layer before
their activation) and recomputes what is cheap (norms, activations, the query and the modulator). docs/speed.md tells
what each of this gains.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....releases import custom_op, without_autocast
from ..operators import as_given, register, run_block
from ..tensors import BlockTensors, kept_branches, residual_dtype
from .backward import Backward
from .forward import Forward, Kept
from .pointwise import pieces

__all__ = ['compute_block']


def compute_block(x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                  normalize_modulator: bool, dtype: torch.dtype, recompute: bool = False) -> Tensor:
    """What a block computes, see :func:`~..operators.run_block`."""
    return run_block(_block, _compute_block, _compute_gradients, x, tensors, drops, eps, post_norm, normalize_modulator,
                     dtype, recompute)


def _compute_block(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                   drops: list[Tensor], eps: list[float], post_norm: bool, normalize_modulator: bool,
                   dtype: torch.dtype, keep: bool, whole: bool) -> list[Tensor]:
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    with without_autocast(x.device.type):
        return Forward(x, tensors, drops, eps, post_norm, normalize_modulator, dtype).run(keep, whole)


# Operators of their own are whole for torch.compile, which would unroll the pieces, and fuse less, otherwise.
_block = custom_op('focalnet_mm::block', device_types='cpu')(_compute_block)


@_block.register_fake
def _(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor], drops: list[Tensor],
      eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype, keep: bool,
      whole: bool) -> list[Tensor]:
    out = x.new_empty(x.shape, dtype=residual_dtype(x, scales))
    if not keep:
        return [out]
    rows = x.view(-1, x.shape[3])
    levels, hidden = len(kernels), len(BlockTensors.unflatten(parameters, kernels, scales).fc1[0])
    sizes = [len(rows)] if whole else [piece.stop - piece.start for piece in pieces(rows, hidden, dtype)]
    context, aggregated, *maps = (torch.empty_like(rows, dtype=dtype)
                                  for _ in range(2 + levels + kept_branches(scales, post_norm)))
    return [out, *Kept(
        context, rows.new_empty(len(rows), levels + 1, dtype=dtype), aggregated, maps[:levels],
        torch.empty_like(rows, dtype=out.dtype), maps[levels:],
        [rows.new_empty(size, hidden, dtype=dtype) for size in sizes]).flatten()]


def _compute_gradients(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                       drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool,
                       normalize_modulator: bool, dtype: torch.dtype, wanted: list[bool]) -> list[Tensor]:
    """Gradients of the input, the parameters, the kernels and the layer scales, empty where they are not wanted.

    What the forward pass did not keep is computed once more.
    """
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    # The backward pass may run under another autocast than the forward pass did.
    with without_autocast(x.device.type):
        found = (Kept.unflatten(kept, len(kernels), kept_branches(scales, post_norm)) if kept else
                 Forward(x, tensors, drops, eps, post_norm, normalize_modulator, dtype).kept())
        grad_x, grads = Backward(
            grad, x, tensors, drops, found, eps, post_norm, normalize_modulator, dtype, wanted).run()
    return as_given(grad_x, grads, tensors)


_block_backward = custom_op('focalnet_mm::block_backward', device_types='cpu')(_compute_gradients)
register('block', _block, _block_backward)
