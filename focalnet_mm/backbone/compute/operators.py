"""What makes operators of a block, whatever computes it: when they run, shapes and derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...releases import is_compiling, without_autocast
from .flops import register_formulas
from .plain import plain_block
from .tensors import WANTED, BlockTensors

__all__ = ['as_given', 'register', 'run_block']


def run_block(operator: Callable[..., list[Tensor]], function: Callable[..., list[Tensor]],
              backward: Callable[..., list[Tensor]], x: Tensor, tensors: BlockTensors, drops: list[Tensor],
              eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype,
              recompute: bool = False) -> Tensor:
    """What a block computes, with a graph where derivatives are wanted; second ones go through the plain steps.

    Args:
        operator: The block as an operator.
        function: What the operator calls.
        backward: What the operator of its backward pass calls.
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
    keep, settings = learning and not recompute, (eps, post_norm, normalize_modulator, dtype)
    # torch.compile takes the whole as one operator. Called without it an operator only costs time, that of a small map.
    if is_compiling():
        return operator(x, *lists, drops, *settings, keep, True)[0]
    if not learning:
        return function(x, *lists, drops, *settings, False, False)[0]
    lengths = [*map(len, lists), len(drops)]
    return _Block.apply(function, backward, settings, keep, lengths, x, *itertools.chain(*lists, drops))


class _Block(torch.autograd.Function):
    """A block with its derivative, outside torch.compile."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., list[Tensor]], backward: Callable[..., list[Tensor]],
                settings: tuple[Any, ...], keep: bool, lengths: list[int], x: Tensor, *tensors: Tensor) -> Tensor:
        out, *kept = function(x, *_split(tensors, lengths), *settings, keep, False)
        ctx.set_materialize_grads(False)
        ctx.function, ctx.settings, ctx.lengths = backward, settings, lengths
        ctx.save_for_backward(x, *tensors, *kept)
        # It is a view of its rows, and torch lets nobody change a view in place that a function returns.
        return out.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        needs_x, *needs = ctx.needs_input_grad[5:]
        grad_x, *lists = _differentiate(ctx.function, ctx, grads[0], needs_x, _split(needs, ctx.lengths))
        return *[None] * 5, grad_x, *itertools.chain(*lists)


def _split(flat: Sequence[Any], lengths: list[int]) -> list[list[Any]]:
    rest = iter(flat)
    return [list(itertools.islice(rest, length)) for length in lengths]


def as_given(grad_x: Tensor, grads: BlockTensors, tensors: BlockTensors) -> list[Tensor]:
    """Gradients in the shapes and data types of what they belong to, empty where they are not wanted."""
    given = itertools.chain(*tensors.flatten())
    return [grad_x, *(found.view_as(tensor).to(tensor.dtype) if len(found) else tensor.new_empty(0)
                      for found, tensor in zip(itertools.chain(*grads.flatten()), given, strict=True))]


def register(name: str, block: Any, backward: Any) -> None:
    """Tell torch the shapes of the gradients, that one operator is the derivative of another, and what both cost.

    Args:
        name: That of the operator of the forward pass; the other one's ends in ``_backward``.
        block: The operator of the forward pass.
        backward: That of the backward pass.
    """
    register_formulas(name)
    backward.register_fake(_shapes_of_gradients)

    def differentiate(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
        return _differentiate_block(backward, ctx, grads)

    block.register_autograd(differentiate, setup_context=_save_block)


def _shapes_of_gradients(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor],
                         scales: list[Tensor], drops: list[Tensor], kept: list[Tensor], eps: list[float],
                         post_norm: bool, normalize_modulator: bool, dtype: torch.dtype,
                         wanted: list[bool]) -> list[Tensor]:
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


def _differentiate_block(backward: Any, ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    needs_x, *needs = ctx.needs_input_grad[:5]
    grad_x, *lists = _differentiate(backward, ctx, grads[0], needs_x, needs)
    return grad_x, *lists, None, None, None, None, None, None


def _differentiate(backward: Callable[..., list[Tensor]], ctx: Any, grad: Tensor | None, needs_x: bool,
                   needs: list[list[bool]]) -> list[Any]:
    """The gradients of the input, and in lists of parameters, kernels, layer scales and drops, which have none."""
    if grad is None:
        return [None, *([None] * length for length in ctx.lengths)]
    x, *rest = ctx.saved_tensors
    *lists, saved = _split(rest, [*ctx.lengths, len(rest)])
    # Hooks of saved tensors may bring the same numbers back in other strides.
    x, saved = x.contiguous(), [tensor.contiguous() for tensor in saved]
    *needs, _ = needs
    needed = [needs_x, *itertools.chain(*needs)]
    if torch.is_grad_enabled() or _is_batched(grad):
        flat: Sequence[Tensor | None] = _differentiate_plainly(grad, x, lists, ctx.settings, needed)
    else:
        flat = backward(grad, x, *lists, saved, *ctx.settings, _wanted(needs_x, *needs))
    found = [part if is_needed else None for part, is_needed in zip(flat, needed, strict=True)]
    return [found[0], *_split(found[1:], ctx.lengths[:3]), [None] * ctx.lengths[3]]


def _wanted(needs_x: bool, parameters: list[bool], kernels: list[bool], scales: list[bool]) -> list[bool]:
    layers = [any(pair) for pair in itertools.zip_longest(parameters[::2], parameters[1::2])]
    return [needs_x, *layers, *[False] * (len(WANTED) - 3 - len(layers)), any(kernels), any(scales)]


def _differentiate_plainly(grad: Tensor, x: Tensor, lists: list[list[Tensor]], settings: tuple[Any, ...],
                           needed: list[bool]) -> list[Tensor | None]:
    """The gradients with a graph of their own, for second derivatives, or of many gradients at once."""
    create_graph = torch.is_grad_enabled()
    *tensors, drops = lists
    lengths = [len(part) for part in tensors]
    with torch.enable_grad(), without_autocast(x.device.type):
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
