"""The operators of detectors that torch has no name for, in PyTorch and in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...releases import custom_op

__all__ = ['INVALID', 'LEAST', 'nms', 'present', 'roi_align', 'translations']

#: The score of a box that is none. Scores are probabilities, so that all others are higher.
INVALID = -1.0
#: How many places for boxes there are, even where there is no box: the export takes sizes of 0 and 1 for constants.
LEAST = 2
_LOWEST = -0.5


@custom_op('focalnet_mm::nms')
def nms(boxes: Tensor, scores: Tensor, iou_threshold: Tensor, most: int) -> Tensor:
    """Suppress boxes that overlap with one of a higher score.

    Args:
        boxes: (N, B, 4) as x1, y1, x2, y2.
        scores: (N, B), :data:`INVALID` where there is no box.
        iou_threshold: A single number; boxes that overlap by more are suppressed.
        most: How many boxes of an image are kept, those of the highest scores.

    Returns:
        (N, B), true for each box that is kept.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(len(boxes)):
        left = scores[image].argsort(descending=True)
        left = left[scores[image, left] > _LOWEST]
        # mmcv's operator would compare all boxes, however few are kept.
        for _ in range(most):
            if not len(left):
                break
            keep[image, left[0]] = True
            overlap = _overlap(boxes[image, left[:1]], boxes[image, left])
            left = left[1:][~(overlap[1:] > iou_threshold)]
    return keep


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of a box with boxes."""
    common = (torch.minimum(box[:, 2:], boxes[:, 2:]) - torch.maximum(box[:, :2], boxes[:, :2])).clamp(min=0).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return common / (area[:1] + area - common)


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: Tensor, most: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@custom_op('focalnet_mm::roi_align')
def roi_align(features: list[Tensor], boxes: Tensor, images: Tensor, levels: Tensor, size: list[int],
              scales: list[float], samples: int, aligned: bool) -> Tensor:
    """Average features within boxes, as Mask R-CNN does, each from one level of a pyramid.

    Args:
        features: (N, C, H, W) of each level.
        boxes: (R, 4) in pixels of the images.
        images: (R,), the image of each box, int64.
        levels: (R,), the level of each box, int64.
        size: Height and width of the result.
        scales: What a pixel of the images is in positions of the features, for each level.
        samples: Points a bin and direction; 0 for as many as it has positions.
        aligned: Whether pixels have their centre at a half, as in Detectron2.

    Returns:
        (R, C, height, width).
    """
    from mmcv.ops import roi_align as align
    found = features[0].new_zeros(boxes.shape[0], features[0].shape[1], *size)
    rows = torch.cat([images[:, None].to(boxes), boxes], 1)
    for level, (maps, scale) in enumerate(zip(features, scales)):
        here = levels == level
        if here.any():
            found[here] = align(maps, rows[here], tuple(size), scale, samples, 'avg', aligned)
    return found


@roi_align.register_fake
def _(features: list[Tensor], boxes: Tensor, images: Tensor, levels: Tensor, size: list[int], scales: list[float],
      samples: int, aligned: bool) -> Tensor:
    return features[0].new_empty(boxes.shape[0], features[0].shape[1], *size)


@custom_op('focalnet_mm::present')
def present(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leave out the last places of a batch that no image has a box in, so that nothing is computed for them.

    Args:
        boxes: (N, B, 4).
        scores: (N, B), :data:`INVALID` where there is no box, behind all boxes of the image.
        labels: (N, B).

    Returns:
        The first places of each, as many as the image with the most boxes has, and :data:`LEAST` at least.
    """
    count = max(int((scores > INVALID).sum(1).max()), LEAST)
    return boxes[:, :count].clone(), scores[:, :count].clone(), labels[:, :count].clone()


@present.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size(min=LEAST, max=scores.shape[1])
    return (boxes.new_empty(boxes.shape[0], count, 4), scores.new_empty(scores.shape[0], count),
            labels.new_empty(labels.shape[0], count))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operator → what writes it in standard ONNX, for ``custom_translation_table`` of ``torch.onnx.export``."""
    from onnx import TensorProto
    from onnxscript import opset18
    op: Any = opset18

    def onnx_nms(boxes: Any, scores: Any, iou_threshold: Any, most: int) -> Any:
        # One class, since boxes of different classes were moved apart. Each row is (image, class, box).
        rows = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, op.Constant(value_ints=[1])),
                                    op.Constant(value_ints=[most]), iou_threshold,
                                    op.Constant(value_floats=[_LOWEST]))
        kept = op.Gather(rows, op.Constant(value_ints=[0, 2]), axis=1)
        # How many they are depends on the values; the mask that they are written into does not.
        none = op.Mul(scores, op.Constant(value_float=0.0))
        one = op.Expand(op.Constant(value_floats=[1.0]), op.Shape(rows, start=0, end=1))
        return op.Greater(op.ScatterND(none, kept, one), op.Constant(value_float=0.5))

    def onnx_roi_align(features: Any, boxes: Any, images: Any, levels: Any, size: list[int], scales: list[float],
                       samples: int, aligned: bool) -> Any:
        found, places = [], []
        for level, (maps, scale) in enumerate(zip(features, scales)):
            place = op.Reshape(op.NonZero(op.Equal(levels, op.Constant(value_int=level))),
                               op.Constant(value_ints=[-1]))
            places.append(place)
            found.append(op.RoiAlign(
                maps, op.Gather(boxes, place), op.Gather(images, place), mode='avg', output_height=size[0],
                output_width=size[1], sampling_ratio=samples, spatial_scale=scale,
                coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel'))
        # Where each box is now.
        order = op.Concat(*places, axis=0)
        zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
        numbers = op.Range(zero, op.Size(order), one)
        return op.Gather(op.Concat(*found, axis=0), op.ScatterElements(numbers, order, numbers, axis=0))

    def onnx_present(boxes: Any, scores: Any, labels: Any) -> Any:
        real = op.Cast(op.Greater(scores, op.Constant(value_float=INVALID)), to=TensorProto.INT64)
        most = op.ReduceMax(op.ReduceSum(real, op.Constant(value_ints=[1])), keepdims=0)
        end = op.Max(op.Reshape(most, op.Constant(value_ints=[1])), op.Constant(value_ints=[LEAST]))
        start, axis = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
        return tuple(op.Slice(values, start, end, axis) for values in (boxes, scores, labels))

    ours = torch.ops.focalnet_mm
    return {ours.nms.default: onnx_nms, ours.roi_align.default: onnx_roi_align, ours.present.default: onnx_present}
