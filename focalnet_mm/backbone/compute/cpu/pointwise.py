"""Norms and linear layers over the rows of a channels-last feature map, in pieces that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of the hidden layer at a time: far below the 32 MB from which on glibc takes fresh pages from the system for
# every allocation, and so many rows that reordering the weights, which oneDNN does in every call, does not count.
_PIECE_BYTES = 12 << 20
# A linear layer by oneDNN, with what follows it in the same operator, which torch.compile uses. It is not public: where
# it is missing, the separate steps do.
_LINEAR = getattr(torch.ops.mkldnn, '_linear_pointwise', None) if torch.backends.mkldnn.is_available() else None


def pieces(rows: Tensor, hidden: int, dtype: torch.dtype) -> Iterator[slice]:
    """Equal parts of the rows, so that the hidden layer of each stays below the limit."""
    count = -(-len(rows) * hidden * dtype.itemsize // _PIECE_BYTES)
    size = -(-len(rows) // count)
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))


def as_rows(x: Tensor) -> Tensor:
    """(N, C, H, W) in channels-last memory → (N · H · W, C), a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_map(rows: Tensor, size: tuple[int, int, int]) -> Tensor:
    """(N · H · W, C) → (N, C, H, W) of N, H and W, in channels-last memory, a view."""
    return rows.view(*size, rows.shape[1]).permute(0, 3, 1, 2)


def per_row(x: Tensor, size: tuple[int, int, int]) -> Tensor:
    """(N, 1, 1, 1) → (N · H · W, 1) for N, H and W."""
    return x.expand(*size, 1).reshape(-1, 1)


def normalize(rows: Tensor, parameters: tuple[Tensor, Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalisation, its mean and its inverse deviation."""
    return torch.ops.aten.native_layer_norm(rows, [rows.shape[1]], *parameters, eps)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _linear(rows, weight, bias, 'none') if _is_onednn(rows) else F.linear(rows, weight, bias)


def linear_gelu(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if _is_onednn(rows):
        return _linear(rows, weight, bias, 'gelu')
    return torch.ops.aten.gelu_(F.linear(rows, weight, bias))


def weight_grad(grad: Tensor, given: Tensor) -> Tensor:
    """Gradient of a linear layer's weight; in float32 oneDNN is the faster one where the layer makes fewer channels."""
    if _LINEAR is not None and grad.dtype == torch.float32 and given.shape[1] > grad.shape[1]:
        return _linear(grad.t(), given.t(), None, 'none')
    return grad.t() @ given


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, then, [], 'none')


def _is_onednn(rows: Tensor) -> bool:
    return _LINEAR is not None and rows.dtype in (torch.float32, torch.bfloat16)
