"""The whole of mmdet's Mask2Former, from images to masks of objects and to panoptic maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..part import Part
from .known import check_known, check_most
from .panoptic import OFFSET, agreement, predictions

__all__ = ['Mask2Former', 'mask2former']

#: Below it the sigmoid in float32 is 0.
_LEAST_LOGIT = -88.72


class Mask2Former(nn.Module):
    """Objects, panoptic maps or both, as the config's ``test_cfg`` asks for them.

    The layers are the model's own; written anew is what its ``MaskFormerFusionHead`` makes of their classes and masks,
    for a batch and without shapes that depend on values.

    Args:
        model: The segmenter.
        with_masks: Whether the masks of objects are returned.
    """

    def __init__(self, model: Any, with_masks: bool = True) -> None:
        super().__init__()
        self.model = model
        self.with_masks = with_masks

    def forward(self, images: Tensor, inside: Tensor | None = None, original: Tensor | None = None,
                object_mask_thr: Tensor | None = None, iou_thr: Tensor | None = None,
                filter_low_score: Tensor | None = None) -> tuple[Tensor, ...]:
        """Segment.

        Args:
            images: Images (N, C, H, W), normalised and padded.
            inside: Of the shape (height, width) of the images without padding; without it they have none.
            original: Of the shape (height, width) that the results are for; without it that of ``inside``.
            object_mask_thr: The score that a segment has to exceed.
            iou_thr: The least part of a mask that other masks have to leave to its segment.
            filter_low_score: Above 0, a segment has no pixels of a probability below 0.5.

        Returns:
            Of objects what :meth:`objects` returns and of a panoptic map what :meth:`panoptic` returns, one after the
            other.
        """
        model: Any = self.model
        settings = model.panoptic_fusion_head.test_cfg
        of_layers = model.panoptic_head(model.extract_feat(images), None)
        classes, masks = (predictions[-1] for predictions in of_layers)
        classes = classes.softmax(-1)

        def resize(masks: Tensor) -> Tensor:
            masks = F.interpolate(masks, images.shape[2:], mode='bilinear', align_corners=False)
            if inside is not None:
                masks = masks[..., :inside.shape[0], :inside.shape[1]]
            if original is not None:
                masks = F.interpolate(masks, original.shape, mode='bilinear', align_corners=False)
            return masks

        found: tuple[Tensor, ...] = ()
        if settings.get('instance_on', False):
            found += self.objects(classes, masks, resize)[:4 if self.with_masks else 3]
        if settings.get('panoptic_on', True):
            thresholds = (default if given is None else given for given, default in zip(
                (object_mask_thr, iou_thr, filter_low_score), panoptic_thresholds(settings).values()))
            found += self.panoptic(classes, resize(masks), *thresholds)
        return found

    def objects(self, classes: Tensor, masks: Tensor, resize: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """The objects of the queries and classes with the highest scores.

        Args:
            classes: Probabilities (N, queries, classes + 1), the last one that of no object.
            masks: Logits (N, queries, H, W).
            resize: Brings logits to the size that the masks are for.

        Returns:
            Boxes (N, K, 4) around the masks as x1, y1, x2, y2 in pixels, scores (N, K) in descending order, labels
            (N, K), and masks (N, K, height, width). Behind the objects follow scores of 0, labels of -1 and nothing
            else.
        """
        model: Any = self.model
        head = model.panoptic_fusion_head
        scores, indices = classes[..., :-1].flatten(1).topk(head.test_cfg.get('max_per_image', 100), 1)
        labels, queries = indices % head.num_classes, torch.div(indices, head.num_classes, rounding_mode='floor')
        logits = resize(_rows(masks, queries))
        masks = logits > 0
        covered = masks.to(logits)
        scores = scores * (logits.sigmoid() * covered).sum((2, 3)) / (covered.sum((2, 3)) + 1e-6)
        # Stuff has no objects.
        things = labels < head.num_things_classes
        scores, order = scores.where(things, 0.0).sort(1, descending=True)
        labels, things, masks = labels.gather(1, order), things.gather(1, order), _rows(masks, order)
        masks = masks & things[..., None, None]
        return _boxes(masks), scores, labels.where(things, -1), masks

    def panoptic(self, classes: Tensor, masks: Tensor, object_mask_thr: Tensor, iou_thr: Tensor,
                 filter_low_score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which segment each pixel is of.

        Args:
            classes: Probabilities (N, queries, classes + 1), the last one that of no segment.
            masks: Logits (N, queries, height, width).
            object_mask_thr: As in :meth:`forward`.
            iou_thr: As in :meth:`forward`.
            filter_low_score: As in :meth:`forward`.

        Returns:
            A map (N, height, width) of segments, each the label, and of a thing 1000 times its number besides; where
            there is none, the number of classes. Of each query its number in the map (N, queries), -1 where it has
            none, and its score (N, queries), 0 where it has none.
        """
        model: Any = self.model
        head = model.panoptic_fusion_head
        scores, labels = classes.max(-1)
        kept = (labels != head.num_classes) & (scores > object_mask_thr)
        # onnxruntime's sigmoid is the same for all logits below -18, and its exponential for all above 88. Far from all
        # masks PyTorch's own tells them apart down to where float32 ends, at 0, and the first of equals owns a pixel.
        probabilities = (1 + (-masks).exp()).reciprocal().where(masks > _LEAST_LOGIT, 0.0)
        # What is not kept comes behind all the rest, whatever its score.
        owners = (probabilities * scores[..., None, None] - 2.0 * (~kept[..., None, None]).to(scores)).argmax(1)
        pixels = owners.flatten(1)
        areas = torch.zeros_like(scores).scatter_add(1, pixels, torch.ones_like(pixels, dtype=scores.dtype))
        whole = (probabilities >= 0.5).to(scores).sum((2, 3))
        kept = kept & (areas > 0) & (whole > 0) & (areas / whole.clamp(min=1) >= iou_thr)
        things = labels < head.num_things_classes
        numbers = (kept & things).to(torch.int64).cumsum(1)
        numbers = (labels + numbers * things * OFFSET).where(kept, -1)
        segments = numbers.gather(1, pixels).reshape(owners.shape)
        sure = (probabilities.gather(1, owners[:, None])[:, 0] >= 0.5) | (filter_low_score <= 0)
        return segments.where(sure & (segments >= 0), head.num_classes), numbers, scores.where(kept, 0.0)


def mask2former(model: Any, masks: str) -> Part:
    """All of a Mask2Former, as a part to export.

    Args:
        model: A ``Mask2Former`` of mmdet in evaluation mode.
        masks: ``'paste'``, or ``'none'`` for objects without masks.

    Raises:
        ValueError: A part of it is not known, or has no masks of that kind.
    """
    head, fusion = model.panoptic_head, model.panoptic_fusion_head
    settings = fusion.test_cfg
    check_known((model, 'Mask2Former'), (head, 'Mask2FormerHead'), (head.pixel_decoder, 'MSDeformAttnPixelDecoder'),
                (fusion, 'MaskFormerFusionHead'))
    with_objects, with_map = settings.get('instance_on', False), settings.get('panoptic_on', True)
    if with_objects and masks == 'roi':
        raise ValueError('The masks of a Mask2Former are of whole images and not of boxes: --masks paste or --masks '
                         'none.')
    if not with_objects and not with_map:
        raise ValueError('The test_cfg of the Mask2Former asks for nothing that its head gives: set instance_on or '
                         'panoptic_on.')
    names, left = [], []
    if with_objects:
        check_most(settings.get('max_per_image', 100), head.num_queries, fusion.num_classes,
                   'model.test_cfg.max_per_image')
        names += ['boxes', 'scores', 'labels', *(['masks'] if masks == 'paste' else [])]
        left.append('Boxes are in pixels, as left, top, right and bottom. The objects of an image stand in the order '
                    'of their scores, behind them scores of 0 and labels of -1.')
    if with_map:
        names += ['segments', 'segment_ids', 'segment_scores']
        left.append(f'A pixel of segments holds its label plus {OFFSET} times the number of the object, and '
                    f'{fusion.num_classes} where there is nothing.')
    thresholds = panoptic_thresholds(settings) if with_map else {}
    facts = dict(task='panoptic' if with_map else 'detection', num_things=fusion.num_things_classes,
                 num_classes=fusion.num_classes,
                 thresholds={name: float(value) for name, value in thresholds.items()})
    # Untrained models have no segment at the thresholds of the config.
    trial = dict(object_mask_thr=torch.tensor(0.0), iou_thr=torch.tensor(0.0)) if with_map else {}
    return Part(Mask2Former(model, masks == 'paste').eval(), tuple(names), ' '.join(left),
                partial(predictions, model, names), facts, ('onnx',), thresholds, ('inside', 'original'), trial,
                partial(agreement, names, fusion.num_classes), chooses=True)


def panoptic_thresholds(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The thresholds of a panoptic map in a ``test_cfg``, by their names there, as mmdet's head has them."""
    defaults = dict(object_mask_thr=0.8, iou_thr=0.8, filter_low_score=False)
    return {name: torch.tensor(float(settings.get(name, default))) for name, default in defaults.items()}


def _rows(values: Tensor, indices: Tensor) -> Tensor:
    """Of each image the rows (N, K, …) that the indices (N, K) name among the values (N, rows, …)."""
    count, rows = values.shape[:2]
    first = torch.arange(count, device=values.device)[:, None] * rows
    return values.flatten(0, 1)[(indices + first).flatten()].unflatten(0, indices.shape)


def _boxes(masks: Tensor) -> Tensor:
    """The boxes (…, 4) around masks (…, H, W), zeros around nothing; mmdet's ``mask2bbox``."""
    firsts, lasts = [], []
    for dim in (-2, -1):
        covered = masks.any(dim)
        places = torch.arange(covered.shape[-1], device=masks.device, dtype=torch.float32)
        firsts.append(places.where(covered, float('inf')).amin(-1))
        lasts.append((places + 1).where(covered, 0.0).amax(-1))
    boxes = torch.stack((*firsts, *lasts), -1)
    return boxes.where(boxes[..., 2:3] > 0, 0.0)
