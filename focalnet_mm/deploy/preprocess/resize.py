"""Resizing as OpenCV and Pillow do it, of 8-bit images to the grey level, since both compute in integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .operators import Operators

__all__ = ['KINDS', 'resized']

# OpenCV's weights have 11 bits, Pillow's 22.
_CV2_ONE = 1 << 11
_PILLOW_ONE = 1 << 22
# How far from its centre each of Pillow's filters reaches.
_REACH = dict(bilinear=1.0, bicubic=2.0)

_HEIGHT, _WIDTH = 1, 2


def resized(op: Operators, images: str, height: str, width: str, backend: str, interpolation: str) -> str:
    """Images in another size, in the numbers that the library of a config computes with.

    Args:
        op: The graph.
        images: (N, H, W, C), uint8, or float32 for ``'cv2 float'``.
        height: The new height (1,), int64.
        width: The new width (1,), int64.
        backend: ``'cv2'``, ``'cv2 float'``, ``'pillow'`` or ``'pillow 13'``.
        interpolation: One of :data:`KINDS` of the backend.

    Returns:
        (N, height, width, C), of the type of the images.
    """
    # The libraries fail where a narrow picture is left without a pixel, and of padding alone a model would predict.
    height, width = (op.Add(length, op.Gather(np.array([0]), op.cast(op.Less(length, np.array([1])), np.int64)))
                     for length in (height, width))
    return KINDS[backend, interpolation](op, images, height, width)


def _cv2_bilinear(op: Operators, images: str, height: str, width: str) -> str:
    first, shares = _cv2_columns(op, images, width)
    rows = _weighted(op, images, _WIDTH, first, _cv2_linear(op, shares))
    first, shares = _cv2_places(op, op.length(images, _HEIGHT), height)
    # OpenCV drops bits on the way: 4 of the rows, 16 of each product.
    rows = op.Div(rows, np.int32(1 << 4))
    parts = [op.Div(op.Mul(part, weight), np.int32(1 << 16))
             for part, weight in _taps(op, rows, _HEIGHT, first, _cv2_linear(op, shares))]
    return op.cast(op.Div(op.Add(op.Add(*parts), np.int32(2)), np.int32(4)), np.uint8)


def _cv2_float_bilinear(op: Operators, images: str, height: str, width: str) -> str:
    rows = images
    for axis, (first, shares) in ((_WIDTH, _cv2_columns(op, images, width)),
                                  (_HEIGHT, _cv2_places(op, op.length(images, _HEIGHT), height))):
        rows = _weighted(op, rows, axis, first, [op.Sub(np.float32(1), shares), shares], np.float32)
    return rows


def _cv2_float_bicubic(op: Operators, images: str, height: str, width: str) -> str:
    for axis, length in ((_WIDTH, width), (_HEIGHT, height)):
        first, shares = _cv2_places(op, op.length(images, axis), length)
        images = _weighted(op, images, axis, op.Sub(first, _int(1)), _cv2_cubic(op, shares), np.float32)
    return images


def _cv2_columns(op: Operators, images: str, width: str) -> tuple[str, str]:
    """What :func:`_cv2_places` returns of columns."""
    first, shares = _cv2_places(op, op.length(images, _WIDTH), width)
    last = op.Sub(op.length(images, _WIDTH), _int(1))
    # At the left and right edge the first of both pixels is the edge itself, and takes the whole weight.
    outside = op.Or(op.Less(first, _int(0)), op.GreaterOrEqual(first, last))
    return first, op.Where(outside, np.float32(0), shares)


def _cv2_bicubic(op: Operators, images: str, height: str, width: str) -> str:
    first, shares = _cv2_places(op, op.length(images, _WIDTH), width)
    rows = _weighted(op, images, _WIDTH, op.Sub(first, _int(1)), _cv2_fixed(op, _cv2_cubic(op, shares)))
    first, shares = _cv2_places(op, op.length(images, _HEIGHT), height)
    # The second pass is in floating point, rounded to the nearest even number.
    weights = [op.Mul(op.cast(weight, np.float32), np.float32(1 / _CV2_ONE**2))
               for weight in _cv2_fixed(op, _cv2_cubic(op, shares))]
    total = _weighted(op, op.cast(rows, np.float32), _HEIGHT, op.Sub(first, _int(1)), weights, np.float32)
    return op.cast(op.Clip(op.Round(total), np.float32(0), np.float32(255)), np.uint8)


def _cv2_step(op: Operators, before: str, after: str) -> str:
    """Pixels before for each pixel after (1,), as OpenCV computes it."""
    return op.Div(np.float64(1), op.Div(op.cast(after, np.float64), op.cast(before, np.float64)))


def _cv2_places(op: Operators, before: str, after: str) -> tuple[str, str]:
    """Of each new pixel the last old one before it, int64, and how far it is from that, float32."""
    middle = op.Add(op.cast(op.positions(after), np.float64), np.float64(0.5))
    place = op.cast(op.Sub(op.Mul(middle, _cv2_step(op, before, after)), np.float64(0.5)), np.float32)
    whole = op.Floor(place)
    return op.cast(whole, np.int64), op.Sub(place, whole)


def _cv2_linear(op: Operators, shares: str) -> list[str]:
    return _cv2_fixed(op, [op.Sub(np.float32(1), shares), shares])


def _cv2_cubic(op: Operators, shares: str) -> list[str]:
    """Keys' kernel with a = -0.75, in float32 and in the order of OpenCV's operations."""
    a = -0.75

    def times(x: str, value: float, plus: float) -> str:
        return op.Add(op.Mul(x, np.float32(value)), np.float32(plus))

    def near(x: str) -> str:
        return op.Add(op.Mul(op.Mul(times(x, a + 2, -(a + 3)), x), x), np.float32(1))

    outer = op.Add(shares, np.float32(1))
    far = times(outer, a, -5 * a)
    for plus in (8 * a, -4 * a):
        far = op.Add(op.Mul(far, outer), np.float32(plus))
    first, second, third = far, near(shares), near(op.Sub(np.float32(1), shares))
    fourth = op.Sub(op.Sub(op.Sub(np.float32(1), first), second), third)
    return [first, second, third, fourth]


def _cv2_fixed(op: Operators, weights: Sequence[str]) -> list[str]:
    return [op.cast(op.Round(op.Mul(weight, np.float32(_CV2_ONE))), np.int32) for weight in weights]


def _taps(op: Operators, images: str, axis: int, first: str, weights: Sequence[str]) -> list[tuple[str, str]]:
    """Of each weight the pixels that it is for, where those beyond the edges repeat them, and itself along the axis."""
    last = op.Sub(op.length(images, axis), _int(1))
    taps = []
    for i, weight in enumerate(weights):
        place = op.Min(op.Max(op.Add(first, _int(i)), _int(0)), last)
        taps.append((op.Gather(images, place, axis=axis), _along(op, weight, axis)))
    return taps


def _weighted(op: Operators, images: str, axis: int, first: str, weights: Sequence[str],
              kind: type = np.int32) -> str:
    """Sums of neighbours along an axis, in the type of the weights."""
    total = ''
    for pixels, weight in _taps(op, images, axis, first, weights):
        part = op.Mul(op.cast(pixels, kind), weight)
        total = op.Add(total, part) if total else part
    return total


def _along(op: Operators, values: str, axis: int) -> str:
    """Values (length,) as factors of images (N, H, W, C)."""
    return op.Unsqueeze(values, np.arange(1, 4 - axis))


def _pillow(interpolation: str, picks_first: bool = False) -> Callable[[Operators, str, str, str], str]:
    def resize(op: Operators, images: str, height: str, width: str) -> str:
        def columns_first(op: Operators) -> str:
            rows = _pillow_pass(op, images, _HEIGHT, height, interpolation)
            return _pillow_pass(op, rows, _WIDTH, width, interpolation)

        def rows_first(op: Operators) -> str:
            rows = _pillow_pass(op, images, _WIDTH, width, interpolation)
            return _pillow_pass(op, rows, _HEIGHT, height, interpolation)

        if not picks_first:
            return rows_first(op)
        shorter = op.Sub(op.length(images, _HEIGHT), height)
        narrower = op.Sub(op.length(images, _WIDTH), width)
        first = op.And(op.Greater(shorter, _int(0)), op.Greater(shorter, op.Mul(narrower, _int(2))))
        return op.choose(first, columns_first, rows_first)
    return resize


def _pillow_pass(op: Operators, images: str, axis: int, length: str, interpolation: str) -> str:
    """One axis after the other, rounded to grey levels in between."""
    first, weights = _pillow_weights(op, op.length(images, axis), length, interpolation)
    last = op.Sub(op.length(images, axis), _int(1))

    def add(body: Operators, number: str, total: str) -> str:
        place = body.Min(body.Add(first, number), last)
        pixels = body.cast(body.Gather(images, place, axis=axis), np.int32)
        return body.Add(total, body.Mul(pixels, _along(body, body.Gather(weights, number, axis=1), axis)))

    shape = [op.length(images, i) for i in range(4)]
    shape[axis] = length
    start = op.Expand(np.int32(_PILLOW_ONE // 2), op.joined(*shape))
    total = op.repeat(op.length(weights, 1), start, add)
    level = op.Div(op.Max(total, np.int32(0)), np.int32(_PILLOW_ONE))
    return op.cast(op.Min(level, np.int32(255)), np.uint8)


def _pillow_weights(op: Operators, before: str, after: str, interpolation: str) -> tuple[str, str]:
    """Of each new pixel the first old one that counts (new,), int64, and the weights from there on (new, most)."""
    step = op.Div(op.cast(before, np.float64), op.cast(after, np.float64))
    # Where an image shrinks the filter grows with it.
    width = op.Max(step, np.float64(1))
    reach = op.Mul(width, np.float64(_REACH[interpolation]))
    middle = op.Mul(op.Add(op.cast(op.positions(after), np.float64), np.float64(0.5)), step)
    rounded = op.Add(middle, np.float64(0.5))
    first = op.Max(op.cast(op.Floor(op.Sub(rounded, reach)), np.int64), _int(0))
    end = op.Min(op.cast(op.Floor(op.Add(rounded, reach)), np.int64), before)
    most = op.Add(op.Mul(op.cast(op.Ceil(reach), np.int64), _int(2)), _int(1))
    place = op.Add(op.Unsqueeze(first, _int(1)), op.Unsqueeze(op.positions(most), _int(0)))
    distance = op.Sub(op.cast(place, np.float64), op.Unsqueeze(middle, _int(1)))
    distance = op.Mul(op.Add(distance, np.float64(0.5)), op.Div(np.float64(1), width))
    weights = op.Where(op.Less(place, op.Unsqueeze(end, _int(1))),
                       _pillow_filter(op, op.Abs(distance), interpolation), np.float64(0))
    weights = op.Div(weights, op.ReduceSum(weights, _int(1), keepdims=1))
    fixed = op.Mul(weights, np.float64(_PILLOW_ONE))
    # Half away from zero.
    fixed = op.Mul(op.Sign(fixed), op.Floor(op.Add(op.Abs(fixed), np.float64(0.5))))
    return first, op.cast(fixed, np.int32)


def _pillow_filter(op: Operators, x: str, interpolation: str) -> str:
    """Pillow's filters of distances that are not negative, float64; the cubic one has a = -0.5."""
    if interpolation == 'bilinear':
        return op.Max(op.Sub(np.float64(1), x), np.float64(0))
    a = -0.5

    def chain(first: str, *plus: float) -> str:
        for value in plus:
            first = op.Add(op.Mul(first, x), np.float64(value))
        return first

    near = op.Add(op.Mul(op.Mul(op.Sub(op.Mul(x, np.float64(a + 2)), np.float64(a + 3)), x), x), np.float64(1))
    far = op.Mul(chain(op.Sub(x, np.float64(5)), 8, -4), np.float64(a))
    return op.Where(op.Less(x, np.float64(1)), near, op.Where(op.Less(x, np.float64(2)), far, np.float64(0)))


def _int(value: int) -> np.ndarray:
    return np.array([value])


#: Library and interpolation of a config → what resizes so.
KINDS: dict[tuple[str, str], Callable[[Operators, str, str, str], str]] = {
    ('cv2', 'bilinear'): _cv2_bilinear,
    ('cv2', 'bicubic'): _cv2_bicubic,
    # Of images that were loaded with to_float32.
    ('cv2 float', 'bilinear'): _cv2_float_bilinear,
    ('cv2 float', 'bicubic'): _cv2_float_bicubic,
    ('pillow', 'bilinear'): _pillow('bilinear'),
    ('pillow', 'bicubic'): _pillow('bicubic'),
    # From release 13 on Pillow begins with the height where that loses more than twice as many pixels as the width.
    ('pillow 13', 'bilinear'): _pillow('bilinear', picks_first=True),
    ('pillow 13', 'bicubic'): _pillow('bicubic', picks_first=True),
}
