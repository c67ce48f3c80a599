"""What the kernels are made of: tiles of a channels-last map, depthwise sums over them, GELU.

A program computes some pixels of one image for some channels. Where a tile begins is a 64-bit number, so a map may have
more than 2³¹ elements; within a tile offsets have 32 bits, or 64 where ``WIDE`` says that a tile reaches so far.
"""

import triton
import triton.language as tl

__all__ = ['depthwise', 'gelu', 'gelu_and_slope', 'is_within', 'tile']


@triton.jit
def tile(height, width, TILE_H: tl.constexpr, TILE_W: tl.constexpr, STRIP: tl.constexpr, WIDE: tl.constexpr):
    """The strips of a program's tile, each of ``STRIP`` pixels of a row: the number in the map of the tile's first
    pixel; of each strip's first pixel the row, the column and its number counted from that one; and the number of the
    image."""
    across = tl.cdiv(width, TILE_W)
    down = tl.cdiv(height, TILE_H)
    number = tl.program_id(0)
    image = number // (across * down)
    place = number % (across * down)
    lane = tl.arange(0, TILE_H * TILE_W // STRIP)
    top = place // across * TILE_H
    left = place % across * TILE_W
    step = lane // (TILE_W // STRIP)
    along = lane % (TILE_W // STRIP) * STRIP
    first = (image.to(tl.int64) * height + top) * width + left
    row = top + step
    if WIDE:
        step = step.to(tl.int64)
    return first, row, left + along, step * width + along, image


@triton.jit
def is_within(place, end):
    """Whether a number is at least 0 and less than ``end``, in one comparison."""
    return place.to(tl.uint32) < end.to(tl.uint32)


@triton.jit
def depthwise(x, stride, kernel, kernel_stride, row, column, offset, channel, height,
              width, channels, KERNEL: tl.constexpr, STRIP: tl.constexpr, FLIPPED: tl.constexpr):
    """Sums of a depthwise kernel in float32 for each pixel of a strip, (strips, channels).

    ``x`` points to the tile's first pixel. ``kernel`` is (blocks of channels, k · k, channels of a block) in
    float32, its blocks ``kernel_stride`` apart.

    A pixel is read, and turned into float32, once for all of a strip whose sums it is part of. Only the loop over
    columns is unrolled: with both unrolled a kernel of 13 takes ten minutes to compile.
    """
    reach: tl.constexpr = KERNEL // 2
    is_channel = channel < channels
    taps = kernel + tl.program_id(1) * kernel_stride + tl.arange(0, channel.shape[0])
    totals = (tl.zeros((row.shape[0], channel.shape[0]), tl.float32),) * STRIP
    for i in range(KERNEL):
        source_row = row + (i - reach)
        is_row = is_within(source_row, height)
        pixel = x + (offset + (i - reach) * width - reach)[:, None] * stride + channel[None, :]
        weights = ()
        for j in tl.static_range(KERNEL + STRIP - 1):
            if j < KERNEL:
                tap = i * KERNEL + j
                if FLIPPED:
                    tap = KERNEL * KERNEL - 1 - tap
                weight = tl.load(taps + tap * channel.shape[0])[None, :]
                weights = weights + (weight,)  # type: ignore[assignment]
            is_there = is_row & is_within(column + (j - reach), width)
            value = tl.load(pixel, mask=is_there[:, None] & is_channel[None, :], other=0.0).to(tl.float32)
            pixel += stride
            summed = ()
            for k in tl.static_range(STRIP):
                if (j >= k) and (j < KERNEL + k):
                    summed = summed + (totals[k] + value * weights[j - k],)  # type: ignore[assignment]
                else:
                    summed = summed + (totals[k],)  # type: ignore[assignment]
            totals = summed
    return totals


@triton.jit
def gelu(x):
    """GELU in its exact form, of float32."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def gelu_and_slope(x):
    """GELU and its derivative, of float32."""
    share = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    return x * share, share + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
