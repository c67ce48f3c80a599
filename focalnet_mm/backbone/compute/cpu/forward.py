"""The forward pass of a block, and what it keeps for the backward pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..tensors import BlockTensors, kept_branches, residual_dtype
from .aggregation import aggregate
from .pointwise import as_map, as_rows, linear, linear_gelu, normalize, per_row, pieces

__all__ = ['Forward', 'Kept', 'Pass']


class Kept(NamedTuple):
    """What the backward pass needs besides input and parameters, each (N · H · W, ·)."""

    #: ``Z⁰``.
    context: Tensor
    #: ``G``.
    gates: Tensor
    #: ``Zᵒᵘᵗ``.
    aggregated: Tensor
    #: ``Zˡ`` before their activation.
    levels: list[Tensor]
    #: The map between modulation and MLP.
    half: Tensor
    #: The results of modulation and MLP, where a norm or a layer scale follows.
    branches: list[Tensor]
    #: The hidden layer of the MLP before its activation, in pieces, or in one where their number must not depend on
    #: the size of the map.
    hidden: list[Tensor]

    def flatten(self) -> list[Tensor]:
        return [self.context, self.gates, self.aggregated, self.half, *self.levels, *self.branches, *self.hidden]

    @classmethod
    def unflatten(cls, flat: list[Tensor], levels: int, branches: int) -> Kept:
        context, gates, aggregated, half, *rest = flat
        return cls(context, gates, aggregated, rest[:levels], half, rest[levels:levels + branches],
                   rest[levels + branches:])

    def hidden_of(self, pieces: list[slice]) -> list[Tensor]:
        """The hidden layer of each piece."""
        if len(self.hidden) == len(pieces):
            return self.hidden
        return [self.hidden[0][piece] for piece in pieces]


class Pass:
    """What the forward and the backward pass have in common: the rows of a map, and how a block computes."""

    def __init__(self, x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                 normalize_modulator: bool, dtype: torch.dtype) -> None:
        self.x, self.tensors, self.dtype = x, tensors.to(dtype), dtype
        self.eps, self.post_norm, self.normalize_modulator = eps, post_norm, normalize_modulator
        self.rows = x.view(-1, x.shape[3])
        self.size = x.shape[0], x.shape[1], x.shape[2]
        self.drops = [per_row(drop, self.size) for drop in drops]
        channels = self.rows.shape[1]
        self.query, self.context_gates = zip(
            *(parameter.split((channels, len(parameter) - channels)) for parameter in self.tensors.f))

    def pieces(self) -> list[slice]:
        """The rows in parts that stay in the cache."""
        return list(pieces(self.rows, len(self.tensors.fc1[0]), self.dtype))

    def given(self, piece: slice) -> Tensor:
        """What ``f`` takes."""
        rows = self.rows[piece]
        return (rows if self.post_norm else normalize(rows, self.tensors.norm1, self.eps[0])[0]).to(self.dtype)


class Forward(Pass):
    """The forward pass over the rows of a map."""

    def run(self, keep: bool, whole: bool) -> list[Tensor]:
        """The block's output and, if told to, what its backward pass needs."""
        out = torch.empty_like(self.rows, dtype=residual_dtype(self.rows, self.tensors.scales))
        kept = self._compute(out, keep, whole)
        return [out.view(self.x.shape), *(kept.flatten() if kept else [])]

    def kept(self) -> Kept:
        """What the backward pass needs, without the output."""
        kept = self._compute(None, True, False)
        assert kept is not None
        return kept

    def _compute(self, out: Tensor | None, keep: bool, whole: bool) -> Kept | None:
        rows, tensors = self.rows, self.tensors
        context, gates = self._context()
        aggregated, levels = aggregate(as_map(context, self.size), as_map(gates, self.size), tensors.kernels,
                                       self.normalize_modulator, keep)
        aggregated = as_rows(aggregated)
        dtype = residual_dtype(rows, tensors.scales)
        kept = None
        if keep:
            branches = [torch.empty_like(context) for _ in range(kept_branches(tensors.scales, self.post_norm))]
            hidden = [rows.new_empty(len(rows), len(tensors.fc1[0]), dtype=self.dtype)] if whole else []
            kept = Kept(context, gates, aggregated, [as_rows(level) for level in levels],
                         torch.empty_like(rows, dtype=dtype), branches, hidden)
        activated: Tensor | None = None
        for piece in self.pieces():
            half = kept.half[piece] if kept else torch.empty_like(rows[piece], dtype=dtype)
            branch = self._modulation(piece, aggregated[piece])
            self._residual(rows[piece], branch, piece, 0, half)
            if kept and kept.branches:
                kept.branches[0][piece] = branch
            given = (half if self.post_norm else normalize(half, tensors.norm2, self.eps[1])[0]).to(self.dtype)
            if kept:
                before = linear(given, *tensors.fc1)
                if whole:
                    kept.hidden[0][piece] = before
                else:
                    kept.hidden.append(before)
                if out is None and not kept.branches:
                    continue
                activated = torch.empty_like(before) if activated is None else activated
                given = torch.ops.aten.gelu.out(before, out=activated[:len(before)])
            else:
                given = linear_gelu(given, *tensors.fc1)
            branch = linear(given, *tensors.fc2)
            if out is not None:
                self._residual(half, branch, piece, 1, out[piece])
            if kept and kept.branches:
                kept.branches[1][piece] = branch
        return kept

    def _context(self) -> tuple[Tensor, Tensor]:
        channels, count = self.rows.shape[1], len(self.tensors.kernels) + 1
        context = self.rows.new_empty(self.rows.shape, dtype=self.dtype)
        gates = self.rows.new_empty(len(self.rows), count, dtype=self.dtype)
        for piece in self.pieces():
            context[piece], gates[piece] = linear(self.given(piece), *self.context_gates).split((channels, count), 1)
        return context, gates

    def _modulation(self, piece: slice, aggregated: Tensor) -> Tensor:
        queries = linear(self.given(piece), *self.query)
        branch = linear(aggregated, *self.tensors.h).mul_(queries)
        if self.tensors.inner_norm:
            branch = normalize(branch.to(self.rows.dtype), self.tensors.inner_norm, self.eps[2])[0].to(self.dtype)
        return linear(branch, *self.tensors.proj)

    def _residual(self, base: Tensor, branch: Tensor, piece: slice, i: int, out: Tensor) -> None:
        """Add what modulation (0) or MLP (1) returned."""
        if self.post_norm:
            norm = (self.tensors.norm1, self.tensors.norm2)[i]
            branch = normalize(branch.to(self.rows.dtype), norm, self.eps[i])[0]
        if self.tensors.scales:
            branch = self.tensors.scales[i] * branch
        if self.drops:
            # Of several data types PyTorch 2.1 ends in an internal error.
            torch.addcmul(*(part.to(out.dtype) for part in (base, branch, self.drops[i][piece])), out=out)
        else:
            torch.add(base, branch, out=out)
