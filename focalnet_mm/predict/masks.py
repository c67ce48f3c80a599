"""Masks as COCO stores them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ['encoded']


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's run-length encoding, and its area.

    Written in NumPy, since exported files run where pycocotools is not installed.

    Args:
        mask: (H, W), true where the object is.

    Returns:
        ``segmentation`` with ``size`` [H, W] and ``counts``, and ``area`` in pixels.
    """
    mask = np.asarray(mask) != 0
    # Down the columns, lengths of runs of zeros and ones in turn, the first of zeros.
    pixels = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    runs = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return dict(segmentation=dict(size=list(mask.shape), counts=_text(runs)), area=int(mask.sum()))


def _text(runs: np.ndarray) -> str:
    """Numbers in characters of 5 bits each, lowest first, from the third on as differences to the last but one."""
    left = runs.astype(np.int64)
    left[3:] -= runs[1:-2]
    characters, goes_on = [], np.ones(len(left), bool)
    used = []
    while goes_on.any():
        used.append(goes_on)
        low = left & 31
        left = left >> 5
        # The sign is the highest of the bits that are written.
        goes_on = goes_on & (left != np.where(low & 16, -1, 0))
        characters.append(48 + low + 32 * goes_on)
    return np.stack(characters, 1)[np.stack(used, 1)].astype(np.uint8).tobytes().decode('ascii')
