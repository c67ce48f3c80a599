"""The forward pass of a block, and what it keeps for the backward pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import BlockTensors, Pair, kept_branches, residual_dtype
from .aggregation import aggregate
from .rows import normalize, residual
from .weights import Weights

__all__ = ['Forward', 'Kept', 'Pass']


class Kept(NamedTuple):
    """What the backward pass needs besides input and parameters, each (N · H · W, ·) but for the mean."""

    #: ``Z⁰``, ``G`` and columns that only fill up.
    context_gates: Tensor
    #: ``Zᵒᵘᵗ``.
    aggregated: Tensor
    #: The mean of ``Zᴸ`` over each image, (N, C) in float32.
    mean: Tensor
    #: The map between modulation and MLP.
    half: Tensor
    #: The hidden layer of the MLP before its activation.
    hidden: Tensor
    #: What :class:`~.weights.Weights` are made of.
    weights: list[Tensor]
    #: ``Zˡ`` before their activation.
    levels: list[Tensor]
    #: The results of modulation and MLP, where a norm or a layer scale follows.
    branches: list[Tensor]

    def flatten(self) -> list[Tensor]:
        return [self.context_gates, self.aggregated, self.mean, self.half, self.hidden, *self.weights, *self.levels,
                *self.branches]

    @classmethod
    def unflatten(cls, flat: list[Tensor], levels: int) -> Kept:
        context_gates, aggregated, mean, half, hidden, *rest = flat
        return cls(context_gates, aggregated, mean, half, hidden, rest[:2], rest[2:2 + levels], rest[2 + levels:])


class Pass:
    """What the forward and the backward pass have in common: the rows of a map, and how a block computes."""

    def __init__(self, x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                 normalize_modulator: bool, dtype: torch.dtype, weights: Weights) -> None:
        self.x, self.tensors, self.dtype, self.weights = x, tensors.dense(), dtype, weights
        self.eps, self.post_norm, self.normalize_modulator = eps, post_norm, normalize_modulator
        self.rows = x.resolve_neg().view(-1, x.shape[3])
        self.size = x.shape[0], x.shape[1], x.shape[2]
        self.per_image = x.shape[1] * x.shape[2]
        self.drops = [drop.flatten() for drop in drops]
        channels, levels = self.rows.shape[1], len(tensors.kernels)
        self.channels, self.gates_end = channels, channels + levels + 1
        self.kernels = [kernel.shape[-1] for kernel in tensors.kernels]

    def given(self) -> Tensor:
        """What ``f`` takes."""
        if self.post_norm:
            return self.rows.to(self.dtype)
        return normalize(self.rows, self.tensors.norm1, self.eps[0], self.dtype)

    def split(self, context_gates: Tensor) -> tuple[Tensor, Tensor]:
        """Views of context and gates."""
        return context_gates[:, :self.channels], context_gates[:, self.channels:self.gates_end]

    def norm_behind(self, i: int) -> Pair | None:
        """The norm behind modulation (0) or MLP (1), if that is where norms are."""
        return (self.tensors.norm1, self.tensors.norm2)[i] if self.post_norm else None

    def scale(self, i: int) -> Tensor | None:
        return self.tensors.scales[i] if self.tensors.scales else None

    def drop(self, i: int) -> Tensor | None:
        return self.drops[i] if self.drops else None


class Forward(Pass):
    """The forward pass over the rows of a map."""

    def __init__(self, x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                 normalize_modulator: bool, dtype: torch.dtype) -> None:
        super().__init__(x, tensors, drops, eps, post_norm, normalize_modulator, dtype, Weights.of(tensors, dtype))

    def run(self, keep: bool) -> list[Tensor]:
        """The block's output and, if told to, what its backward pass needs."""
        branch, half, kept = self._to_last_branch(keep, True)
        assert branch is not None
        out, _ = self._residual(half, branch, 1)
        return [out.view(self.x.shape), *(kept.flatten() if kept else [])]

    def kept(self) -> Kept:
        """What the backward pass needs, without the output."""
        _, _, kept = self._to_last_branch(True, False)
        assert kept is not None
        return kept

    def _to_last_branch(self, keep: bool, needs_last: bool) -> tuple[Tensor | None, Tensor, Kept | None]:
        tensors, weights = self.tensors, self.weights
        given = self.given()
        query, context_gates = F.linear(given, *weights.query), F.linear(given, *weights.context_gates)
        del given
        aggregated, mean, levels = aggregate(*self.split(context_gates), self.kernels, weights.taps, self.size,
                                             self.normalize_modulator, keep)
        product = F.linear(aggregated, *weights.h).mul_(query)
        del query
        if tensors.inner_norm:
            product = normalize(product, tensors.inner_norm, self.eps[2], self.dtype)
        first = F.linear(product, *weights.proj)
        del product
        half, given = self._residual(self.rows, first, 0)
        hidden = F.linear(given, *weights.fc1)
        del given
        keeps_branches = keep and kept_branches(tensors.scales, self.post_norm) > 0
        branch = None
        if needs_last or keeps_branches:
            activated = F.gelu(hidden) if keep else torch.ops.aten.gelu_(hidden)
            branch = F.linear(activated, *weights.fc2)
        if not keep:
            return branch, half, None
        branches = [first, branch] if keeps_branches and branch is not None else []
        return branch, half, Kept(context_gates, aggregated, mean, half, hidden, weights.kept, levels, branches)

    def _residual(self, base: Tensor, branch: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Add what modulation (0) or MLP (1) returned; and what the layer behind it takes."""
        is_first = i == 0
        return residual(
            base, branch, self.norm_behind(i), self.eps[i], self.scale(i), self.drop(i), self.per_image,
            residual_dtype(self.rows, self.tensors.scales),
            self.tensors.norm2 if is_first and not self.post_norm else None, self.eps[1],
            self.dtype if is_first else None)
