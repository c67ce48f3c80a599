"""Proposals of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..part import known_class
from .boxes import Boxes, check_coder, check_nms, check_nms_pre, decode, pick, suppress, top

__all__ = ['as_rows', 'check_rpn', 'large_enough', 'propose']


def propose(head: Any, features: Sequence[Tensor], limits: Tensor) -> Boxes:
    """What mmdet's ``RPNHead`` predicts: the best anchors of each level, refined, without those that overlap.

    Args:
        head: The head with its test config.
        features: A map (N, C, H, W) for each level of the pyramid.
        limits: Where boxes end, (N or 1, 4).

    Returns:
        ``max_per_img`` proposals an image; their labels are their levels.
    """
    cfg = head.test_cfg
    logits, deltas = head(features)
    anchors = head.prior_generator.grid_priors([level.shape[2:] for level in logits], device=logits[0].device)
    levels = [_best_anchors(head, i, *level) for i, level in enumerate(zip(logits, deltas, anchors))]
    found, deltas = (Boxes(*(torch.cat(column, 1) for column in zip(*(level[0] for level in levels)))),
                     torch.cat([level[1] for level in levels], 1))
    boxes = decode(head.bbox_coder, found.boxes, deltas, limits)
    return suppress(large_enough(found._replace(boxes=boxes), cfg), cfg.nms, None, cfg.max_per_img)


def _best_anchors(head: Any, level: int, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Boxes, Tensor]:
    """The ``nms_pre`` anchors of a level that score highest, and their deltas (N, nms_pre, 4)."""
    logits = as_rows(logits, head.cls_out_channels)
    scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(2)
    scores, index = top(scores[..., 0], head.test_cfg.nms_pre)
    labels = torch.full_like(index, level)
    return Boxes(anchors[index], scores, labels), pick(as_rows(deltas, 4), index)


def as_rows(maps: Tensor, channels: int) -> Tensor:
    """(N, H·W·anchors, channels) of maps (N, anchors·channels, H, W)."""
    # Without a size of -1, which the export would have to divide open sizes for.
    return maps.permute(0, 2, 3, 1).unflatten(3, (maps.shape[1] // channels, channels)).flatten(1, 3)


def large_enough(boxes: Boxes, cfg: Any) -> Boxes:
    """Without the boxes that a test config's ``min_bbox_size`` excludes."""
    least = cfg.get('min_bbox_size', -1)
    if least < 0:
        return boxes
    return boxes.masked(((boxes.boxes[..., 2:] - boxes.boxes[..., :2]) > least).all(2))


def check_rpn(head: Any) -> None:
    """Refuse another head, and another way of choosing than by score, overlap and size."""
    if not known_class(head, 'RPNHead'):
        raise ValueError(f'The proposals come from a {type(head).__name__}, which is not known here: '
                         'export --part features.')
    check_coder(head)
    check_nms(head.test_cfg, 'model.test_cfg.rpn')
    check_nms_pre(head.test_cfg, 'model.test_cfg.rpn')
