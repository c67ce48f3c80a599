"""Norms and residual sums over the rows of a map on a GPU: the launches of their kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from . import row_kernels
from .classes import column_class, row_class
from .launches import launch
from .sums import Sums

__all__ = ['normalize', 'residual', 'sum_columns', 'through', 'through_product']

Pair = tuple[Tensor, Tensor]


def normalize(rows: Tensor, parameters: Pair, eps: float, dtype: torch.dtype) -> Tensor:
    """Layer normalisation of rows (N · H · W, C), in another data type."""
    out = torch.empty_like(rows, dtype=dtype)
    of = row_class(rows.shape[1])
    launch(row_kernels.rows_normed, (-(-len(rows) // of.width),), of.warps, rows, *parameters, out, len(rows),
           rows.shape[1], eps, ROWS=of.width, BLOCK=of.channels)
    return out


def residual(base: Tensor, branch: Tensor, norm: Pair | None, eps: float, scale: Tensor | None, drop: Tensor | None,
             per_image: int, dtype: torch.dtype, following: Pair | None = None, following_eps: float = 0.0,
             given: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """A residual sum, and what the next layer takes of it.

    Args:
        base: The residual stream, (N · H · W, C).
        branch: What modulation or MLP returned, (N · H · W, C).
        norm: Weight and bias of the norm behind it, if there is one.
        eps: That of the norm.
        scale: The layer scale, (C), if there is one.
        drop: What stochastic depth multiplies with, (N), or nothing.
        per_image: H · W.
        dtype: That of the sum.
        following: Weight and bias of the norm before the next layer, if there is one.
        following_eps: That of this norm.
        given: The data type of the next layer's input, if there is a next layer.

    Returns:
        The sum, and the next layer's input, which may be the same tensor; without a next layer the sum twice.
    """
    out = torch.empty_like(base, dtype=dtype)
    is_next = given is not None and (following is not None or given != dtype)
    taken = torch.empty_like(base, dtype=given) if is_next else out
    of = row_class(base.shape[1])
    # What a kernel is told not to read is any tensor.
    launch(row_kernels.residual_forward, (-(-len(base) // of.width),), of.warps, base, branch, *(norm or (base, base)),
           base if scale is None else scale, base if drop is None else drop, out, *(following or (base, base)), taken,
           len(base), per_image, base.shape[1], eps, following_eps, ROWS=of.width, BLOCK=of.channels,
           NORMED=norm is not None, SCALED=scale is not None, DROPPED=drop is not None, NEXT=is_next,
           NEXT_NORMED=following is not None)
    return out, taken


def through(grad: Tensor, x: Tensor | None, norm: Pair | None, eps: float, scale: Tensor | None, drop: Tensor | None,
            per_image: int, dtype: torch.dtype, sums: Sums, added: Tensor | None = None, learned: str = '',
            summed: str = '') -> Tensor:
    """The gradient of ``x`` in ``drop · scale · norm(x)``.

    Args:
        grad: The gradient of the result, (N · H · W, C).
        x: What the norm took, or the scale; or nothing if there is neither.
        norm: Weight and bias of the norm, if there is one.
        eps: That of the norm.
        scale: The layer scale, (C), if there is one.
        drop: What stochastic depth multiplied with, (N), or nothing.
        per_image: H · W.
        dtype: That of the gradient.
        sums: Where the gradients of parameters are summed up.
        added: A map to add to the result.
        learned: What those of scale and norm are called there, with ``.scale``, ``.weight`` and ``.bias`` behind; by
            default they are not summed up.
        summed: What the sums of the result are called, likewise.

    Returns:
        The gradient, which may be the same tensor.
    """
    channels = grad.shape[1]
    if x is None and drop is None and added is None and grad.dtype == dtype:
        if summed:
            sum_columns(grad, sums, summed)
        return grad
    names = [f'{learned}.scale'] * (scale is not None) + [f'{learned}.weight', f'{learned}.bias'] * (norm is not None)
    names = [*(names if learned else ()), *([summed] if summed else ())]
    out, of = torch.empty_like(grad, dtype=dtype), row_class(channels)
    partial = sums.take(names, channels)
    # What a kernel is told not to read is any tensor.
    launch(row_kernels.row_gradient, (sums.count,), of.warps, grad, grad if x is None else x, *(norm or (grad, grad)),
           grad if scale is None else scale, grad if drop is None else drop, grad if added is None else added, out,
           partial, partial.stride(0), len(grad), per_image, channels, sums.share, eps, ROWS=of.width,
           BLOCK=of.channels, NORMED=norm is not None, SCALED=scale is not None, DROPPED=drop is not None,
           ADDED=added is not None, LEARNS=bool(learned), SUMMED=bool(summed))
    return out


def sum_columns(x: Tensor, sums: Sums, name: str, hidden: Tensor | None = None) -> None:
    """Sum up the columns of a map (N · H · W, C); one that is the gradient of ``GELU(hidden)`` becomes that of
    ``hidden`` before."""
    partial, of = sums.take([name], x.shape[1]), column_class(x.shape[1])
    launch(row_kernels.column_sums, (sums.count, -(-x.shape[1] // of.channels)), of.warps, x,
           x if hidden is None else hidden, partial, partial.stride(0), len(x), x.shape[1], sums.share, ROWS=of.width,
           BLOCK=of.channels, ACTIVATED=hidden is not None)


def through_product(grad: Tensor, query: Tensor, modulator: Tensor, sums: Sums, names: list[str]) -> Tensor:
    """The gradient of the query, (N · H · W, C); that of the product becomes that of the modulator.

    Args:
        grad: That of the product.
        query: The query.
        modulator: The modulator.
        sums: Where both are summed up.
        names: What the sums are called.
    """
    grad_query, of = torch.empty_like(grad), column_class(grad.shape[1])
    partial = sums.take(names, grad.shape[1])
    launch(row_kernels.product_gradient, (sums.count, -(-grad.shape[1] // of.channels)), of.warps, grad, query,
           modulator, grad_query, partial, partial.stride(0), len(grad), grad.shape[1], sums.share, ROWS=of.width,
           BLOCK=of.channels)
    return grad_query
