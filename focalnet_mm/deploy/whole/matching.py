"""Objects that a runtime finds beside those that the model itself predicts, matched one by one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..part import Agreement

__all__ = ['agreement', 'matched']

#: What share of the objects may be missed, since a score or an overlap at the very threshold falls to either side.
SHARE = 0.01
#: How near a threshold or another object the score of the one has to be that fewer objects may miss.
TIE = 1e-4
#: How far boxes and masks must overlap, and how near scores must be.
IOU, SCORE = 0.99, 1e-3
# Pixels by which a box may be off whose overlap says little, since it is that narrow.
_NEAR = 0.01


def agreement(names: Sequence[str], expected: Sequence[Tensor], found: Sequence[Tensor],
              thresholds: Sequence[float] = (0.0,)) -> Agreement:
    """Compare the objects of a batch.

    Args:
        names: The names of the tensors: ``boxes`` (N, K, 4), ``scores`` (N, K), ``labels`` (N, K) and, where there are
            such, ``masks`` (N, K, H, W).
        expected: What the model predicts.
        found: What the runtime returns.
        thresholds: Scores that an object has to exceed.

    Returns:
        Whether no more than :data:`SHARE` of the objects miss their match, or one whose score lies at an edge, and the
        largest difference of their scores.
    """
    own, other = (dict(zip(names, tensors)) for tensors in (expected, found))
    objects = matches = 0
    largest = 0.0
    excused = True
    for image in range(len(own['scores'])):
        one, two = ({name: tensor[image] for name, tensor in each.items()} for each in (own, other))
        pairs = matched(one, two)
        objects += int(max((one['scores'] > 0).sum(), (two['scores'] > 0).sum()))
        matches += len(pairs)
        # Of lists that are both full the next object was cut off.
        full = all(len(side['scores']) and bool((side['scores'] > 0).all()) for side in (one, two))
        for side, paired in ((one, [i for i, _ in pairs]), (two, [j for _, j in pairs])):
            edges = [*thresholds, *([float(side['scores'].min())] if full else [])]
            excused = excused and _undecided(side['scores'], edges, paired)
        largest = max(largest, *(abs(float(one['scores'][i] - two['scores'][j])) for i, j in pairs), 0.0)
    words = f'{matches} of {objects} objects found again, scores differ by at most {largest:.1e}'
    missed = objects - matches
    share = matches / objects if missed and not (missed == 1 and excused) else 1.0
    return Agreement(largest, words, share, (SCORE, 1 - SHARE))


def matched(one: dict[str, Tensor], two: dict[str, Tensor]) -> list[tuple[int, int]]:
    """Pairs of objects of one image that are the same: label, box, score and mask; each of them is in one pair."""
    left, right = (torch.nonzero(side['scores'] > 0)[:, 0] for side in (one, two))
    boxes, others = one['boxes'][left], two['boxes'][right]
    same = one['labels'][left, None] == two['labels'][None, right]
    same &= (one['scores'][left, None] - two['scores'][None, right]).abs() < SCORE
    distance = (boxes[:, None] - others[None]).abs().amax(2)
    same &= (_overlap(boxes, others) > IOU) | (distance < _NEAR)
    pairs: list[tuple[int, int]] = []
    for i in range(len(left)):
        # The nearest of those that are left.
        for j in distance[i].argsort().tolist():
            if same[i, j] and _same_mask(one, two, left[i], right[j]):
                pairs.append((int(left[i]), int(right[j])))
                same[:, j] = False
                break
    return pairs


def _undecided(scores: Tensor, edges: Sequence[float], paired: Sequence[int]) -> bool:
    """Whether rounding may take away or bring each object of an image that has no match."""
    for i in torch.nonzero(scores > 0)[:, 0].tolist():
        others = torch.cat([scores[:i], scores[i + 1:], scores.new_tensor(edges)])
        if i not in paired and not ((others - scores[i]).abs() < TIE).any():
            return False
    return True


def _overlap(one: Tensor, two: Tensor) -> Tensor:
    """Intersection over union (A, B) of boxes (A, 4) and (B, 4)."""
    one, two = one[:, None], two[None]
    corner = torch.minimum(one[..., 2:], two[..., 2:]) - torch.maximum(one[..., :2], two[..., :2])
    common = corner.clamp(min=0).prod(2)
    return common / ((one[..., 2:] - one[..., :2]).prod(2) + (two[..., 2:] - two[..., :2]).prod(2) - common)


def _same_mask(one: dict[str, Tensor], two: dict[str, Tensor], i: Tensor, j: Tensor) -> bool:
    if 'masks' not in one:
        return True
    own, other = one['masks'][i], two['masks'][j]
    # A pixel at the very threshold may fall to either side.
    return int((own ^ other).sum()) <= max(2, (1 - IOU) * int((own | other).sum()))
