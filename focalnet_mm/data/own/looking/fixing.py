"""Leaving out and mending what is wrong, in the records and never in files."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..classes import relabel
from ..headers import Header, read_header
from ..label_maps import IGNORED, by_colour, content_of, labels_of, number_of, value_of
from ..masks import decode, encode, polygon_box, rle_box
from ..records import Annotation, OwnData, Picture, Problem
from .problems import KINDS, same_class

__all__ = ['fix_data', 'fixable']


def fixable(kinds: Iterable[str]) -> list[str]:
    """The kinds of problems that are named, in the order in which they are dealt with.

    Args:
        kinds: Of :data:`KINDS`; or ``'all'`` alone, for all of which something can be done.

    Raises:
        ValueError: There is no such kind, or nothing can be done about it.
    """
    wanted = set(kinds)
    possible = [kind for kind, (_, cure) in KINDS.items() if cure]
    for kind in sorted(wanted - {'all'} if wanted == {'all'} else wanted):
        if kind not in possible:
            what = f'nothing can be done here about {kind!r}' if kind in KINDS else f'there is no problem {kind!r}'
            raise ValueError(f'{what}: name some of {", ".join(possible)}, or all.')
    return possible if wanted == {'all'} else [kind for kind in possible if kind in wanted]


def fix_data(data: OwnData, kinds: Iterable[str]) -> None:
    """Leave out or mend what has the named kinds of problems, in ``data`` alone, never in files.

    Args:
        data: The data, in which :func:`find_problems` has looked; ``done`` of each problem says what became of it.
        kinds: Of :data:`KINDS`; or ``'all'`` alone, for all of which something can be done.

    Raises:
        ValueError: There is no such kind, or nothing can be done about it.
    """
    wanted = fixable(kinds)
    subjects = _subjects(data)
    # What moves whole pictures' boxes comes before what looks at single ones.
    for kind in fixable(['all']):
        found = [problem for problem in data.problems if problem.kind == kind and problem.done == 'kept']
        if kind in wanted and found:
            _CURES[kind](data, found, subjects)
    numbers = {id(annotation): number for picture in data.pictures
               for number, annotation in enumerate(picture.annotations)}
    for problem in data.problems:
        if id(problem) in subjects:
            problem.annotation = numbers.get(id(subjects[id(problem)]))


_Subjects = Mapping[int, Annotation]


def _subjects(data: OwnData) -> dict[int, Annotation]:
    """The annotation that each problem is about, since numbers change when one is left out."""
    pictures = {picture.path: picture for picture in data.pictures}
    return {id(problem): pictures[problem.picture].annotations[problem.annotation] for problem in data.problems
            if problem.annotation is not None and problem.picture in pictures
            and problem.annotation < len(pictures[problem.picture].annotations)}


def _leave_out_pictures(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    paths = {problem.picture for problem in problems}
    data.pictures[:] = [picture for picture in data.pictures if picture.path not in paths]
    _done(problems, 'left out')


def _leave_out_objects(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    gone = {id(subjects[id(problem)]) for problem in problems if id(problem) in subjects}
    for picture in data.pictures:
        picture.annotations[:] = [annotation for annotation in picture.annotations if id(annotation) not in gone]
    _done(problems, 'left out')


def _done(problems: list[Problem], what: str) -> None:
    for problem in problems:
        problem.done = what


def _mend_boxes(change: Callable[[Picture, Annotation], bool]) -> Callable[[OwnData, list[Problem], _Subjects], None]:
    """A cure that changes the annotations of problems; one that it returns ``False`` for is left out."""
    def cure(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
        pictures = {picture.path: picture for picture in data.pictures}
        for problem in problems:
            picture, annotation = pictures.get(problem.picture), subjects.get(id(problem))  # type: ignore[arg-type]
            if picture is None or annotation is None:
                continue
            problem.done = 'mended' if change(picture, annotation) else 'left out'
            if problem.done == 'left out':
                picture.annotations[:] = [other for other in picture.annotations if other is not annotation]
    return cure


def _exchange_sides(picture: Picture, annotation: Annotation) -> bool:
    left, top, right, bottom = annotation.box
    annotation.box = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
    return True


def _clip(picture: Picture, annotation: Annotation) -> bool:
    """Cut off at the border; nothing is left of what lies outside."""
    def clip(values: Iterable[float]) -> list[float]:
        sides = itertools.cycle((picture.width, picture.height))
        return [min(max(value, 0.0), float(most)) for value, most in zip(values, sides)]

    left, top, right, bottom = clip(annotation.box)
    if right - left < 1 or bottom - top < 1:
        return False
    annotation.box = left, top, right, bottom
    if isinstance(annotation.segmentation, list):
        annotation.segmentation = [clip(polygon) for polygon in annotation.segmentation]
    return True


def _corners(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    for picture in data.pictures:
        for annotation in picture.annotations:
            if annotation.segmentation is None:
                left, top, right, bottom = annotation.box
                annotation.box = left, top, right - left, bottom - top
    _done(problems, 'mended')


def _size(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    """Scale annotations to the picture's own size."""
    pictures = {picture.path: picture for picture in data.pictures}
    for problem in problems:
        picture = pictures.get(problem.picture)  # type: ignore[arg-type]
        if picture is None or problem.said is None:
            continue
        down, across = picture.height / problem.said[0], picture.width / problem.said[1]
        rows, columns = (np.minimum((np.arange(new) / scale).astype(int), old - 1) for new, old, scale in (
            (picture.height, problem.said[0], down), (picture.width, problem.said[1], across)))
        _move(picture, lambda x, y: (x * across, y * down), lambda mask: mask[rows][:, columns])  # noqa: B023
        problem.done = 'mended'


def _exif(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    """Turn annotations as loading turns the picture."""
    pictures = {picture.path: picture for picture in data.pictures}
    for problem in problems:
        picture = pictures.get(problem.picture)  # type: ignore[arg-type]
        if picture is not None:
            header = read_header(picture.path)
            _move(picture, *_turn(header))
            problem.done = 'mended'


def _turn(header: Header) -> tuple[Callable[[float, float], tuple[float, float]], Callable[[np.ndarray], np.ndarray]]:
    """What an EXIF orientation does to points and to masks of the stored picture."""
    height, width = header.stored
    across, down, exchange = {1: (0, 0, 0), 2: (1, 0, 0), 3: (1, 1, 0), 4: (0, 1, 0), 5: (0, 0, 1), 6: (0, 1, 1),
                              7: (1, 1, 1), 8: (1, 0, 1)}[header.orientation]

    def point(x: float, y: float) -> tuple[float, float]:
        x, y = (width - x if across else x), (height - y if down else y)
        return (y, x) if exchange else (x, y)

    def turn(mask: np.ndarray) -> np.ndarray:
        mask = mask[::-1 if down else 1, ::-1 if across else 1]
        return mask.T if exchange else mask

    return point, turn


def _move(picture: Picture, point: Callable[[float, float], tuple[float, float]],
          turn: Callable[[np.ndarray], np.ndarray]) -> None:
    """Move all that is annotated in a picture: points by one function, masks by another."""
    for annotation in picture.annotations:
        left, top, right, bottom = annotation.box
        ends = point(left, top), point(right, bottom)
        annotation.box = polygon_box([[value for end in ends for value in end]])
        found: Any = annotation.segmentation
        if isinstance(found, list):
            annotation.segmentation = [[value for x, y in zip(polygon[0::2], polygon[1::2]) for value in point(x, y)]
                                       for polygon in found]
        elif found:
            annotation.segmentation = encode(turn(decode(found, *found['size'])))
            if math.isnan(sum(annotation.box)):
                annotation.box = rle_box(annotation.segmentation)


def _merge_classes(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    first: dict[str, int] = {}
    relabel(data, [first.setdefault(same_class(name), len(first)) for name in data.classes])
    _done(problems, 'mended')


def _drop_classes(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    used = {label for picture in data.pictures for label in labels_of(data, picture)}
    if used:
        kept = sorted(used)
        relabel(data, [kept.index(label) if label in used else None for label in range(len(data.classes))])
        _done(problems, 'mended')


# A value is one that was compressed where it is this near to a listed one in each channel, or has so small a share.
_NOISE, _RARE = 16, 0.005


def _nearest_values(data: OwnData, problems: list[Problem], subjects: _Subjects) -> None:
    """Take values of label maps that lie near a class, or are as rare as on blurred borders, for the nearest class."""
    counts: Counter[int] = Counter()
    for picture in data.pictures:
        if picture.label_map is not None:
            with contextlib.suppress(OSError, ValueError):
                counts.update(content_of(picture.label_map, by_colour(data))[1])
    known = {number_of(value): label for value, label in data.map_values.items()}
    lost = [number for number in counts if number not in known and number != IGNORED]
    if not known or not lost:
        return
    classes, colours = np.array([_colour(number) for number in known]), np.array([_colour(number) for number in lost])
    labels, total = list(known.values()), sum(counts.values())
    mended = 0
    for number, colour in zip(lost, colours):
        distances = np.abs(classes - colour)
        nearest = int((distances**2).sum(axis=1).argmin())
        if distances[nearest].max() <= _NOISE or counts[number] < _RARE * total:
            data.map_values[value_of(number)] = labels[nearest]
            mended += 1
    if mended:
        _done(problems, 'mended')


def _colour(number: int) -> tuple[int, int, int]:
    value = value_of(number)
    return (value,) * 3 if isinstance(value, int) else value


_CURES: dict[str, Callable[[OwnData, list[Problem], _Subjects], None]] = dict(
    missing=_leave_out_pictures, unreadable=_leave_out_pictures, damaged=_leave_out_pictures,
    unloadable=_leave_out_pictures, exif=_exif, size=_size,
    corners=_corners, nan=_leave_out_objects, inverted=_mend_boxes(_exchange_sides), empty=_leave_out_objects,
    outside=_mend_boxes(_clip), repeated=_leave_out_objects, equal_names=_merge_classes, unused_class=_drop_classes,
    leak=_leave_out_pictures, near_leak=_leave_out_pictures, duplicate=_leave_out_pictures,
    no_label=_leave_out_pictures, no_map=_leave_out_pictures, map_size=_leave_out_pictures,
    map_values=_nearest_values)
