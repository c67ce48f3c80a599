"""Kernels of focal aggregation, backward: without atomics, so that every run gives the same numbers.

Sums over all pixels, and sums over all channels, take two steps: a kernel leaves those of its tile, torch adds them up.
The arguments are those of :mod:`.level_kernels`.
"""

import triton
import triton.language as tl

from .tiles import depthwise, gelu, gelu_and_slope, is_within, tile

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
    first, row, column, offset, image = tile(height, width, TILE_H, TILE_W, 1, WIDE)
    is_pixel = (row < height) & (column < width)
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
                   activated, dots, kernel_stride, gate_stride, dot_stride, height, width, channels,
                   scale, KERNEL: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr, STRIP: tl.constexpr,
                   BLOCK: tl.constexpr, LEARNS: tl.constexpr, WIDE: tl.constexpr):
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
    first, row, column, offset, image = tile(height, width, TILE_H, TILE_W, STRIP, WIDE)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    base = first * channels
    if KERNEL == 0:
        mean = tl.load(through_mean + image.to(tl.int64) * channels + channel, mask=is_channel, other=0.0)
        below = (mean[None, :],) * STRIP
    else:
        below = depthwise(later + base, channels, kernel, kernel_stride, row, column, offset, channel, height, width,
                          channels, KERNEL, STRIP, True)
    for k in tl.static_range(STRIP):
        is_pixel = (row < height) & (column + k < width)
        is_there = is_pixel[:, None] & is_channel[None, :]
        place = (offset + k)[:, None] * channels + channel[None, :]
        above = tl.load(grad + base + place, mask=is_there, other=0.0).to(tl.float32) * scale
        now, slope = gelu_and_slope(tl.load(level + base + place, mask=is_there, other=0.0).to(tl.float32))
        gates = tl.load(gate + (first + offset + k) * gate_stride, mask=is_pixel, other=0.0).to(tl.float32)
        found = (below[k] + above * gates[:, None]) * slope
        tl.store(before + base + place, found.to(before.dtype.element_ty), mask=is_there)
        # Rounded as the forward pass multiplied it with its gate.
        rounded = now.to(before.dtype.element_ty)
        if LEARNS:
            tl.store(activated + base + place, rounded, mask=is_there)
        tl.store(dots + (first + offset + k) * dot_stride + tl.program_id(1),
                 tl.sum(above * rounded.to(tl.float32), 1), mask=is_pixel)


@triton.jit(do_not_specialize=['height', 'width'])
def context_gradient(later, kernel, context, kernel_stride, context_stride, height, width, channels,
                     KERNEL: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr, STRIP: tl.constexpr,
                     BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The gradient of ``Z⁰``: that of the first level before GELU through its kernel."""
    first, row, column, offset, _ = tile(height, width, TILE_H, TILE_W, STRIP, WIDE)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    found = depthwise(later + first * channels, channels, kernel, kernel_stride, row, column, offset, channel, height,
                      width, channels, KERNEL, STRIP, True)
    for k in tl.static_range(STRIP):
        tl.store(context + first * context_stride + (offset + k)[:, None] * context_stride + channel[None, :],
                 found[k].to(context.dtype.element_ty),
                 mask=((row < height) & (column + k < width))[:, None] & (channel < channels)[None, :])


@triton.jit(do_not_specialize=['strips', 'height', 'width', 'share'])
def kernel_gradient(context, later, partial, context_stride, partial_stride, strips, height, width,
                    channels, share, KERNEL: tl.constexpr, STRIP: tl.constexpr, LANES: tl.constexpr,
                    BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The gradient of a row of a level's kernel, summed over a share of all pixels, which are cut into strips of a row.

    The first axis of the grid counts the rows of the kernel, so that programs which read the same pixels run side by
    side, the second one shares, the third one blocks of channels.

    Args:
        context: What the level took.
        later: The gradient of the level before GELU.
        partial: Where the sums go, (shares, k · k, C) in float32, the shares ``partial_stride`` apart.
        strips: How many there are in all images.
        share: How many of them a program takes.
    """
    tap_row, number = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    reach: tl.constexpr = KERNEL // 2
    across = tl.cdiv(width, STRIP)
    lane = tl.arange(0, LANES)
    start = number.to(tl.int64) * share
    totals = (tl.zeros((LANES, BLOCK), tl.float32),) * KERNEL
    for passed in range(0, share, LANES):
        first = start + passed
        line = first // across
        place = (first % across).to(tl.int32) + lane
        is_strip = (lane + passed < share) & (lane < strips - first)
        down, column = place // across, place % across * STRIP
        row = ((line % height).to(tl.int32) + down) % height + (tap_row - reach)
        is_row = is_strip & is_within(row, height)
        if WIDE:
            down = down.to(tl.int64)
        offset = down * width + column
        above = ()
        for k in tl.static_range(STRIP):
            is_there = is_strip & (column + k < width)
            value = tl.load(later + line * width * channels + (offset + k)[:, None] * channels + channel[None, :],
                            mask=is_there[:, None] & is_channel[None, :], other=0.0)
            above = above + (value.to(tl.float32),)  # type: ignore[assignment]
        source = context + line * width * context_stride + (
            offset + (tap_row - reach) * width - reach)[:, None] * context_stride + channel[None, :]
        for j in tl.static_range(KERNEL + STRIP - 1):
            is_there = is_row & is_within(column + (j - reach), width)
            value = tl.load(source, mask=is_there[:, None] & is_channel[None, :], other=0.0).to(tl.float32)
            source += context_stride
            summed = ()
            for tap in tl.static_range(KERNEL):
                if (j >= tap) and (j < tap + STRIP):
                    summed = summed + (totals[tap] + value * above[j - tap],)  # type: ignore[assignment]
                else:
                    summed = summed + (totals[tap],)  # type: ignore[assignment]
            totals = summed
    base = partial + number.to(tl.int64) * partial_stride + tap_row * KERNEL * channels + channel
    for tap in tl.static_range(KERNEL):
        tl.store(base + tap * channels, tl.sum(totals[tap], 0), mask=is_channel)
