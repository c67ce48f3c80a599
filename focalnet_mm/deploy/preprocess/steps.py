"""The steps before a model, in an ONNX graph: those of the libraries' test pipelines and data preprocessors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .operators import Operators
from .resize import resized

__all__ = ['RESIZES', 'STEPS', 'prepared']

_HEIGHT, _WIDTH = 1, 2


def _resize(op: Operators, images: str, step: Mapping[str, Any]) -> str:
    """mmcv's ``Resize``: to a fixed size, by a factor, or into limits with its ratio kept."""
    height, width = (op.length(images, axis) for axis in (_HEIGHT, _WIDTH))
    if step.get('factor'):
        new_height, new_width = (_scaled(op, length, np.array([factor], np.float64))
                                 for length, factor in zip((height, width), step['factor'][::-1]))
    else:
        new_width, new_height = (op.constant(np.array([length])) for length in step['size'])
    if step['keep_ratio']:
        # Of a factor, too, mmcv makes limits first, which are whole numbers.
        sizes = (new_height, new_width), (height, width)
        factors = [op.Div(*(op.cast(pick(*size), np.float64) for size in sizes)) for pick in (op.Max, op.Min)]
        new_height, new_width = (_scaled(op, length, op.Min(*factors)) for length in (height, width))
    return resized(op, images, new_height, new_width, step['backend'], step['interpolation'])


def _resize_edge(op: Operators, images: str, step: Mapping[str, Any]) -> str:
    """mmpretrain's ``ResizeEdge``: one edge gets a fixed length, the other one the same ratio."""
    height, width = (op.length(images, axis) for axis in (_HEIGHT, _WIDTH))
    fixed = np.array([step['length']])

    def other(length: str, beside: str) -> str:
        exact = op.Div(op.cast(op.Mul(length, fixed), np.float64), op.cast(beside, np.float64))
        return op.cast(op.Floor(exact), np.int64)

    edge = step['edge']
    if edge in ('short', 'long'):
        picks_width = (op.Greater if edge == 'short' else op.Less)(height, width)
    else:
        picks_width = op.constant(np.array([edge == 'width']))
    new_width = op.Where(picks_width, fixed, other(width, height))
    new_height = op.Where(picks_width, other(height, width), fixed)
    return resized(op, images, new_height, new_width, step['backend'], step['interpolation'])


def _center_crop(op: Operators, images: str, step: Mapping[str, Any]) -> str:
    """mmcv's ``CenterCrop``; an image that is smaller stays as it is."""
    starts, ends = [], []
    for axis, crop in ((_HEIGHT, step['size'][1]), (_WIDTH, step['size'][0])):
        length = op.length(images, axis)
        size = op.Min(length, np.array([crop]))
        half = op.Mul(op.cast(op.Sub(length, size), np.float64), np.float64(0.5))
        starts.append(op.cast(op.Round(half), np.int64))
        ends.append(op.Min(op.Add(starts[-1], size), length))
    return op.Slice(images, op.joined(*starts), op.joined(*ends), np.array([_HEIGHT, _WIDTH]))


def _pad(op: Operators, images: str, step: Mapping[str, Any]) -> str:
    """mmcv's ``Pad`` of images (N, H, W, C)."""
    return _padded(op, images, (_HEIGHT, _WIDTH), step, np.float32 if step.get('float') else np.uint8)


def _as_float(op: Operators, images: str, step: Mapping[str, Any]) -> str:
    """What loading with ``to_float32`` adds: steps behind it round no more."""
    return op.cast(images, np.float32)


def _padded(op: Operators, images: str, axes: tuple[int, int], step: Mapping[str, Any], dtype: type) -> str:
    """Images with one value below and on the right, to a size or to multiples of a divisor."""
    lengths = [op.length(images, axis) for axis in axes]
    goals = lengths
    if step.get('square'):
        goals = [op.Max(*lengths)] * 2
    if step.get('size'):
        goals = [op.Max(length, np.array([goal])) for length, goal in zip(lengths, step['size'][::-1])]
    if step.get('divisor', 1) > 1:
        divisor = np.array([step['divisor']])
        goals = [op.Mul(op.Div(op.Add(goal, np.array([step['divisor'] - 1])), divisor), divisor) for goal in goals]
    missing = (op.Sub(goal, length) for goal, length in zip(goals, lengths))
    # Of every axis: where onnxruntime 1.32 moves a transposition past a Pad, it does not heed a choice of axes.
    pads = op.joined(np.zeros(4 + axes[0], np.int64), *missing, np.zeros(3 - axes[1], np.int64))
    return op.Pad(images, pads, np.array(step['value'], dtype))


def prepared(op: Operators, images: str, step: Mapping[str, Any]) -> str:
    """What the data preprocessor makes of images: channels in the model's order, normalised and padded.

    Args:
        op: The graph.
        images: RGB images (N, H, W, 3), uint8 or float32.
        step: ``channels``, of each channel that the model takes its number among R, G and B; ``mean`` and ``std``; and
            ``padding``, as for the step ``pad``, or nothing.

    Returns:
        (N, 3, H, W), float32.
    """
    if step['channels'] != [0, 1, 2]:
        images = op.Gather(images, np.array(step['channels']), axis=3)
    values = op.Transpose(op.cast(images, np.float32), perm=[0, 3, 1, 2])
    mean, std = (np.array(step[name], np.float32)[:, None, None] for name in ('mean', 'std'))
    if mean.any() or (std != 1).any():
        values = op.Div(op.Sub(values, mean), std)
    return _padded(op, values, (2, 3), step['padding'], np.float32) if step['padding'] else values


def _scaled(op: Operators, length: str, factor: str | np.ndarray) -> str:
    exact = op.Add(op.Mul(op.cast(length, np.float64), factor), np.float64(0.5))
    return op.cast(op.Floor(exact), np.int64)


#: Name of a step in a plan → what does it with images (N, H, W, 3), in uint8 until they are made float32.
STEPS: dict[str, Callable[[Operators, str, Mapping[str, Any]], str]] = dict(
    as_float=_as_float, resize=_resize, resize_edge=_resize_edge, center_crop=_center_crop, pad=_pad)
#: Those by whose factors boxes come back.
RESIZES = ('resize', 'resize_edge')
