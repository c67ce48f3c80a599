"""Masks of boxes, pasted onto the image."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['near', 'paste']


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Paste the masks of boxes onto images, by bilinear interpolation, with zeros outside of the boxes.

    The interpolation of a row depends on the height alone and that of a column on the width, so that two matrix
    products make it: a list of points of the size K·H·W·2, as ``grid_sample`` takes it, is not needed.

    Args:
        masks: (N, K, h, w).
        boxes: (N, K, 4) in pixels of the images.
        size: (H, W) of the images.

    Returns:
        (N, K, H, W), as ``_do_paste_mask`` of mmdet's ``fcn_mask_head.py`` gives it.
    """
    height, width = size
    rows = _weights(boxes[..., 1], boxes[..., 3], height, masks.shape[2])
    columns = _weights(boxes[..., 0], boxes[..., 2], width, masks.shape[3])
    return rows @ masks @ columns.transpose(2, 3)


def _weights(start: Tensor, end: Tensor, length: int, count: int) -> Tensor:
    """(N, K, length, count): by how much each of the values of a mask goes into each pixel of an image."""
    pixel = torch.arange(length, device=start.device)
    start, end = start[..., None], end[..., None]
    position = (pixel + 0.5 - start) / (end - start) * count - 0.5
    # Without extent it has no position; mmdet takes the middle then.
    position = position.where(end > start, count / 2 - 0.5)
    weights = (1 - (position[..., None] - torch.arange(count, device=start.device)).abs()).clamp(min=0)
    return weights * _near(start, end, pixel)[..., None]


def near(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, K, H, W): the pixels that mmdet looks at on a CPU, in and around boxes (N, K, 4)."""
    columns, rows = (_near(boxes[..., axis, None], boxes[..., axis + 2, None],
                           torch.arange(length, device=boxes.device)) for axis, length in enumerate(size[::-1]))
    return rows[..., :, None] & columns[..., None, :]


def _near(start: Tensor, end: Tensor, pixel: Tensor) -> Tensor:
    return (pixel >= start.floor() - 1) & (pixel < end.ceil() + 1)
