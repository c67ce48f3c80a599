from __future__ import annotations
from collections.abc import Sequence
from typing import Any
import torch
from torch import Tensor


def data_samples(images: Tensor, inside: Tensor | None = None, original: Tensor | None = None,
                 img_shape: Tensor | None = None) -> list[Any]:
    """mmdet's samples of images: their sizes.

    Args:
        images: (N, C, H, W).
        inside: Of the shape (height, width) of the images without padding.
        original: Of the shape (height, width) of the pictures before they were resized.
        img_shape: (N or 1, 2), in the place of ``inside`` for each image.
    """
    from mmdet.structures import DetDataSample
    whole = tuple(images.shape[2:])
    shown = whole if inside is None else tuple(inside.shape)
    size = shown if original is None else tuple(original.shape)
    samples = []
    for i in range(len(images)):
        limit = shown if img_shape is None else tuple(map(min, shown, img_shape[i % len(img_shape)].tolist()))
        samples.append(DetDataSample(metainfo=dict(
            img_shape=limit, ori_shape=size, pad_shape=whole, batch_input_shape=whole,
            scale_factor=(shown[1] / size[1], shown[0] / size[0]))))
    return samples


def as_tensors(found: Sequence[Any], most: int, names: Sequence[str]) -> list[Tensor]:
    """Instances of images as one tensor a name, with scores of 0, labels of -1 and zeros where there are fewer."""
    columns = dict(boxes='bboxes', scores='scores', labels='labels', masks='masks')
    return [torch.stack([_padded(one[columns[name]], most, -1 if name == 'labels' else 0) for one in found])
            for name in names]


def _padded(values: Tensor, most: int, fill: float) -> Tensor:
    rest = values.new_full((most - len(values), *values.shape[1:]), fill)
    return torch.cat([values, rest])
