"""Focal modulation (arXiv 2203.11926v3, section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['FocalModulation', 'depthwise_levels', 'level_kernels']


def level_kernels(focal_level: int, focal_window: int, focal_factor: int) -> list[int]:
    """The kernel of each level in pixels, see :class:`FocalModulation`.

    Raises:
        ValueError: ``focal_level`` is negative, or a level's kernel is even or not positive.
    """
    if focal_level < 0:
        raise ValueError(f'focal_level must be 0 or more, got {focal_level}.')
    kernels = [focal_window + focal_factor * level for level in range(focal_level)]
    for level, kernel in enumerate(kernels):
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f'The kernel of focal level {level} is focal_window + {level} · focal_factor = {focal_window} + '
                f'{level} · {focal_factor} = {kernel}, but kernels must be odd and positive.')
    return kernels


def depthwise_levels(embed_dims: int, kernels: Iterable[int]) -> nn.ModuleList:
    """The levels of equation 4, ``GELU(DWConvˡ(·))`` each, over maps (N, C, H, W)."""
    return nn.ModuleList(
        nn.Sequential(
            nn.Conv2d(embed_dims, embed_dims, kernel, padding=kernel // 2, groups=embed_dims, bias=False), nn.GELU())
        for kernel in kernels)


class FocalModulation(nn.Module):
    """Aggregate context around each position, then modulate the position's query with it.

    The three steps of section 3.2 and 3.3, with L focal levels:

    1. *Hierarchical contextualisation* (equation 4): ``Z⁰ = f_z(X)``, ``Zˡ = GELU(DWConvˡ(Zˡ⁻¹))`` for
       ``l = 1…L`` and the global context ``Zᴸ⁺¹ = GELU(AvgPool(Zᴸ))``. The kernel of level l is
       ``focal_window + focal_factor · (l - 1)``.
    2. *Gated aggregation* (equation 5): ``Zᵒᵘᵗ = Σ Gˡ ⊙ Zˡ`` over ``l = 1…L+1``, with one gate map per level,
       ``G = f_g(X)``.
    3. *Interaction* (equation 6): ``Y = proj(f_q(X) ⊙ h(Zᵒᵘᵗ))``, where ``h(Zᵒᵘᵗ)`` is the modulator.

    ``f`` holds ``f_q``, ``f_z`` and ``f_g`` in one layer. With no levels at all only the gated global context is
    left, which resembles squeeze-and-excitation (section 3.4).

    Maps are (N, H, W, C), as linear layers and norms take them; only the convolutions see them as (N, C, H, W).

    Args:
        embed_dims: Channels C.
        focal_level: Number of levels L ≥ 0, the global context not counted.
        focal_window: Kernel of the first level in pixels of the feature map, odd.
        focal_factor: By how much the kernel grows from a level to the next, even.
        post_norm: Normalise ``f_q(X) ⊙ h(Zᵒᵘᵗ)`` before the projection (the huge variants).
        normalize_modulator: Divide ``Zᵒᵘᵗ`` by L + 1.
        drop_rate: Dropout after the projection.

    Raises:
        ValueError: ``focal_level`` is negative, or a level's kernel is even or not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        focal_level: int,
        focal_window: int,
        focal_factor: int = 2,
        post_norm: bool = False,
        normalize_modulator: bool = False,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        kernels = level_kernels(focal_level, focal_window, focal_factor)
        self.embed_dims = embed_dims
        self.focal_level = focal_level
        self.normalize_modulator = normalize_modulator

        self.f = nn.Linear(embed_dims, 2 * embed_dims + focal_level + 1)
        self.h = nn.Conv2d(embed_dims, embed_dims, kernel_size=1)
        self.focal_layers = depthwise_levels(embed_dims, kernels)
        self.ln = nn.LayerNorm(embed_dims) if post_norm else nn.Identity()
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(drop_rate)

    def kernels(self) -> list[Tensor]:
        """The depthwise kernel of each level, (C, 1, k, k)."""
        # All that a ModuleList tells of its members is that they are modules.
        levels: Iterable[Any] = self.focal_layers
        return [level[0].weight for level in levels]

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) → (N, H, W, C)."""
        query, context, gates = self.f(x).split((self.embed_dims, self.embed_dims, self.focal_level + 1), dim=-1)
        context = context.permute(0, 3, 1, 2)
        gates = gates.permute(0, 3, 1, 2).unsqueeze(2).unbind(1)

        aggregated = 0
        for focal_layer, gate in zip(self.focal_layers, gates):
            context = focal_layer(context)
            aggregated = aggregated + gate * context
        aggregated = aggregated + gates[-1] * F.gelu(context.mean((2, 3), keepdim=True))
        if self.normalize_modulator:
            aggregated = aggregated / (self.focal_level + 1)

        modulator = self.h(aggregated).permute(0, 2, 3, 1)
        return self.proj_drop(self.proj(self.ln(query * modulator)))
