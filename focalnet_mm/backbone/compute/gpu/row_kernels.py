"""Kernels of what lies between the linear layers: norms, layer scale, stochastic depth and residual sums.

A program takes some pixels with all of their channels, one map element after the other: maps are (N · H · W, C), dense.
"""

import triton
import triton.language as tl

from .tiles import gelu_and_slope

__all__ = ['column_sums', 'product_gradient', 'residual_forward', 'row_gradient', 'rows_normed']


@triton.jit
def _normed(x, channel, channels, eps):
    """Rows (pixels, channels) of float32 with mean 0 and variance 1, and their inverse deviations."""
    centred = tl.where((channel < channels)[None, :], x - (tl.sum(x, 1) / channels)[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / channels + eps)
    return centred * inverse[:, None], inverse


@triton.jit
def _through_norm(above, value, inverse, channels):
    """The gradient of what was made to rows of mean 0 and variance 1, from theirs."""
    along = tl.sum(above * value, 1) / channels
    return (above - (tl.sum(above, 1) / channels)[:, None] - value * along[:, None]) * inverse[:, None]


@triton.jit
def _vector(x, channel, channels):
    return tl.load(x + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _step(passed, pixels, share, ROWS: tl.constexpr):
    """The next rows of a program's share of the pixels, of which ``passed`` are behind it: the number of the first one
    in the map, and which of them are there."""
    lane = tl.arange(0, ROWS)
    first = tl.program_id(0).to(tl.int64) * share + passed
    return first, (lane + passed < share) & (lane < pixels - first)


@triton.jit
def _partial(partial, stride, channel):
    """Where the sums of a program's share go."""
    return partial + tl.program_id(0).to(tl.int64) * stride + channel


@triton.jit(do_not_specialize=['pixels'])
def rows_normed(x, weight, bias, out, pixels, channels, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Layer normalisation of ``x`` into ``out``, which may have another data type."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    lane, channel = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    is_there = (lane < pixels - first)[:, None] & (channel < channels)[None, :]
    place = lane[:, None] * channels + channel[None, :]
    value, _ = _normed(tl.load(x + first * channels + place, mask=is_there, other=0.0).to(tl.float32), channel,
                       channels, eps)
    value = value * _vector(weight, channel, channels) + _vector(bias, channel, channels)
    tl.store(out + first * channels + place, value.to(out.dtype.element_ty), mask=is_there)


@triton.jit(do_not_specialize=['pixels', 'per_image'])
def residual_forward(base, branch, weight, bias, scale, drop, out, next_weight, next_bias, given, pixels, per_image,
                     channels, eps, next_eps, ROWS: tl.constexpr, BLOCK: tl.constexpr, NORMED: tl.constexpr,
                     SCALED: tl.constexpr, DROPPED: tl.constexpr, NEXT: tl.constexpr, NEXT_NORMED: tl.constexpr):
    """A residual sum, ``base + drop · scale · norm(branch)``, and what the next layer takes of it.

    Args:
        base: The residual stream.
        branch: What modulation or MLP returned.
        weight: That of the norm behind it, if ``NORMED``; ``bias`` likewise.
        scale: The layer scale, (C), if ``SCALED``.
        drop: What stochastic depth multiplies with, (N), if ``DROPPED``.
        out: Where the sum goes.
        next_weight: That of the norm before the next layer, if ``NEXT_NORMED``; ``next_bias`` likewise.
        given: Where the next layer's input goes, if ``NEXT``.
        pixels: How many there are in all images.
        per_image: How many there are in one.
    """
    first = tl.program_id(0).to(tl.int64) * ROWS
    lane, channel = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    is_pixel = lane < pixels - first
    is_there = is_pixel[:, None] & (channel < channels)[None, :]
    place = lane[:, None] * channels + channel[None, :]
    value = tl.load(branch + first * channels + place, mask=is_there, other=0.0).to(tl.float32)
    if NORMED:
        value, _ = _normed(value, channel, channels, eps)
        value = value * _vector(weight, channel, channels) + _vector(bias, channel, channels)
    if SCALED:
        value *= _vector(scale, channel, channels)
    if DROPPED:
        value *= tl.load(drop + (first + lane) // per_image, mask=is_pixel, other=0.0).to(tl.float32)[:, None]
    value += tl.load(base + first * channels + place, mask=is_there, other=0.0).to(tl.float32)
    # Rounded as it is stored, since the backward pass starts from that.
    rounded = value.to(out.dtype.element_ty)
    tl.store(out + first * channels + place, rounded, mask=is_there)
    if NEXT:
        value = rounded.to(tl.float32)
        if NEXT_NORMED:
            value, _ = _normed(value, channel, channels, next_eps)
            value = value * _vector(next_weight, channel, channels) + _vector(next_bias, channel, channels)
        tl.store(given + first * channels + place, value.to(given.dtype.element_ty), mask=is_there)


@triton.jit(do_not_specialize=['pixels', 'per_image', 'share'])
def row_gradient(grad, x, weight, bias, scale, drop, added, out, partial, partial_stride, pixels, per_image, channels,
                 share, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr, NORMED: tl.constexpr, SCALED: tl.constexpr,
                 DROPPED: tl.constexpr, ADDED: tl.constexpr, LEARNS: tl.constexpr, SUMMED: tl.constexpr):
    """The gradient of ``x`` in ``drop · scale · norm(x)``, and the sums for those of scale, weight and bias.

    Args:
        grad: The gradient of the result.
        x: What the norm took, or the scale, if ``NORMED`` or ``SCALED``.
        weight: That of the norm, if ``NORMED``; ``bias`` likewise.
        scale: The layer scale, (C), if ``SCALED``.
        drop: What stochastic depth multiplies with, (N), if ``DROPPED``.
        added: A map to add to the result, if ``ADDED``.
        out: Where the gradient goes.
        partial: Where sums over a share of the pixels go, (shares, · C) in float32, ``partial_stride`` apart: if
            ``LEARNS`` those for scale, weight and bias, as far as there are such; if ``SUMMED`` those of ``out``.
        pixels: How many there are in all images.
        per_image: How many there are in one.
        share: How many of them a program takes.
    """
    lane, channel = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    is_channel = channel < channels
    nothing = tl.zeros((ROWS, BLOCK), tl.float32)
    for_scale, for_weight, for_bias, for_out = nothing, nothing, nothing, nothing
    for passed in range(0, share, ROWS):
        first, is_pixel = _step(passed, pixels, share, ROWS)
        is_there = is_pixel[:, None] & is_channel[None, :]
        place = first * channels + lane[:, None] * channels + channel[None, :]
        above = tl.load(grad + place, mask=is_there, other=0.0).to(tl.float32)
        if DROPPED:
            above *= tl.load(drop + (first + lane) // per_image, mask=is_pixel, other=0.0).to(tl.float32)[:, None]
        if NORMED or SCALED:
            value = tl.load(x + place, mask=is_there, other=0.0).to(tl.float32)
        if NORMED:
            value, inverse = _normed(value, channel, channels, eps)
        if SCALED:
            for_scale += above * (value * _vector(weight, channel, channels) + _vector(bias, channel, channels)
                                  if NORMED else value)
            above *= _vector(scale, channel, channels)
        if NORMED:
            for_weight += above * value
            for_bias += above
            above = _through_norm(above * _vector(weight, channel, channels), value, inverse, channels)
        if ADDED:
            above += tl.load(added + place, mask=is_there, other=0.0).to(tl.float32)
        tl.store(out + place, above.to(out.dtype.element_ty), mask=is_there)
        if SUMMED:
            for_out += tl.where(is_there, above, 0.0)
    base = _partial(partial, partial_stride, channel)
    if LEARNS and SCALED:
        tl.store(base, tl.sum(for_scale, 0), mask=is_channel)
        base += channels
    if LEARNS and NORMED:
        tl.store(base, tl.sum(for_weight, 0), mask=is_channel)
        tl.store(base + channels, tl.sum(for_bias, 0), mask=is_channel)
        base += 2 * channels
    if SUMMED:
        tl.store(base, tl.sum(for_out, 0), mask=is_channel)


@triton.jit(do_not_specialize=['pixels', 'share'])
def column_sums(x, hidden, partial, partial_stride, pixels, channels, share,
                ROWS: tl.constexpr, BLOCK: tl.constexpr, ACTIVATED: tl.constexpr):
    """Sums of the columns of ``x`` over a share of the pixels.

    Args:
        x: A map. If ``ACTIVATED`` it is the gradient of ``GELU(hidden)``, and is made that of ``hidden``.
        hidden: What GELU took, if ``ACTIVATED``.
        partial: Where the sums go, (shares, C) in float32, the shares ``partial_stride`` apart.
        pixels: How many there are in all images.
        share: How many of them a program takes.
    """
    lane, channel = tl.arange(0, ROWS), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for passed in range(0, share, ROWS):
        first, is_pixel = _step(passed, pixels, share, ROWS)
        is_there = is_pixel[:, None] & is_channel[None, :]
        place = first * channels + lane[:, None] * channels + channel[None, :]
        value = tl.load(x + place, mask=is_there, other=0.0).to(tl.float32)
        if ACTIVATED:
            _, slope = gelu_and_slope(tl.load(hidden + place, mask=is_there, other=0.0).to(tl.float32))
            value *= slope
            tl.store(x + place, value.to(x.dtype.element_ty), mask=is_there)
        total += value
    tl.store(_partial(partial, partial_stride, channel), tl.sum(total, 0), mask=is_channel)


@triton.jit(do_not_specialize=['pixels', 'share'])
def product_gradient(grad, query, modulator, grad_query, partial, partial_stride, pixels, channels, share,
                     ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The gradients of query and modulator, and their sums over a share of the pixels.

    Args:
        grad: That of the product, which is made that of the modulator.
        query: The query.
        modulator: The modulator.
        grad_query: Where the gradient of the query goes.
        partial: Where the sums go, (shares, 2 C) in float32, the query's first, the shares ``partial_stride`` apart.
        pixels: How many there are in all images.
        share: How many of them a program takes.
    """
    lane, channel = tl.arange(0, ROWS), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_channel = channel < channels
    for_query = tl.zeros((ROWS, BLOCK), tl.float32)
    for_modulator = tl.zeros((ROWS, BLOCK), tl.float32)
    for passed in range(0, share, ROWS):
        first, is_pixel = _step(passed, pixels, share, ROWS)
        is_there = is_pixel[:, None] & is_channel[None, :]
        place = first * channels + lane[:, None] * channels + channel[None, :]
        above = tl.load(grad + place, mask=is_there, other=0.0).to(tl.float32)
        of_query = above * tl.load(modulator + place, mask=is_there, other=0.0).to(tl.float32)
        of_modulator = above * tl.load(query + place, mask=is_there, other=0.0).to(tl.float32)
        tl.store(grad_query + place, of_query.to(grad.dtype.element_ty), mask=is_there)
        tl.store(grad + place, of_modulator.to(grad.dtype.element_ty), mask=is_there)
        for_query += of_query
        for_modulator += of_modulator
    base = _partial(partial, partial_stride, channel)
    tl.store(base, tl.sum(for_query, 0), mask=is_channel)
    tl.store(base + channels, tl.sum(for_modulator, 0), mask=is_channel)
