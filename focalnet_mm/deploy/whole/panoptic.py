"""What mmdet's Mask2Former itself predicts, in the form of an exported file, and panoptic maps compared."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..part import Agreement
from .matching import IOU, SCORE, SHARE
from .matching import agreement as objects_agree
from .samples import as_tensors, data_samples

__all__ = ['OFFSET', 'agreement', 'predictions']

#: What one object of a class is apart from the next in a panoptic map: mmdet's ``INSTANCE_OFFSET``.
OFFSET = 1000


def predictions(model: Any, names: Sequence[str], images: Tensor, inside: Tensor | None = None,
                original: Tensor | None = None, **thresholds: Tensor) -> list[Tensor]:
    """What a Mask2Former predicts for images that are normalised already.

    Args:
        model: The segmenter.
        names: The names of what is returned.
        images: (N, C, H, W).
        inside: Of the shape (height, width) of the images without padding.
        original: Of the shape (height, width) of the pictures before they were resized.
        thresholds: In the place of those of the config.

    Returns:
        One tensor a name. mmdet keeps no scores of segments: ``segment_scores`` is 1 for each in the map.
    """
    head = model.panoptic_fusion_head
    before, head.test_cfg = head.test_cfg, copy.deepcopy(head.test_cfg)
    try:
        head.test_cfg.update({name: float(value) for name, value in thresholds.items()})
        with torch.no_grad():
            samples = model.predict(images, data_samples(images, inside, original), rescale=True)
    finally:
        head.test_cfg = before
    objects = [name for name in names if not name.startswith('segment')]
    found: dict[str, Tensor] = {}
    if objects:
        most = head.test_cfg.get('max_per_image', 100)
        found = dict(zip(objects, as_tensors([sample.pred_instances for sample in samples], most, objects)))
        # mmdet gives them in no order.
        order = found['scores'].argsort(1, descending=True)
        found = {name: torch.stack([rows[one] for rows, one in zip(values, order)]) for name, values in found.items()}
    if 'segments' in names:
        found['segments'] = torch.cat([sample.pred_panoptic_seg.sem_seg for sample in samples]).long()
        numbers = torch.full((len(images), model.panoptic_head.num_queries), -1)
        for row, segments in zip(numbers, found['segments']):
            present = _present(segments, head.num_classes)
            row[:len(present)] = torch.tensor(present)
        found.update(segment_ids=numbers, segment_scores=(numbers >= 0).float())
    return [found[name] for name in names]


def agreement(names: Sequence[str], void: int, expected: Sequence[Tensor], found: Sequence[Tensor]) -> Agreement:
    """Compare objects, where there are such, and the segments of panoptic maps.

    Args:
        names: The names of the tensors.
        void: What a map holds where there is nothing.
        expected: What the model predicts.
        found: What the runtime returns.
    """
    own, other = dict(zip(names, expected)), dict(zip(names, found))
    objects = [name for name in names if not name.startswith('segment')]
    parts = []
    if objects:
        left, right = ([each[name] for name in objects] for each in (own, other))
        parts.append(objects_agree(objects, left, right))
    if 'segments' in own:
        parts.append(_segments_agree(own['segments'], other, void))
    return Agreement(max(part.difference for part in parts), ', '.join(part.words for part in parts),
                     min(part.share for part in parts), (SCORE, 1 - SHARE))


def _segments_agree(expected: Tensor, found: dict[str, Tensor], void: int) -> Agreement:
    count = matches = 0
    known = True
    for own, other, ids, scores in zip(expected, found['segments'], found['segment_ids'], found['segment_scores']):
        left, right = _present(own, void), _present(other, void)
        count += max(len(left), len(right))
        for number in left:
            # The next number is another object's if one before it fell to the other side of a threshold.
            same = [_iou(own == number, other == each) for each in right if each % OFFSET == number % OFFSET]
            matches += max(same, default=0.0) > IOU
        known = known and set(right) <= set(ids.tolist()) and torch.equal(scores > 0, ids >= 0)
    different = float((expected % OFFSET != found['segments'] % OFFSET).float().mean())
    words = f'{matches} of {count} segments found again, {different:.2%} of the pixels of another label'
    # What pixels differ stands in the overlaps.
    return Agreement(0.0, words, matches / count if known and count else float(known))


def _present(segments: Tensor, void: int) -> list[int]:
    return [number for number in segments.unique().tolist() if number != void]


def _iou(one: Tensor, two: Tensor) -> float:
    return float((one & two).sum() / (one | two).sum())
