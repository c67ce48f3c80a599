"""Kernels of focal aggregation, backward: without atomics, so that every run gives the same numbers.

Sums over all pixels, and sums over all channels, take two steps: a kernel leaves those of its tile, torch adds them up.
The arguments are those of :mod:`.level_kernels`.
"""

import triton
import triton.language as tl

from .tiles import depthwise, gelu, gelu_and_slope, tile

__all__ = ['context_gradient', 'global_gradient', 'kernel_gradient', 'level_gradient']


@triton.jit(do_not_specialize=['height', 'width'], do_not_specialize_on_alignment=['gate', 'dots'])
def global_gradient(grad, mean, gate, partial, dots, gate_stride, dot_stride,
                    height, width, channels, scale, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
                    BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """Through the global context: the gradients of ``GELU(mean)`` and of its gate.

    Args:
        grad: That of ``Zᵒᵘᵗ``.
        mean: The mean of ``Zᴸ`` over each image, (N, C) in float32.
        gate: ``Gᴸ⁺¹``.
        partial: Where the first one's sums over each tile go, (tiles, C) in float32.
        dots: Where the second one's sums over each block of channels go, in float32.
        scale: What ``Zᵒᵘᵗ`` was multiplied by.
    """
    first, _, _, offset, is_pixel, image = tile(height, width, TILE_H, TILE_W, WIDE)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    place = offset[:, None] * channels + channel[None, :]
    above = tl.load(grad + first * channels + place, mask=is_pixel[:, None] & is_channel[None, :], other=0.0)
    above = above.to(tl.float32) * scale
    summary = gelu(tl.load(mean + image.to(tl.int64) * channels + channel, mask=is_channel, other=0.0))
    gates = tl.load(gate + first * gate_stride + offset * gate_stride, mask=is_pixel, other=0.0).to(tl.float32)
    tl.store(partial + tl.program_id(0).to(tl.int64) * channels + channel, tl.sum(above * gates[:, None], 0),
             mask=is_channel)
    tl.store(dots + first * dot_stride + offset * dot_stride + tl.program_id(1), tl.sum(above * summary[None, :], 1),
             mask=is_pixel)


@triton.jit(do_not_specialize=['height', 'width'], do_not_specialize_on_alignment=['gate', 'dots'])
def level_gradient(later, kernel, through_mean, grad, level, gate, before,
                   activated, dots, gate_stride, dot_stride, height, width, channels,
                   scale, KERNEL: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK: tl.constexpr,
                   LEARNS: tl.constexpr, WIDE: tl.constexpr):
    """The gradients of a level before its GELU and of its gate.

    Args:
        later: The gradient of the next level before GELU, if ``KERNEL`` is not 0.
        kernel: The next level's kernel, likewise.
        through_mean: What comes through the global mean in place of a next level, (N, C) in float32.
        grad: That of ``Zᵒᵘᵗ``.
        level: ``Zˡ`` before GELU.
        gate: ``Gˡ``.
        before: Where the gradient of ``level`` goes.
        activated: Where ``Zˡ`` goes, if ``LEARNS``, for the gradient of the next kernel.
        dots: Where the gate's gradient, summed over each block of channels, goes, in float32.
        scale: What ``Zᵒᵘᵗ`` was multiplied by.
    """
    first, row, column, offset, is_pixel, image = tile(height, width, TILE_H, TILE_W, WIDE)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    is_there = is_pixel[:, None] & is_channel[None, :]
    base = first * channels
    place = offset[:, None] * channels + channel[None, :]
    if KERNEL == 0:
        below = tl.load(through_mean + image.to(tl.int64) * channels + channel, mask=is_channel, other=0.0)[None, :]
    else:
        below = depthwise(later + base, channels, kernel, row, column, offset, channel, height, width, channels, KERNEL,
                          True)
    above = tl.load(grad + base + place, mask=is_there, other=0.0).to(tl.float32) * scale
    now, slope = gelu_and_slope(tl.load(level + base + place, mask=is_there, other=0.0).to(tl.float32))
    gates = tl.load(gate + first * gate_stride + offset * gate_stride, mask=is_pixel, other=0.0).to(tl.float32)
    found = (below + above * gates[:, None]) * slope
    tl.store(before + base + place, found.to(before.dtype.element_ty), mask=is_there)
    # Rounded as the forward pass multiplied it with its gate.
    rounded = now.to(before.dtype.element_ty)
    if LEARNS:
        tl.store(activated + base + place, rounded, mask=is_there)
    tl.store(dots + first * dot_stride + offset * dot_stride + tl.program_id(1),
             tl.sum(above * rounded.to(tl.float32), 1), mask=is_pixel)


@triton.jit(do_not_specialize=['height', 'width'])
def context_gradient(later, kernel, context, context_stride, height, width, channels,
                     KERNEL: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK: tl.constexpr,
                     WIDE: tl.constexpr):
    """The gradient of ``Z⁰``: that of the first level before GELU through its kernel."""
    first, row, column, offset, is_pixel, _ = tile(height, width, TILE_H, TILE_W, WIDE)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    found = depthwise(later + first * channels, channels, kernel, row, column, offset, channel, height, width, channels,
                      KERNEL, True)
    tl.store(context + first * context_stride + offset[:, None] * context_stride + channel[None, :],
             found.to(context.dtype.element_ty), mask=is_pixel[:, None] & (channel < channels)[None, :])


@triton.jit(do_not_specialize=['pixels', 'height', 'width', 'share'])
def kernel_gradient(context, later, partial, context_stride, pixels, height, width,
                    channels, share, KERNEL: tl.constexpr, TAPS: tl.constexpr, PIXELS: tl.constexpr,
                    BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The gradient of a row of a level's kernel, summed over a share of all pixels.

    The first axis of the grid counts the rows of the kernel, so that programs which read the same pixels run side by
    side, the second one shares, the third one blocks of channels.

    Args:
        context: What the level took.
        later: The gradient of the level before GELU.
        partial: Where the sums go, (shares, k · k, C) in float32.
        pixels: How many there are in all images.
        share: How many of them a program takes.
    """
    tap_row, number = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    reach: tl.constexpr = KERNEL // 2
    tap = tl.arange(0, TAPS)
    lane = tl.arange(0, PIXELS)
    start = number.to(tl.int64) * share
    total = tl.zeros((TAPS, PIXELS, BLOCK), tl.float32)
    if WIDE:
        lane = lane.to(tl.int64)
    for passed in range(0, share, PIXELS):
        first = start + passed
        is_pixel = (lane + passed < share) & (lane < pixels - first)
        column = (first % width).to(tl.int32) + lane
        row = ((first // width) % height).to(tl.int32) + column // width
        row = row % height + (tap_row - reach)
        column = (column % width)[None, :] + (tap - reach)[:, None]
        is_row = is_pixel & (row >= 0) & (row < height)
        is_there = is_row[None, :] & (column >= 0) & (column < width) & (tap < KERNEL)[:, None]
        above = tl.load(later + first * channels + lane[:, None] * channels + channel[None, :],
                        mask=is_pixel[:, None] & is_channel[None, :], other=0.0).to(tl.float32)
        source = lane[None, :] + ((tap_row - reach) * width + (tap - reach)[:, None])
        value = tl.load(context + first * context_stride + source[:, :, None] * context_stride + channel[None, None, :],
                        mask=is_there[:, :, None] & is_channel[None, None, :], other=0.0).to(tl.float32)
        total += value * above[None, :, :]
    place = (number * KERNEL + tap_row) * KERNEL + tap
    tl.store(partial + place[:, None] * channels + channel[None, :], tl.sum(total, 1),
             mask=(tap < KERNEL)[:, None] & is_channel[None, :])
