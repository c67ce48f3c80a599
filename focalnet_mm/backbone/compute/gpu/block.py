"""FocalNet's block over channels-last memory, for GPUs: focal aggregation and what lies between the linear layers in
Triton, the linear layers by torch.

Training keeps what the form for CPUs keeps (the context, the levels and the hidden layer before their activation), and
recomputes what is cheap: norms, activations, the query and the modulator.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

import torch
from torch import Tensor

from ....releases import custom_op, without_autocast
from ..operators import register, run_block
from ..tensors import BlockTensors, kept_branches, residual_dtype
from .backward import Backward
from .forward import Forward, Kept
from .weights import context_columns, kept_sizes

__all__ = ['compute_block']

Pairs = tuple[list[Tensor], list[Tensor]]


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
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    hidden, (elements, taps) = len(tensors.fc1[0]), kept_sizes(tensors)
    aggregated, *maps = (torch.empty_like(rows, dtype=dtype)
                         for _ in range(1 + levels + kept_branches(scales, post_norm)))
    return [out, *Kept(
        rows.new_empty(len(rows), context_columns(channels, levels), dtype=dtype), aggregated,
        x.new_empty(len(x), channels, dtype=torch.float32), torch.empty_like(rows, dtype=out.dtype),
        rows.new_empty(len(rows), hidden, dtype=dtype),
        [rows.new_empty(elements, dtype=dtype), rows.new_empty(taps, dtype=torch.float32)], maps[:levels],
        maps[levels:]).flatten()]


def _compute_gradients(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                       drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool,
                       normalize_modulator: bool, dtype: torch.dtype, wanted: list[bool]) -> list[Tensor]:
    """Gradients of the input, the parameters, the kernels and the layer scales, empty where they are not wanted.

    What the forward pass did not keep is computed once more.
    """
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    # The backward pass may run under another autocast than the forward pass did.
    with without_autocast(x.device.type):
        found = (Kept.unflatten(kept, len(kernels)) if kept else
                 Forward(x, tensors, drops, eps, post_norm, normalize_modulator, dtype).kept())
        grad_x, grads = Backward(
            grad, x, tensors, drops, found, eps, post_norm, normalize_modulator, dtype, wanted).run()
    return _as_given(grad_x, grads, tensors)


def _as_given(grad_x: Tensor, grads: BlockTensors, tensors: BlockTensors) -> list[Tensor]:
    """Gradients in the shapes and data types of what they belong to, empty where they are not wanted, in few launches.

    All are copies: the results of an operator must not share memory, as sums do.
    """
    results = [grad_x]
    copies: dict[tuple[torch.dtype, torch.dtype], Pairs] = defaultdict(lambda: ([], []))
    for found, tensor in zip(itertools.chain(*grads.flatten()), itertools.chain(*tensors.flatten()), strict=True):
        is_wanted = found.numel() > 0
        results.append(torch.empty_like(tensor, memory_format=torch.contiguous_format) if is_wanted else
                       tensor.new_empty(0))
        if is_wanted:
            to, given = copies[found.dtype, tensor.dtype]
            to.append(results[-1])
            given.append(found.view(tensor.shape))
    for to, given in copies.values():
        torch._foreach_copy_(to, given)
    return results


_block_backward = custom_op('focalnet_mm::triton_block_backward')(_compute_gradients)
register('triton_block', _block, _block_backward)
