"""Norms and residual sums over the rows of a map on a GPU: the launches of their kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from . import row_kernels
from .classes import row_class, row_shares
from .launches import launch

__all__ = ['normalize', 'residual', 'through']

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
            per_image: int, dtype: torch.dtype, added: Tensor | None = None,
            learns: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
        added: A map to add to it.
        learns: Whether norm or scale learn.

    Returns:
        The gradient, and in float32 those of scale, weight and bias, (C), which are zeros where there is none, and
        empty where nothing learns.
    """
    if x is None and drop is None and added is None and grad.dtype == dtype:
        nothing = grad.new_empty(0)
        return grad, nothing, nothing, nothing
    out = torch.empty_like(grad, dtype=dtype)
    channels, of = grad.shape[1], row_class(grad.shape[1])
    count, share = row_shares(len(grad))
    partial = grad.new_empty(count if learns else 0, 3, channels, dtype=torch.float32)
    launch(row_kernels.row_gradient, (count,), of.warps, grad, grad if x is None else x, *(norm or (grad, grad)),
           grad if scale is None else scale, grad if drop is None else drop, grad if added is None else added, out,
           partial if learns else grad, len(grad), per_image, channels, share, eps, ROWS=of.width, BLOCK=of.channels,
           NORMED=norm is not None, SCALED=scale is not None, DROPPED=drop is not None, ADDED=added is not None,
           LEARNS=learns)
    # Tensors of their own: the results of an operator must not share memory.
    for_scale, for_weight, for_bias = (partial[:, i].sum(0) if learns else partial.new_empty(0) for i in range(3))
    return out, for_scale, for_weight, for_bias
