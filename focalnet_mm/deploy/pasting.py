"""Masks of boxes pasted onto a picture, with numpy alone."""

from __future__ import annotations

import numpy as np

__all__ = ['pasted']


def pasted(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float) -> np.ndarray:
    """Paste the masks of boxes onto a picture, one after another, each where its box is.

    Args:
        masks: Probabilities (K, h, w) within the boxes, as ``roi_masks`` of a file that was exported with
            ``--masks roi``.
        boxes: (K, 4) as x1, y1, x2, y2 in pixels of the picture.
        size: Height and width of the picture.
        threshold: From which probability on a pixel belongs to a mask.

    Returns:
        (K, H, W), boolean, as mmdet's ``FCNMaskHead`` gives them on a CPU.
    """
    found = np.zeros((len(masks), *size), bool)
    for mask, box, whole in zip(masks, np.asarray(boxes, np.float32), found):
        (top, rows), (left, columns) = (_weights(box[axis], box[axis + 2], size[1 - axis], mask.shape[1 - axis])
                                        for axis in (1, 0))
        values = rows @ mask @ columns.T
        whole[top:top + len(rows), left:left + len(columns)] = values >= threshold
    return found


def _weights(start: np.float32, end: np.float32, length: int, count: int) -> tuple[int, np.ndarray]:
    """The first pixel that a box may reach along one axis, and by how much each of the values of its mask goes into
    each pixel from there on (pixels, count)."""
    first, last = max(int(np.floor(start)) - 1, 0), min(int(np.ceil(end)) + 1, length)
    pixel = np.arange(first, max(first, last), dtype=np.float32)
    # Without extent there is no position; mmdet takes the middle then.
    position = np.full_like(pixel, count / 2 - 0.5)
    if end > start:
        position = (pixel + np.float32(0.5) - start) / (end - start) * np.float32(count) - np.float32(0.5)
    weights = 1 - np.abs(position[:, None] - np.arange(count, dtype=np.float32))
    return first, np.maximum(weights, 0)
