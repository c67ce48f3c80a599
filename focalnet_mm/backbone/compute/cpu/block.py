"""FocalNet's block over channels-last memory, for CPUs: the numbers of the reference in less time and memory.

Pointwise layers run over pieces of the feature map that stay in the cache, so that what lies between two of them is
never as large as the map. Training keeps what is dear to compute (the context, the levels and the hidden layer before
their activation) and recomputes what is cheap (norms, activations, the query and the modulator). docs/speed.md tells
what each of this gains.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from ....releases import custom_op, is_compiling
from ..plain import plain_block
from ..tensors import BlockTensors
from .backward import WANTED, Backward
from .forward import Forward, Kept, kept_branches, residual_dtype
from .pointwise import pieces

__all__ = ['compute_block']


def compute_block(x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                  normalize_modulator: bool, dtype: torch.dtype, recompute: bool = False) -> Tensor:
    """What a block computes, with a graph where derivatives are wanted; second ones go through the plain steps.

    Args:
        x: Feature map (N, H, W, C), contiguous.
        tensors: The block's parameters.
        drops: What stochastic depth multiplies the results of modulation and MLP with, each (N, 1, 1, 1); or nothing.
        eps: That of ``norm1``, ``norm2`` and, where there is one, the norm inside the modulation.
        post_norm: Whether the norms come behind modulation and MLP.
        normalize_modulator: Whether to divide the aggregated context by the number of levels + 1.
        dtype: In which to compute convolutions and linear layers; norms and residual sums stay as they are.
        recompute: Whether the backward pass computes once more what it needs, in place of keeping it.

    Returns:
        Feature map (N, H, W, C), contiguous.
    """
    lists = tensors.flatten()
    learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *itertools.chain(*lists)))
    # torch.compile takes the whole as one operator; called without it or a graph, that would only cost time.
    compiling = is_compiling()
    run = _block if learning or compiling else _compute_block
    keep = learning and not recompute
    return run(x, *lists, drops, eps, post_norm, normalize_modulator, dtype, keep, compiling)[0]


def _compute_block(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                   drops: list[Tensor], eps: list[float], post_norm: bool, normalize_modulator: bool,
                   dtype: torch.dtype, keep: bool, whole: bool) -> list[Tensor]:
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
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


@custom_op('focalnet_mm::block_backward', device_types='cpu')
def _block_backward(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                    drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool,
                    normalize_modulator: bool, dtype: torch.dtype, wanted: list[bool]) -> list[Tensor]:
    """Gradients of the input, the parameters, the kernels and the layer scales, empty where they are not wanted.

    What the forward pass did not keep is computed once more.
    """
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    found = (Kept.unflatten(kept, len(kernels), kept_branches(scales, post_norm)) if kept else
             Forward(x, tensors, drops, eps, post_norm, normalize_modulator, dtype).kept())
    grad_x, grads = Backward(grad, x, tensors, drops, found, eps, post_norm, normalize_modulator, dtype, wanted).run()
    given = itertools.chain(*tensors.flatten())
    return [grad_x, *(found.view_as(tensor).to(tensor.dtype) if len(found) else tensor.new_empty(0)
                      for found, tensor in zip(itertools.chain(*grads.flatten()), given, strict=True))]


@_block_backward.register_fake
def _(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
      drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool, normalize_modulator: bool,
      dtype: torch.dtype, wanted: list[bool]) -> list[Tensor]:
    is_wanted = dict(zip(WANTED, wanted, strict=True))
    layers = [name for name in WANTED[1:-2] for _ in range(2)][:len(parameters)]
    names = [*layers, *['kernels'] * len(kernels), *['scales'] * len(scales)]
    return [torch.empty_like(x), *(
        torch.empty_like(tensor, memory_format=torch.contiguous_format) if is_wanted[name] else tensor.new_empty(0)
        for name, tensor in zip(names, (*parameters, *kernels, *scales), strict=True))]


def _save_block(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, *lists, eps, post_norm, normalize_modulator, dtype, _, _ = inputs
    # Nothing but the block's output has a gradient; zeros for the rest would be as large as all that is kept.
    ctx.set_materialize_grads(False)
    ctx.lengths = [len(tensors) for tensors in lists]
    ctx.settings = eps, post_norm, normalize_modulator, dtype
    ctx.save_for_backward(x, *itertools.chain(*lists), *output[1:])


def _differentiate_block(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    nothing = None, None, None, None, None, None
    if grads[0] is None:
        return None, *([None] * length for length in ctx.lengths), *nothing
    x, *rest = ctx.saved_tensors
    saved = iter(rest)
    lists = [list(itertools.islice(saved, length)) for length in ctx.lengths]
    needs_x, *needs = ctx.needs_input_grad[:4]
    if torch.is_grad_enabled() or _is_batched(grads[0]):
        flat = _differentiate_plainly(grads[0], x, lists, ctx.settings, [needs_x, *itertools.chain(*needs)])
    else:
        flat = _block_backward(grads[0], x, *lists, list(saved), *ctx.settings, _wanted(needs_x, *needs))
    found = iter([grad if is_needed else None
                  for grad, is_needed in zip(flat, [needs_x, *itertools.chain(*needs)], strict=True)])
    grad_x, parameters, kernels, scales = (
        next(found), *(list(itertools.islice(found, length)) for length in ctx.lengths[:3]))
    return grad_x, parameters, kernels, scales, [None] * ctx.lengths[3], *nothing


def _wanted(needs_x: bool, parameters: list[bool], kernels: list[bool], scales: list[bool]) -> list[bool]:
    layers = [any(pair) for pair in itertools.zip_longest(parameters[::2], parameters[1::2])]
    return [needs_x, *layers, *[False] * (len(WANTED) - 3 - len(layers)), any(kernels), any(scales)]


def _differentiate_plainly(grad: Tensor, x: Tensor, lists: list[list[Tensor]], settings: tuple[Any, ...],
                           needed: list[bool]) -> list[Tensor | None]:
    """The gradients with a graph of their own, for second derivatives, or of many gradients at once."""
    create_graph = torch.is_grad_enabled()
    *tensors, drops = lists
    lengths = [len(part) for part in tensors]
    with torch.enable_grad():
        # Aliases: a parameter may be there twice, or hang on another one, or have hooks that are not due yet.
        inputs = [tensor.view_as(tensor) if tensor.requires_grad else tensor
                  for tensor in (x, *itertools.chain(*tensors))]
        rest = iter(inputs[1:])
        parts = [list(itertools.islice(rest, length)) for length in lengths]
        out = plain_block(inputs[0], BlockTensors.unflatten(*parts), drops, *settings)
    found = iter(torch.autograd.grad(out, [tensor for tensor, is_needed in zip(inputs, needed) if is_needed], grad,
                                     create_graph=create_graph, allow_unused=True))
    return [next(found) if is_needed else None for is_needed in needed]


def _is_batched(grad: Tensor) -> bool:
    """Whether vmap hands over many gradients as one, for which the operator has no rule."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad)


_block.register_autograd(_differentiate_block, setup_context=_save_block)
