"""What the images of a model are in pixels: as they come, without padding, and before they were resized."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ['UNLIMITED', 'Frame', 'frame']

#: The default of the input ``img_shape``: no image is smaller than the others.
UNLIMITED = torch.tensor([[2**31 - 1, 2**31 - 1]])


class Frame(NamedTuple):
    """The sizes of a batch of images."""

    #: Where boxes end, (N or 1, 4): width, height, width, height of the images without padding.
    limits: Tensor
    #: By what boxes are multiplied to be in pixels of the original pictures, (4,).
    scale: Tensor
    #: Height and width of the original pictures, the size of masks.
    size: tuple[int, int]


def frame(images: Tensor, inside: Tensor | None, original: Tensor | None, img_shape: Tensor | None,
          resized: Tensor | None) -> Frame:
    """The sizes of a batch.

    Args:
        images: (N, C, H, W).
        inside: Of the shape (height, width) of the images without padding, where that is given.
        original: Of the shape (height, width) of the original pictures, where that is given.
        img_shape: (N or 1, 2), height and width of each image without padding, where they differ; as boxes are, in
            pixels of the original pictures.
        resized: Of the shape (height, width) that the original pictures were resized to, where that is not ``inside``,
            since a step of the pipeline pads or crops behind it.
    """
    shown = images.shape[2:] if inside is None else inside.shape
    size = shown if original is None else original.shape
    if inside is None and original is None:
        size = images.shape[2:]
    before = shown if resized is None else resized.shape
    scale = _corners(images, size) / _corners(images, before)
    limits = _corners(images, shown)[None]
    if img_shape is not None:
        # Rounded as resizing rounds a size.
        limits = limits.minimum((img_shape.flip(1).repeat(1, 2).to(images.dtype) / scale + 0.5).floor())
    return Frame(limits, scale, (size[0], size[1]))


def _corners(images: Tensor, size: torch.Size) -> Tensor:
    """Width, height, width, height, without making numbers of sizes that are left open."""
    height, width = (images.new_ones(1) * length for length in size)
    return torch.cat([width, height, width, height])
