"""Kernels of focal aggregation (arXiv 2203.11926v3, equations 4 and 5), forward.

Arguments that several kernels share: maps are (N · H · W, C), one pixel after the other, and a ``…_stride`` is the
distance between two pixels; depthwise kernels are (blocks of channels, k · k, channels of a block) in float32, and
their stride that between two blocks. The first axis of the grid counts tiles of all images, the second one blocks of
channels.
"""

import triton
import triton.language as tl

from .tiles import depthwise, gelu, tile

__all__ = ['add_global', 'level_forward']


@triton.jit(do_not_specialize=['height', 'width'], do_not_specialize_on_alignment=['gate'])
def level_forward(context, kernel, gate, level, activated, aggregated, partial,
                  context_stride, kernel_stride, gate_stride, height, width, channels, KERNEL: tl.constexpr,
                  TILE_H: tl.constexpr, TILE_W: tl.constexpr, STRIP: tl.constexpr, BLOCK: tl.constexpr,
                  FIRST: tl.constexpr, LAST: tl.constexpr, KEEP: tl.constexpr, WIDE: tl.constexpr):
    """One level: ``Zˡ = GELU(DWConvˡ(Zˡ⁻¹))``, and ``Gˡ ⊙ Zˡ`` added to what the levels before gave.

    Args:
        context: ``Zˡ⁻¹``.
        kernel: The level's kernel.
        gate: ``Gˡ``, one number a pixel.
        level: Where ``Zˡ`` before GELU goes, if ``KEEP``.
        activated: Where ``Zˡ`` goes, if not ``LAST``.
        aggregated: The sum so far, which ``FIRST`` does not read.
        partial: Where the sums of ``Zˡ`` over each tile go, (tiles, C) in float32, if ``LAST``.
    """
    first, row, column, offset, _ = tile(height, width, TILE_H, TILE_W, STRIP, WIDE)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    totals = depthwise(context + first * context_stride, context_stride, kernel, kernel_stride, row, column, offset,
                       channel, height, width, channels, KERNEL, STRIP, False)
    base = first * channels
    sums = tl.zeros((row.shape[0], BLOCK), tl.float32)
    for k in tl.static_range(STRIP):
        is_pixel = (row < height) & (column + k < width)
        is_there = is_pixel[:, None] & (channel < channels)[None, :]
        # Rounded as the kept map is, so that the backward pass finds the numbers of the forward pass.
        before = totals[k].to(aggregated.dtype.element_ty)
        now = gelu(before.to(tl.float32)).to(aggregated.dtype.element_ty)
        place = (offset + k)[:, None] * channels + channel[None, :]
        if KEEP:
            tl.store(level + base + place, before, mask=is_there)
        if not LAST:
            tl.store(activated + base + place, now, mask=is_there)
        gates = tl.load(gate + (first + offset + k) * gate_stride, mask=is_pixel, other=0.0).to(tl.float32)
        result = now.to(tl.float32) * gates[:, None]
        if not FIRST:
            result += tl.load(aggregated + base + place, mask=is_there, other=0.0).to(tl.float32)
        tl.store(aggregated + base + place, result.to(aggregated.dtype.element_ty), mask=is_there)
        if LAST:
            sums += tl.where(is_pixel[:, None], now.to(tl.float32), 0.0)
    if LAST:
        tl.store(partial + tl.program_id(0).to(tl.int64) * channels + channel, tl.sum(sums, 0),
                 mask=channel < channels)


@triton.jit(do_not_specialize=['height', 'width'], do_not_specialize_on_alignment=['gate'])
def add_global(mean, gate, aggregated, gate_stride, height, width, channels,
               scale, TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK: tl.constexpr, FIRST: tl.constexpr,
               WIDE: tl.constexpr):
    """The last step of equation 5: ``Gᴸ⁺¹ ⊙ GELU(mean)`` added, and the sum multiplied by ``scale``.

    Args:
        mean: The mean of ``Zᴸ`` over each image, (N, C) in float32.
        gate: ``Gᴸ⁺¹``, one number a pixel.
        aggregated: The sum so far, which ``FIRST`` (there are no levels) does not read.
    """
    first, row, column, offset, image = tile(height, width, TILE_H, TILE_W, 1, WIDE)
    is_pixel = (row < height) & (column < width)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    is_there = is_pixel[:, None] & is_channel[None, :]
    summary = gelu(tl.load(mean + image.to(tl.int64) * channels + channel, mask=is_channel, other=0.0))
    gates = tl.load(gate + first * gate_stride + offset * gate_stride, mask=is_pixel, other=0.0).to(tl.float32)
    result = summary[None, :] * gates[:, None]
    place = offset[:, None] * channels + channel[None, :]
    if not FIRST:
        result += tl.load(aggregated + first * channels + place, mask=is_there, other=0.0).to(tl.float32)
    tl.store(aggregated + first * channels + place, (result * scale).to(aggregated.dtype.element_ty), mask=is_there)
