"""The steps that detectors share: decoding, suppression and choice of boxes, and the features within them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..part import known_class
from .operators import INVALID, LEAST, nms, present, roi_align

__all__ = ['Boxes', 'best', 'check_coder', 'check_extractor', 'check_nms', 'check_nms_pre', 'clip', 'decode', 'iou_key',
           'pick', 'roi_features', 'suppress', 'top']

_WAY_OUT = 'export --part features'


class Boxes(NamedTuple):
    """As many boxes for every image; those that are none have the score :data:`INVALID`."""

    #: (N, B, 4).
    boxes: Tensor
    #: (N, B).
    scores: Tensor
    #: (N, B), int64: classes, or levels of the pyramid.
    labels: Tensor

    @property
    def valid(self) -> Tensor:
        """(N, B), true for each that is a box."""
        return self.scores > INVALID

    def masked(self, valid: Tensor) -> Boxes:
        """The same with those boxes alone."""
        return self._replace(scores=self.scores.where(valid, INVALID))

    def present(self) -> Boxes:
        """The first places, as many as some image has boxes in, where boxes are in order and behind them none."""
        # With fewer there is little to leave out, and the least that is kept.
        return Boxes(*present(*self)) if self.scores.shape[1] > LEAST else self

    def outputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels as a file returns them: where there is none, 0, 0 and -1."""
        return (self.boxes.where(self.valid[..., None], 0), self.scores.where(self.valid, 0),
                self.labels.where(self.valid, -1))


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest of scores (N, B) and where they are, (N, count) each, whether there are so many or not."""
    # How many there are may depend on the size of the images.
    values, index = F.pad(scores, (0, count), value=INVALID).topk(count, dim=1)
    return values, index.where(values > INVALID, 0)


def best(boxes: Boxes, count: int) -> Boxes:
    """The boxes of the highest scores, in order; ``count`` of them, whether there are so many or not."""
    scores, index = top(boxes.scores, count)
    return Boxes(pick(boxes.boxes, index), scores, boxes.labels.gather(1, index))


def pick(rows: Tensor, index: Tensor) -> Tensor:
    """The rows (N, K, C) of (N, B, C) at an index (N, K)."""
    # take_along_dim would take the number of images for a constant.
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


def decode(coder: Any, priors: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Boxes (N, …, 4) from priors and deltas of that shape, as a head's coder makes them."""
    from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox
    boxes = delta2bbox(priors.flatten(0, -2), deltas.flatten(0, -2), coder.means, coder.stds, clip_border=False,
                       add_ctr_clamp=coder.add_ctr_clamp, ctr_clamp=coder.ctr_clamp).reshape(deltas.shape)
    return clip(boxes, limits) if coder.clip_border else boxes


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes (N, …, 4) within the limits (N or 1, 4) of their images."""
    return boxes.clamp(min=0).minimum(limits.reshape(-1, *[1] * (boxes.dim() - 2), 4))


def suppress(boxes: Boxes, settings: Any, iou_threshold: Tensor | None, most: int) -> Boxes:
    """The boxes of the highest scores that overlap with no better one of their label, as mmcv's ``batched_nms``.

    Args:
        boxes: The candidates.
        settings: The ``nms`` of a test config; with ``None`` boxes may overlap.
        iou_threshold: In the place of the config's.
        most: How many of an image are kept.
    """
    if settings is None:
        return best(boxes, most)
    apart = boxes.boxes
    if not settings.get('class_agnostic', False):
        # Boxes of different labels are moved apart, so that they do not overlap.
        farthest = boxes.boxes.where(boxes.valid[..., None], 0).amax((1, 2))
        apart = apart + (boxes.labels * (farthest[:, None] + 1))[..., None]
    if iou_threshold is None:
        iou_threshold = torch.tensor(float(settings[iou_key(settings)]))
    return best(boxes.masked(nms(apart, boxes.scores, iou_threshold, most)), most)


def roi_features(extractor: Any, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Features (N·K, C, h, w) within boxes (N, K, 4), each from the level of the pyramid that is for its size."""
    count, each = boxes.shape[:2]
    images = torch.arange(count, device=boxes.device)[:, None].expand(count, each).flatten()
    flat = boxes.flatten(0, 1)
    side = (flat[:, 2:] - flat[:, :2]).prod(1).sqrt() / extractor.finest_scale + 1e-6
    level = sum(((side >= 2**i).long() for i in range(1, extractor.num_inputs)), torch.zeros_like(images))
    layer = extractor.roi_layers[0]
    return roi_align(list(features), flat, images, level, list(layer.output_size),
                     [one.spatial_scale for one in extractor.roi_layers], layer.sampling_ratio, layer.aligned)


def check_coder(head: Any) -> None:
    """Refuse boxes that are encoded in another way than as deltas of centre and size."""
    coder = head.bbox_coder
    if not known_class(coder, 'DeltaXYWHBBoxCoder'):
        raise ValueError(f'The {type(head).__name__} has boxes of a {type(coder).__name__}, which is not known here: '
                         f'{_WAY_OUT}.')


def check_extractor(extractor: Any) -> None:
    """Refuse other features than the average within a box, from the level that is for its size."""
    layer = extractor.roi_layers[0] if known_class(extractor, 'SingleRoIExtractor') else extractor
    if not known_class(layer, 'RoIAlign') or layer.pool_mode != 'avg':
        raise ValueError(f'The features of boxes come from a {type(extractor).__name__} with {type(layer).__name__}, '
                         f'which is not known here: {_WAY_OUT}.')


def check_nms(test_cfg: Any, where: str) -> None:
    """Refuse a test config that chooses boxes in another way than by scores, overlap and number."""
    settings = test_cfg.get('nms') or {}
    other = {'type': 'nms', **settings}
    # How many boxes mmcv takes at once makes no difference.
    for key in ('iou_threshold', 'iou_thr', 'class_agnostic', 'split_thr'):
        other.pop(key, None)
    if other != dict(type='nms'):
        raise ValueError(f'{where}.nms is {dict(settings)}, of which only type=\'nms\', iou_threshold, class_agnostic '
                         f'and split_thr are known here: {_WAY_OUT}.')
    if not test_cfg.get('max_per_img', 0) > 0:
        raise ValueError(f'{where}.max_per_img is {test_cfg.get("max_per_img")}, so that it is open how many boxes the '
                         f'file returns: set it by --cfg-options, or {_WAY_OUT}.')


def check_nms_pre(test_cfg: Any, where: str) -> None:
    """Refuse a test config that keeps all anchors, of which there are as many as the image is large."""
    if not test_cfg.get('nms_pre', 0) > 0:
        raise ValueError(f'{where}.nms_pre is {test_cfg.get("nms_pre")}, so that all anchors would be compared with '
                         f'one another: set it by --cfg-options, or {_WAY_OUT}.')


def iou_key(settings: Any) -> str:
    """What the threshold is called, in older configs otherwise."""
    return 'iou_threshold' if 'iou_threshold' in settings else 'iou_thr'
