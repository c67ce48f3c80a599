"""What there is to count in one's own data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...data.own.records import Annotation, OwnData, Picture

__all__ = ['UNSPLIT', 'histogram', 'is_drawable', 'mean_side', 'per_class', 'per_split', 'quantiles', 'split_of',
           'splits_of']

#: What pictures are counted under that no split has.
UNSPLIT = 'no split'
_QUANTILES = dict(least=0, quarter=25, median=50, three_quarters=75, greatest=100)


def split_of(picture: Picture) -> str:
    """The split that a picture is counted under."""
    return picture.split or UNSPLIT


def splits_of(data: OwnData) -> list[str]:
    """The splits that the data has, those of training first."""
    found = {split_of(picture) for picture in data.pictures}
    order = ['train', 'val', 'test', UNSPLIT]
    return sorted(found, key=lambda split: order.index(split) if split in order else len(order))


def is_drawable(annotation: Annotation) -> bool:
    """Whether the box of an annotation has finite corners and some area."""
    left, top, right, bottom = annotation.box
    return all(map(math.isfinite, annotation.box)) and right > left and bottom > top


def mean_side(annotation: Annotation) -> float:
    """The square root of the area of a box, in pixels."""
    left, top, right, bottom = annotation.box
    return math.sqrt((right - left) * (bottom - top))


def per_split(data: OwnData) -> dict[str, dict[str, int]]:
    """Numbers of pictures and what is annotated in them, by split.

    Returns:
        Of each split ``pictures``, those of them that are ``annotated`` and that are ``unreadable``, ``objects`` and,
        among these, ``crowds``.
    """
    found = {split: dict.fromkeys(('pictures', 'annotated', 'unreadable', 'objects', 'crowds'), 0)
             for split in splits_of(data)}
    for picture in data.pictures:
        row = found[split_of(picture)]
        row['pictures'] += 1
        row['annotated'] += bool(picture.annotations or picture.labels or picture.label_map)
        row['unreadable'] += not (picture.height and picture.width)
        row['objects'] += len(picture.annotations)
        row['crowds'] += sum(annotation.crowd for annotation in picture.annotations)
    return found


def per_class(data: OwnData, pixels: dict[int, Counter[int]]) -> list[dict[str, Any]]:
    """How often each class comes, by split.

    Args:
        data: The data.
        pixels: Number of pixels of each class, by index of the picture, for the label maps that were read.

    Returns:
        Of each class ``name``, ``label``, ``stuff``, and by split ``objects``, ``pixels`` and ``pictures``, without the
        splits that have none. A class that annotations name beyond the list comes last, without a name.
    """
    counts: dict[str, dict[int, Counter[str]]] = {what: {} for what in ('objects', 'pixels', 'pictures')}
    for i, picture in enumerate(data.pictures):
        split = split_of(picture)
        objects = Counter(annotation.label for annotation in picture.annotations)
        for what, found in (('objects', objects), ('pixels', pixels.get(i, Counter()))):
            for label, number in found.items():
                counts[what].setdefault(label, Counter())[split] += number
        for label in {*objects, *pixels.get(i, ()), *picture.labels}:
            counts['pictures'].setdefault(label, Counter())[split] += 1
    labels = {*range(len(data.classes)), *(label for found in counts.values() for label in found)}
    return [dict(name=data.classes[label] if 0 <= label < len(data.classes) else None, label=int(label),
                 stuff=label in data.stuff, **{what: dict(found.get(label, {})) for what, found in counts.items()})
            for label in sorted(labels, key=lambda label: (label < 0, label))]


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """Least, greatest, median and quartiles; nothing of nothing."""
    if not len(values):
        return None
    found = np.percentile(np.asarray(values, np.float64), list(_QUANTILES.values()))
    return {name: round(float(value), 2) for name, value in zip(_QUANTILES, found)}


def histogram(values: Iterable[float], edges: Sequence[float]) -> dict[str, list[Any]]:
    """How many values lie from each edge up to the next, which is not among them; the last bin has no upper end.

    Args:
        values: The values; those below the first edge are counted in the first bin.
        edges: Lower ends of the bins, rising.

    Returns:
        ``counts``, without the empty bins at both ends, and ``edges``, one more, of which the last may be ``None``.
    """
    places = np.searchsorted(np.asarray(edges, np.float64), np.asarray(list(values), np.float64), side='right') - 1
    counts = np.bincount(np.maximum(places, 0), minlength=len(edges)).tolist()
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return dict(edges=[], counts=[])
    first, last = filled[0], filled[-1] + 1
    return dict(edges=[*edges, None][first:last + 1], counts=counts[first:last])
