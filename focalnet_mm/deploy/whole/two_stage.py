"""Faster and Mask R-CNN, and their cascades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..part import Part, known_class
from .boxes import Boxes, check_coder, check_extractor, check_nms, decode, roi_features, suppress
from .frame import frame
from .masks import near, paste
from .rpn import check_rpn, propose
from .samples import detector_part

__all__ = ['two_stage']

_BOX_HEADS = 'BBoxHead', 'ConvFCBBoxHead', 'Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead'


class TwoStage(nn.Module):
    """Boxes, scores, labels and masks of a detector with proposals.

    Args:
        model: A ``FasterRCNN``, ``MaskRCNN`` or ``CascadeRCNN``, whose parameters are shared.
        masks: ``'paste'``, ``'roi'`` or ``'none'``.
    """

    def __init__(self, model: Any, masks: str) -> None:
        super().__init__()
        self.model = model
        self.masks = masks
        head = model.roi_head
        self.box_heads, self.box_extractors = _listed(head.bbox_head), _listed(head.bbox_roi_extractor)
        if head.with_mask:
            self.mask_heads, self.mask_extractors = _listed(head.mask_head), _listed(head.mask_roi_extractor)

    def forward(self, images: Tensor, inside: Tensor | None = None, original: Tensor | None = None,
                score_threshold: Tensor | None = None, iou_threshold: Tensor | None = None,
                mask_threshold: Tensor | None = None, img_shape: Tensor | None = None,
                resized: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = frame(images, inside, original, img_shape, resized)
        cfg = self.model.roi_head.test_cfg
        features = self.model.extract_feat(images)
        proposals = propose(self.model.rpn_head, features, sizes.limits)
        boxes, scores = self._classify(features, proposals, sizes.limits)
        least = cfg.score_thr if score_threshold is None else score_threshold
        found = _candidates(boxes, scores).masked(((scores > least) & proposals.valid[..., None]).flatten(1))
        found = suppress(found, cfg.nms, iou_threshold, cfg.max_per_img).present()
        boxes, scores, labels = found.outputs()
        outputs = boxes * sizes.scale, scores, labels
        if self.masks == 'none':
            return outputs
        masks = self._masks(features, boxes, found.labels)
        if self.masks == 'roi':
            return *outputs, masks.where(found.valid[..., None, None], 0)
        limit = cfg.mask_thr_binary if mask_threshold is None else mask_threshold
        # Where the limit is 0, a mask holds no farther than mmdet looks.
        place = near(outputs[0], sizes.size) & found.valid[..., None, None]
        return *outputs, (paste(masks, outputs[0], sizes.size) >= limit) & place

    def _classify(self, features: Sequence[Tensor], proposals: Boxes, limits: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, P, classes or 1, 4) and scores (N, P, classes) of the proposals, refined from stage to stage."""
        boxes, logits = proposals.boxes, []
        shape = boxes.shape[:2]
        for stage, (head, extractor) in enumerate(zip(self.box_heads, self.box_extractors)):
            inside = self._features(extractor, features, boxes)
            logit, deltas = head(inside)
            logits.append(logit.unflatten(0, shape))
            deltas = deltas.unflatten(0, shape).unflatten(2, (deltas.shape[1] // 4, 4))
            if stage + 1 < len(self.box_heads):
                # As mmdet: of a softmax the logits, since small probabilities may all be 0.
                ranks = _scores(head, logits[-1]) if head.custom_activation else logits[-1][..., :-1]
                deltas = _of_best_class(ranks, deltas)
                boxes = decode(head.bbox_coder, boxes, deltas, limits)
        each = boxes[:, :, None].expand_as(deltas)
        scores = _scores(head, torch.stack(logits).mean(0))
        return decode(head.bbox_coder, each, deltas, limits), scores

    def _masks(self, features: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities (N, K, h, w) of the masks of boxes, the mean of all stages."""
        found = []
        for head, extractor in zip(self.mask_heads, self.mask_extractors):
            logits = head(self._features(extractor, features, boxes))
            logits = logits.unflatten(0, labels.shape)
            if not head.class_agnostic:
                logits = logits.gather(2, labels[..., None, None, None].expand(-1, -1, 1, *logits.shape[3:]))
            found.append(logits[:, :, 0].sigmoid())
        return torch.stack(found).mean(0)

    def _features(self, extractor: Any, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
        found = roi_features(extractor, features[:extractor.num_inputs], boxes)
        head = self.model.roi_head
        return head.shared_head(found) if head.with_shared_head else found


def two_stage(model: Any, masks: str) -> Part:
    """All of a detector with proposals, as a part to export.

    Args:
        model: A ``FasterRCNN``, ``MaskRCNN`` or ``CascadeRCNN`` of mmdet in evaluation mode.
        masks: ``'paste'``, ``'roi'`` or ``'none'``.

    Raises:
        ValueError: A part of it is not known.
    """
    head = model.roi_head
    check_rpn(model.rpn_head)
    _check_heads(head)
    masks = masks if head.with_mask else 'none'
    if masks != 'none' and head.test_cfg.mask_thr_binary < 0:
        raise ValueError(f'model.test_cfg.rcnn.mask_thr_binary is {head.test_cfg.mask_thr_binary}, with which masks '
                         'are levels from 0 to 255: set one from 0 to 1 by --cfg-options, or --masks none.')
    return detector_part(TwoStage(model, masks), model, head.test_cfg, masks)


def _check_heads(head: Any) -> None:
    for part, known in ((head, ('StandardRoIHead', 'CascadeRoIHead')),
                        *((part, _BOX_HEADS) for part in _listed(head.bbox_head)),
                        *((part, ('FCNMaskHead',)) for part in (_listed(head.mask_head) if head.with_mask else ()))):
        if not known_class(part, *known):
            raise ValueError(f'The {type(part).__name__} is none of {", ".join(known)}, whose predictions are known '
                             'here: export --part features.')
    for part in _listed(head.bbox_head):
        check_coder(part)
        if not (part.with_cls and part.with_reg):
            raise ValueError(f'The {type(part).__name__} has with_cls={part.with_cls} and with_reg={part.with_reg}, '
                             'and only heads with both are known here: export --part features.')
        if part.custom_cls_channels and not known_class(part.loss_cls, 'SeesawLoss'):
            raise ValueError(f'The {type(part).__name__} makes scores as its {type(part.loss_cls).__name__} says, '
                             'which is not known here: export --part features.')
    for part in (*_listed(head.bbox_roi_extractor), *(_listed(head.mask_roi_extractor) if head.with_mask else ())):
        check_extractor(part)
    check_nms(head.test_cfg, 'model.test_cfg.rcnn')


def _candidates(boxes: Tensor, scores: Tensor) -> Boxes:
    """Each class of each proposal."""
    labels = torch.arange(scores.shape[2], device=scores.device).expand_as(scores)
    boxes = boxes.expand(*scores.shape, 4)
    return Boxes(boxes.flatten(1, 2), scores.flatten(1), labels.flatten(1))


def _scores(head: Any, logits: Tensor) -> Tensor:
    """(N, P, classes) of logits (N, P, …), without the background."""
    # Seesaw's loss has two logits of its own for whether there is an object.
    scores = head.loss_cls.get_activation(logits) if head.custom_cls_channels else logits.softmax(2)
    return scores[..., :-1]


def _of_best_class(ranks: Tensor, deltas: Tensor) -> Tensor:
    """(N, P, 4) of (N, P, classes or 1, 4): those of the class that a proposal most likely is of."""
    if deltas.shape[2] == 1:
        return deltas[:, :, 0]
    best = ranks.argmax(2)
    return deltas.gather(2, best[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]


def _listed(parts: Any) -> list[Any]:
    return list(parts) if isinstance(parts, nn.ModuleList) else [parts]
