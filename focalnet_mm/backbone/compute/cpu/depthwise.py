"""Depthwise convolutions in channels-last memory, and the gradients of their kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# From which kernel on a transposed convolution is the faster one; from which one on its weights' gradient in square
# tiles is, in float32 on maps of so many pixels or as small as the kernel, and on any; with which sizes of tiles,
# whichever pads the map less, and with so many bytes of patches at a time.
_TRANSPOSED_FROM = 9
_TILED_FROM = 5
_TILED_PIXELS = 1 << 14
_ALWAYS_TILED_FROM = 9
_TILES = (8, 7)
_PATCH_BYTES = 2 << 20


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """A depthwise convolution that keeps the size; oneDNN transposes large kernels up to five times as fast."""
    kernel, channels = weight.shape[-1], len(weight)
    if kernel < _TRANSPOSED_FROM:
        return F.conv2d(x, weight, padding=kernel // 2, groups=channels)
    return F.conv_transpose2d(x, weight.flip(2, 3), padding=kernel // 2, groups=channels)


def depthwise_weight_grad(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a depthwise kernel: the correlation of input (N, C, H, W) and output gradient, k × k values.

    oneDNN's operator for it does not use the vector units for kernels from 5 on. A depthwise convolution does, so the
    gradient is cut into tiles, each of them a kernel for its part of the input and each tile's channels channels of
    their own; the results of the tiles are summed.
    """
    count, channels, height, width = x.shape
    kernel = weight.shape[-1]
    tiled = kernel >= _TILED_FROM and (
        x.dtype != torch.float32 or kernel >= _ALWAYS_TILED_FROM or kernel >= min(height, width)
        or height * width >= _TILED_PIXELS)
    if not tiled or x.dtype not in (torch.float32, torch.bfloat16):
        padding = [kernel // 2] * 2
        return torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], channels, [False, True, False])[1]
    tile = min(_TILES, key=lambda tile: -(-width // tile) * -(-height // tile) * tile**2)
    across, down, margin = -(-width // tile), -(-height // tile), kernel // 2
    right, side = across * tile - width, tile + kernel - 1
    # As many rows of tiles, and images where a whole one is small, as their patches stay below the limit.
    row_bytes = side * side * across * channels * x.element_size()
    rows = max(1, min(down, _PATCH_BYTES // row_bytes))
    images = max(1, min(count, _PATCH_BYTES // (row_bytes * down))) if rows == down else 1
    x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    total = torch.zeros(kernel, kernel, channels, dtype=torch.float32)
    for first in range(0, count, images):
        for top in range(0, height, rows * tile):
            bottom = min(top + rows * tile, down * tile)
            above, below = max(0, top - margin), min(height, bottom + margin)
            part = F.pad(x[first:first + images, above:below],
                         (0, 0, margin, margin + right, above - (top - margin), bottom + margin - below))
            image, row, column, _ = part.stride()
            tiles = (len(part), (bottom - top) // tile, across)
            patches = part.as_strided((side, side, *tiles, channels),
                                      (row, column, image, tile * row, tile * column, 1))
            patches = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
            kernels = F.pad(grad[first:first + images, top:bottom], (0, 0, 0, right, 0, max(0, bottom - height)))
            kernels = kernels.reshape(*tiles[:2], tile, across, tile, channels).permute(0, 1, 3, 5, 2, 4)
            kernels = kernels.reshape(-1, 1, tile, tile)
            sums = F.conv2d(patches, kernels, groups=len(kernels)).permute(0, 2, 3, 1)
            total += sums.reshape(kernel, kernel, -1, channels).sum(2, dtype=torch.float32)
    return total.permute(2, 0, 1)[:, None].to(weight.dtype)
