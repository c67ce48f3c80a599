"""The block as a function of its tensors, in torch's own differentiable steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .tensors import BlockTensors, Pair

__all__ = ['plain_block']


def plain_block(x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                normalize_modulator: bool, dtype: torch.dtype) -> Tensor:
    """What a block computes (arXiv 2203.11926v3, equations 4 to 6), differentiable as often as one likes.

    Args:
        x: Feature map (N, H, W, C).
        tensors: The block's parameters.
        drops: What stochastic depth multiplies the results of modulation and MLP with, each (N, 1, 1, 1); or nothing.
        eps: That of ``norm1``, ``norm2`` and, where there is one, the norm inside the modulation.
        post_norm: Whether the norms come behind modulation and MLP.
        normalize_modulator: Whether to divide the aggregated context by the number of levels + 1.
        dtype: In which to compute convolutions and linear layers; norms and residual sums stay as they are.

    Returns:
        Feature map (N, H, W, C).
    """
    low = tensors.to(dtype)

    def norm(y: Tensor, parameters: Pair, i: int) -> Tensor:
        return F.layer_norm(y.to(x.dtype), (y.shape[-1],), *parameters, eps[i])

    def modulation(y: Tensor) -> Tensor:
        channels, levels = y.shape[-1], len(low.kernels)
        query, context, gates = F.linear(y, *low.f).split((channels, channels, levels + 1), -1)
        context, gates = context.permute(0, 3, 1, 2), gates.permute(0, 3, 1, 2)
        aggregated = torch.zeros_like(context)
        for level, kernel in enumerate(low.kernels):
            context = F.gelu(F.conv2d(context, kernel, padding=kernel.shape[-1] // 2, groups=channels))
            aggregated = aggregated + context * gates[:, level:level + 1]
        aggregated = aggregated + F.gelu(context.mean((2, 3), keepdim=True)) * gates[:, levels:]
        if normalize_modulator:
            aggregated = aggregated / (levels + 1)
        product = query * F.linear(aggregated.permute(0, 2, 3, 1), *low.h)
        if low.inner_norm:
            product = norm(product, low.inner_norm, 2).to(dtype)
        return F.linear(product, *low.proj)

    def mlp(y: Tensor) -> Tensor:
        return F.linear(F.gelu(F.linear(y, *low.fc1)), *low.fc2)

    for i, (layer, parameters) in enumerate(((modulation, low.norm1), (mlp, low.norm2))):
        branch = norm(layer(x.to(dtype)), parameters, i) if post_norm else layer(norm(x, parameters, i).to(dtype))
        if low.scales:
            branch = low.scales[i] * branch
        if drops:
            branch = branch * drops[i]
        x = x + branch
    return x
