"""Masks of objects: polygons and run lengths, as pycocotools understands them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

__all__ = ['check_segmentation', 'decode', 'encode', 'mask_area', 'polygon_box', 'rle_box', 'to_rle']


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths of a mask, (H, W), in a form that JSON can hold."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=rle['size'], counts=rle['counts'].decode())


# Corners that lie further out, in sides of the picture, are no corners; pycocotools would draw towards them for hours.
_FURTHEST = 20


def check_segmentation(segmentation: Any, height: int, width: int) -> None:
    """See that pycocotools, which checks nothing, can draw polygons or run lengths.

    Args:
        segmentation: Polygons of numbers, or run lengths.
        height: Of the picture that it belongs to.
        width: The same.

    Raises:
        ValueError: A corner is not finite or far away, or the run lengths are not those of as many pixels.
    """
    if isinstance(segmentation, dict):
        if tuple(segmentation['size']) != (height, width):
            raise ValueError(f'run lengths of a mask of {segmentation["size"]} in a picture of {height} × {width}')
        counts = segmentation['counts']
        runs = counts if isinstance(counts, list) else _unpack(counts)
        if any(not isinstance(run, int) or run < 0 for run in runs) or sum(runs) != height * width:
            raise ValueError(f'run lengths that are not those of {height} × {width} pixels')
        return
    values = np.array([value for polygon in segmentation for value in polygon], float)
    if not (np.abs(values) <= _FURTHEST * max(height, width)).all():
        raise ValueError(f'a polygon with a corner at {values[np.abs(values).argmax()]:g}')


def _unpack(counts: str | bytes) -> list[int]:
    """Run lengths of COCO's compressed form: five bits a character, and differences to the last run but one."""
    runs: list[int] = []
    run = shift = 0
    for byte in counts.encode() if isinstance(counts, str) else counts:
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f'run lengths with the byte {byte}')
        run |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                run -= 1 << shift
            runs.append(run + runs[-2] if len(runs) > 2 else run)
            run = shift = 0
    if shift:
        raise ValueError('run lengths that end within a number')
    return runs


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Run lengths of polygons, or of run lengths in any of COCO's forms.

    Raises:
        ValueError: It is none of these.
    """
    try:
        if isinstance(segmentation, dict):
            if isinstance(segmentation['counts'], list):
                return coco_mask.frPyObjects(segmentation, *segmentation['size'])
            return segmentation
        return coco_mask.merge(coco_mask.frPyObjects([list(polygon) for polygon in segmentation], height, width))
    except Exception as error:  # pycocotools raises bare exceptions
        raise ValueError(f'a segmentation is neither polygons nor run lengths: {error}') from None


def decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask, (H, W), bool."""
    return coco_mask.decode(to_rle(segmentation, height, width)).astype(bool)


def mask_area(segmentation: Any, height: int, width: int) -> float:
    """Area in pixels."""
    return float(coco_mask.area(to_rle(segmentation, height, width)))


def rle_box(rle: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of run lengths."""
    left, top, width, height = coco_mask.toBbox(to_rle(rle, *rle['size'])).tolist()
    return left, top, left + width, top + height


def polygon_box(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of ``[[x, y, x, y, …], …]``; NaN where one of them is not finite."""
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    if not xs or not all(map(math.isfinite, xs + ys)):
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)
