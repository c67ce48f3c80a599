"""Masks of objects: polygons and run lengths, as pycocotools understands them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

__all__ = ['decode', 'encode', 'mask_area', 'rle_box', 'to_rle']


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths of a mask, (H, W), in a form that JSON can hold."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(size=rle['size'], counts=rle['counts'].decode())


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
