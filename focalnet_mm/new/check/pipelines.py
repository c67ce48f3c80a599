"""What the steps of a pipeline make of a data set's items."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from ...data.own.label_maps import IGNORED
from ...run.failures import explain_failure
from ..report import Finding
from ..report.contents import spread
from .datasets import Items, steps_of

__all__ = ['of_pipeline']

_ITEMS = 24
_SECONDS = 15.0


class _Seen:
    """What became of the annotations of some items."""

    def __init__(self) -> None:
        self.items = 0
        #: Boxes that were loaded, and that are left after the last step.
        self.loaded = 0
        self.left = 0
        #: Boxes that are gone after each step, by its name.
        self.lost: Counter[str] = Counter()
        self.nothing_left: Counter[str] = Counter()
        #: Pixels with a class, and pixels in all, of label maps.
        self.pixels = 0
        self.pixels_with_class = 0
        #: Path and value of the first label that is too high.
        self.too_high: tuple[str, int] | None = None
        #: Pictures that were loaded in another size than annotated.
        self.other_size: list[str] = []
        #: Label maps that are of another size than their pictures.
        self.other_map: list[str] = []
        #: Pictures with an object whose mask has no pixel.
        self.no_mask: list[str] = []


def of_pipeline(part: Items, cfg: Config, most: int = _ITEMS, seconds: float = _SECONDS) -> Iterator[Finding]:
    """Take some items through the steps one by one.

    Args:
        part: The data set.
        cfg: The config, whose keys are named where a step fails.
        most: How many items at the most, spread evenly.
        seconds: No further item is begun after them.
    """
    if not hasattr(part.dataset, 'get_data_info'):
        return
    steps, seen, started = steps_of(part.dataset), _Seen(), time.monotonic()
    for i in spread(range(len(part.dataset)), most):
        try:
            _walk(part.dataset.get_data_info(i), steps, seen, len(part.classes))
        except Exception as error:
            told, path = explain_failure(error, cfg), str(part.dataset.get_data_info(i).get('img_path'))
            yield Finding('error', f'{part.key}: {told if path in told else f"{path} or its annotations: {told}"}')
            return
        if time.monotonic() - started > seconds:
            break
    yield from _told(seen, part.key, len(part.classes))


def _walk(item: Any, steps: list[Any], seen: _Seen, classes: int) -> None:
    seen.items += 1
    before: int | None = None
    annotated = item.get('height'), item.get('width')
    path = str(item.get('img_path'))
    for step in steps:
        name = type(step).__name__
        had_map = 'gt_seg_map' in item
        had_image, had_masks = 'img' in item, 'gt_masks' in item
        item = step(item)
        if item is None:
            seen.nothing_left[name] += 1
            seen.lost[name] += before or 0
            return
        if not had_image and 'img' in item and all(annotated) and item['img'].shape[:2] != annotated:
            seen.other_size.append(f'{path} is annotated as {annotated[1]} × {annotated[0]} pixels and loaded as '
                                   f'{item["img"].shape[1]} × {item["img"].shape[0]}')
        if not had_map and isinstance(item.get('gt_seg_map'), np.ndarray):
            _look_at_map(item['gt_seg_map'], path, seen, classes)
            if 'img' in item and item['gt_seg_map'].shape[:2] != item['img'].shape[:2]:
                height, width = item['gt_seg_map'].shape[:2]
                seen.other_map.append(f'the label map of {path} has {width} × {height} pixels and the picture '
                                      f'{item["img"].shape[1]} × {item["img"].shape[0]}')
        if not had_masks and len(getattr(item.get('gt_masks'), 'masks', ())) and not all(
                np.any(mask) for mask in item['gt_masks'].masks):
            seen.no_mask.append(f'the mask of an object of {path} has no pixel')
        found = _boxes(item)
        if found is not None:
            if before is None:
                seen.loaded += found
            elif found < before:
                seen.lost[name] += before - found
            before = found
    seen.left += before or 0


def _boxes(item: Mapping[str, Any]) -> int | None:
    boxes = item.get('gt_bboxes') if isinstance(item, Mapping) else None
    return None if boxes is None else len(boxes)


def _look_at_map(labels: np.ndarray, path: str, seen: _Seen, classes: int) -> None:
    known = labels[labels != IGNORED]
    seen.pixels += labels.size
    seen.pixels_with_class += known.size
    if known.size and classes and int(known.max()) >= classes and seen.too_high is None:
        seen.too_high = path, int(known.max())


def _told(seen: _Seen, key: str, classes: int) -> Iterator[Finding]:
    if seen.loaded and not seen.left and sum(seen.lost.values()) >= seen.loaded:
        name = seen.lost.most_common(1)[0][0]
        yield Finding('error', f'{key}: all {seen.loaded} boxes of {seen.items} pictures are gone after its pipeline, '
                      f'most of them at the step {name}: correct its settings, so that something is left to train on.')
    elif seen.loaded and seen.lost and sum(seen.lost.values()) > seen.loaded / 2:
        name = seen.lost.most_common(1)[0][0]
        yield Finding('warning', f'{key}: {sum(seen.lost.values())} of the {seen.loaded} boxes of {seen.items} '
                      f'pictures are gone after its pipeline, most of them at the step {name}.')
    if seen.too_high:
        yield Finding('error', f'{key}: the label map of {seen.too_high[0]} has the value {seen.too_high[1]}, and the '
                      f'{classes} classes have 0 to {classes - 1}: correct the label maps, the classes, or '
                      'reduce_zero_label.')
    if seen.pixels and not seen.pixels_with_class:
        yield Finding('error', f'{key}: every pixel of {seen.items} label maps is passed over ({IGNORED}): correct '
                      'the label maps, or reduce_zero_label, which turns 0 into that.')
    if seen.no_mask:
        yield Finding('warning', f'{key}: {seen.no_mask[0]}{_more(len(seen.no_mask))}: correct the annotations, or the '
                      'label map that holds its segments.')
    if seen.other_map:
        yield Finding('error', f'{key}: {seen.other_map[0]}{_more(len(seen.other_map))}: labels would lie beside what '
                      'they name; make them anew in the size of their pictures.')
    if seen.other_size:
        yield Finding('warning', f'{key}: {seen.other_size[0]}{_more(len(seen.other_size))}: annotations may lie '
                      'beside the objects, as where a picture is turned by its EXIF data.')


def _more(count: int) -> str:
    return f', and {count - 1} more are' if count > 1 else ''
