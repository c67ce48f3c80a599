"""What the kernels are made of: tiles of a channels-last map, depthwise sums over them, GELU.

A program computes some pixels of one image for some channels. Where a tile begins is a 64-bit number, so a map may have
more than 2³¹ elements; within a tile offsets have 32 bits, or 64 where ``WIDE`` says that a tile reaches so far.
"""

import triton
import triton.language as tl

__all__ = ['depthwise', 'gelu', 'gelu_and_slope', 'tile']


@triton.jit
def tile(height, width, TILE_H: tl.constexpr, TILE_W: tl.constexpr, WIDE: tl.constexpr):
    """The pixels of a program's tile: the first one's number in the map, then of each the row, the column, its number
    counted from the first, whether it lies in the image; and the number of the image."""
    across = tl.cdiv(width, TILE_W)
    down = tl.cdiv(height, TILE_H)
    number = tl.program_id(0)
    image = number // (across * down)
    place = number % (across * down)
    lane = tl.arange(0, TILE_H * TILE_W)
    top = place // across * TILE_H
    left = place % across * TILE_W
    row = top + lane // TILE_W
    column = left + lane % TILE_W
    first = (image.to(tl.int64) * height + top) * width + left
    step = lane // TILE_W
    if WIDE:
        step = step.to(tl.int64)
    return first, row, column, step * width + lane % TILE_W, (row < height) & (column < width), image


@triton.jit
def depthwise(x, stride, kernel, row, column, offset, channel, height,
              width, channels, KERNEL: tl.constexpr, FLIPPED: tl.constexpr):
    """Sums of a depthwise kernel in float32, (pixels, channels); ``x`` points to the tile's first pixel.

    Only the loop over columns is unrolled: with both unrolled a kernel of 13 takes ten minutes to compile.
    """
    reach: tl.constexpr = KERNEL // 2
    is_channel = channel < channels
    total = tl.zeros((row.shape[0], channel.shape[0]), tl.float32)
    for i in range(KERNEL):
        source_row = row + (i - reach)
        is_row = (source_row >= 0) & (source_row < height)
        line = x + (offset + (i - reach) * width)[:, None] * stride + channel[None, :]
        for j in tl.static_range(KERNEL):
            source_column = column + (j - reach)
            is_there = is_row & (source_column >= 0) & (source_column < width)
            tap = i * KERNEL + j
            if FLIPPED:
                tap = KERNEL * KERNEL - 1 - tap
            weight = tl.load(kernel + tap * channels + channel, mask=is_channel, other=0.0)
            value = tl.load(line + (j - reach) * stride, mask=is_there[:, None] & is_channel[None, :], other=0.0)
            total += value.to(tl.float32) * weight.to(tl.float32)[None, :]
    return total


@triton.jit
def gelu(x):
    """GELU in its exact form, of float32."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def gelu_and_slope(x):
    """GELU and its derivative, of float32."""
    share = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    return x * share, share + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
