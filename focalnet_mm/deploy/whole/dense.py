"""Detectors without proposals: RetinaNet and ATSS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..part import Part, known_class
from .boxes import Boxes, check_coder, check_nms, check_nms_pre, decode, pick, suppress, top
from .frame import frame
from .operators import INVALID
from .rpn import as_rows, large_enough
from .samples import detector_part

__all__ = ['dense']

_HEADS = 'AnchorHead', 'RetinaHead', 'ATSSHead'


class Dense(nn.Module):
    """Boxes, scores and labels of a detector that scores every anchor.

    Args:
        model: A ``RetinaNet``, ``ATSS`` or ``SingleStageDetector``, whose parameters are shared.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, inside: Tensor | None = None, original: Tensor | None = None,
                score_threshold: Tensor | None = None, iou_threshold: Tensor | None = None,
                img_shape: Tensor | None = None, resized: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = frame(images, inside, original, img_shape, resized)
        head = self.model.bbox_head
        cfg = head.test_cfg
        outputs = head(self.model.extract_feat(images))
        anchors = head.prior_generator.grid_priors([level.shape[2:] for level in outputs[0]], device=images.device)
        least = cfg.get('score_thr', 0) if score_threshold is None else score_threshold
        levels = [_candidates(head, least, priors, *level) for priors, *level in zip(anchors, *outputs)]
        priors, deltas, factors, scores, labels = (torch.cat(column, 1) for column in zip(*levels))
        boxes = decode(head.bbox_coder, priors, deltas, sizes.limits) * sizes.scale
        found = Boxes(boxes, (scores * factors).where(scores > INVALID, INVALID), labels)
        return suppress(large_enough(found, cfg), cfg.nms, iou_threshold, cfg.max_per_img).present().outputs()


def _candidates(head: Any, least: float | Tensor, anchors: Tensor, logits: Tensor, deltas: Tensor,
                centre: Tensor | None = None) -> tuple[Tensor, ...]:
    """The ``nms_pre`` best of the anchors and classes of a level.

    Returns:
        Anchors and deltas (N, nms_pre, 4), and (N, nms_pre) each by what the scores are to be multiplied, the scores,
        :data:`INVALID` where there is none, and the labels.
    """
    logits = as_rows(logits, head.cls_out_channels)
    scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(2)[..., :-1]
    classes = scores.shape[2]
    scores, index = top(scores.where(scores > least, INVALID).flatten(1), head.test_cfg.nms_pre)
    anchor = index // classes
    factors = torch.ones_like(scores) if centre is None else pick(as_rows(centre, 1), anchor)[..., 0].sigmoid()
    return anchors[anchor], pick(as_rows(deltas, 4), anchor), factors, scores, index % classes


def dense(model: Any, masks: str) -> Part:
    """All of a detector without proposals, as a part to export.

    Args:
        model: A ``RetinaNet``, ``ATSS`` or ``SingleStageDetector`` of mmdet in evaluation mode.
        masks: Of no consequence, since it has none.

    Raises:
        ValueError: Its head is not known.
    """
    head = model.bbox_head
    if not known_class(head, *_HEADS):
        raise ValueError(f'The {type(head).__name__} is none of {", ".join(_HEADS)}, whose predictions are known here: '
                         'export --part features.')
    check_coder(head)
    check_nms(head.test_cfg, 'model.test_cfg')
    check_nms_pre(head.test_cfg, 'model.test_cfg')
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        raise ValueError(f'The {type(head).__name__} makes scores as its {type(head.loss_cls).__name__} says, which is '
                         'not known here: export --part features.')
    return detector_part(Dense(model), model, head.test_cfg)
