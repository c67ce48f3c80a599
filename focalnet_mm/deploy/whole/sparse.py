"""Sparse R-CNN."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..part import Part
from .boxes import Boxes, best, check_coder, check_extractor, decode, roi_features
from .frame import frame
from .known import check_known, check_most
from .samples import detector_part

__all__ = ['sparse']


class Sparse(nn.Module):
    """Boxes, scores and labels of a detector that refines proposals it has learned.

    Args:
        model: A ``SparseRCNN``, whose parameters are shared.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, inside: Tensor | None = None, original: Tensor | None = None,
                img_shape: Tensor | None = None, resized: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = frame(images, inside, original, img_shape, resized)
        features = self.model.extract_feat(images)
        learned, head = self.model.rpn_head, self.model.roi_head
        centre, extent = learned.init_proposal_bboxes.weight.split(2, 1)
        proposals = torch.cat([centre - extent / 2, centre + extent / 2], 1)
        # One row an image.
        boxes = proposals * sizes.limits[:, None] * images.new_ones(images.shape[0], 1, 1)
        objects = learned.init_proposal_features.weight.expand(images.shape[0], -1, -1)
        for stage, extractor in zip(head.bbox_head, head.bbox_roi_extractor):
            inside_boxes = roi_features(extractor, features[:extractor.num_inputs], boxes)
            logits, deltas, objects, _ = stage(inside_boxes, objects)
            boxes = decode(stage.bbox_coder, boxes, deltas, sizes.limits)
        scores = logits.sigmoid() if stage.loss_cls.use_sigmoid else logits.softmax(2)[..., :-1]
        classes = scores.shape[2]
        each = boxes[:, :, None].expand(*scores.shape, 4)
        labels = torch.arange(classes, device=images.device).expand_as(scores)
        found = best(Boxes(each.flatten(1, 2), scores.flatten(1), labels.flatten(1)), head.test_cfg.max_per_img)
        return found._replace(boxes=found.boxes * sizes.scale).outputs()


def sparse(model: Any, masks: str) -> Part:
    """All of a Sparse R-CNN, as a part to export.

    Args:
        model: A ``SparseRCNN`` of mmdet in evaluation mode.
        masks: Of no consequence, since it has none.

    Raises:
        ValueError: A part of it is not known.
    """
    head = model.roi_head
    check_known((model.rpn_head, 'EmbeddingRPNHead'), (head, 'SparseRoIHead'),
                *((stage, 'DIIHead') for stage in head.bbox_head))
    if head.with_mask:
        raise ValueError('The SparseRoIHead has masks, which are not known here: export --part features.')
    for stage, extractor in zip(head.bbox_head, head.bbox_roi_extractor):
        check_coder(stage)
        check_extractor(extractor)
    check_most(head.test_cfg.max_per_img, model.rpn_head.num_proposals, head.bbox_head[-1].num_classes,
               'model.test_cfg.rcnn.max_per_img')
    # Its predictions know no thresholds, whatever else stands in the test config.
    return detector_part(Sparse(model), model, ConfigDict(max_per_img=head.test_cfg.max_per_img))
