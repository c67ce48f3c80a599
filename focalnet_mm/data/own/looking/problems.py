"""What is suspicious in somebody's data."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from ..headers import read_header
from ..label_maps import labels_of
from ..masks import polygon_box
from ..records import SPLITS, OwnData, Picture, Problem
from .looks import Look, equal_pictures, look_at

__all__ = ['KINDS', 'find_problems', 'looks_like_corners', 'same_class']

#: Kinds of problems: what each is, and whether :func:`fix_data` leaves out, mends or can do nothing about it.
KINDS: dict[str, tuple[str, str]] = dict(
    missing=('an annotated picture that is not there', 'leaves out'),
    unreadable=('a picture whose header cannot be read', 'leaves out'),
    damaged=('a picture that cannot be decoded to its end', 'leaves out'),
    unloadable=('a picture of a form that OpenCV, with which the libraries load pictures, cannot decode', 'leaves out'),
    moved=('a picture that was found by its name, elsewhere than its annotations say', ''),
    exif=('annotations of the picture as it is stored, which its EXIF orientation turns when it is loaded', 'mends'),
    orientation=('a picture that is turned by its EXIF orientation, as its annotations seem to know', ''),
    size=('annotations of another size than the picture has', 'mends'),
    corners=('boxes that hold left, top, right, bottom in place of left, top, width, height', 'mends'),
    nan=('a box that is not finite', 'leaves out'),
    inverted=('a box whose right side lies left of its left one, or whose bottom above its top', 'mends'),
    empty=('a box less than a pixel wide or high, which mmdet passes over', 'leaves out'),
    outside=('a box that reaches out of the picture: cut off at its border', 'mends'),
    repeated=('an object that is annotated twice', 'leaves out'),
    tiny=('an object of less than 8 × 8 pixels at the usual size of 1333 × 800', ''),
    equal_names=('classes of one name, up to case and blanks', 'mends'),
    unused_class=('a class that nothing belongs to', 'mends'),
    one_split=('a class that training or validation lacks', ''),
    leak=('a picture that equals one of another split to the byte', 'leaves out'),
    near_leak=('a picture that looks like one of another split', 'leaves out'),
    duplicate=('a picture that equals another one of its split to the byte', 'leaves out'),
    channels=('pictures of different numbers of channels', ''),
    depth=('pictures of different depths', ''),
    no_objects=('pictures without objects', ''),
    no_label=('a picture without class', 'leaves out'),
    no_map=('a picture without label map or segments that can be read', 'leaves out'),
    map_size=('a label map of another size than its picture', 'leaves out'),
    map_values=('values of label maps that stand for no class: near ones, and rare ones, become the nearest class',
                'mends'),
    unknown_class=('an annotation of a class that is not listed', ''),
    no_picture=('an annotation of a picture that is not listed', ''),
    malformed=('an entry that is no annotation, or of a shape that has no area', ''),
    two_splits=('a picture that stands in two splits, of which the first counts', ''),
    several_annotators=('a picture that was annotated more than once', ''),
    folders_within=('class folders that each hold folders of the same names, which may be the classes', ''),
    groups=('too few groups to keep each on one side of the split', ''),
    one_part=('data that has a single split, and no training', ''),
    no_split=('pictures without split', ''))

# At the usual size of pictures, an object below that covers two cells of FocalNet's first map.
_TINY = 8
_USUAL_SIZE = (800, 1333)
_SLACK = 0.5
_CHANNELS = dict(L=1, LA=2, P=3, RGB=3, RGBA=4, CMYK=4, YCbCr=3, F=1, I=1, **{'1': 1, 'I;16': 1, 'I;16B': 1})


def find_problems(data: OwnData) -> None:
    """Look for everything suspicious, with a progress bar, and append it to ``data.problems``.

    Pictures are decoded once, on all cores. What an earlier call found is not repeated.

    Args:
        data: The data; nothing but its problems is changed.
    """
    known = {_key(problem) for problem in data.problems}
    looks = look_at([picture.path for picture in data.pictures if picture.height])
    for problem in (*_pictures(data, looks), *_boxes(data), *_classes(data), *_equal(data, looks)):
        if _key(problem) not in known:
            known.add(_key(problem))
            data.problems.append(problem)


def _key(problem: Problem) -> tuple[object, ...]:
    return problem.kind, problem.text, problem.picture, problem.annotation


def _pictures(data: OwnData, looks: dict[Path, Look]) -> Iterator[Problem]:
    annotated_as_stored = {problem.picture for problem in data.problems if problem.kind == 'exif'}
    for picture in data.pictures:
        look = looks.get(picture.path)
        if look is None:
            continue
        if look.damage:
            yield Problem('damaged', f'{_name(data, picture.path)} {look.damage}', picture.path)
            continue
        if not look.loadable:
            yield Problem('unloadable', f'{_name(data, picture.path)} is of a form that OpenCV cannot decode, with '
                          'which the libraries load pictures: convert it to PNG or JPEG', picture.path)
        orientation = read_header(picture.path).orientation
        if orientation != 1 and picture.path not in annotated_as_stored:
            yield Problem('orientation', f'{_name(data, picture.path)} is turned by EXIF orientation {orientation}: '
                          'see that its annotations are of the turned picture', picture.path)
    for kind, words, forms in (('channels', '{} channels', _CHANNELS), ('depth', '{} bits', _Depths())):
        counts = Counter(forms.get(look.mode, 3) for look in looks.values() if look.mode)
        for number, count in counts.most_common()[1:]:
            example = next(path for path, look in looks.items() if look.mode and forms.get(look.mode, 3) == number)
            yield Problem(kind, f'{count} pictures have {words.format(number)}, {counts.most_common(1)[0][1]} have '
                          f'{counts.most_common(1)[0][0]}; {_name(data, example)} is one', example)


class _Depths(dict):
    """Bits a channel by Pillow's names."""

    def get(self, mode: str, default: int = 8) -> int:  # type: ignore[override]
        return 16 if mode.startswith('I;16') else 32 if mode in ('I', 'F') else 8


def _boxes(data: OwnData) -> Iterator[Problem]:
    corners = looks_like_corners(data)
    if corners:
        yield Problem('corners', f'{corners} boxes reach out of their pictures, and all of the data would lie within '
                      'if width and height were right and bottom')
    empty = [picture for picture in data.pictures if picture.height and not picture.annotations]
    if data.task in ('boxes', 'instances') and empty:
        yield Problem('no_objects', f'{len(empty)} of {len(data.pictures)} pictures show no object, '
                      f'{_name(data, empty[0].path)} among them', empty[0].path)
    for picture in data.pictures:
        if data.task in ('classes', 'labels') and not picture.labels and picture.height:
            yield Problem('no_label', f'{_name(data, picture.path)} has no class', picture.path)
        seen = set()
        for number, annotation in enumerate(picture.annotations):
            kind, words = _box_problem(picture, annotation.box) if picture.height else (None, '')
            if kind is None and picture.height and isinstance(annotation.segmentation, list):
                outline = polygon_box(annotation.segmentation)
                kind, words = _box_problem(picture, outline) if _reaches_out(picture, outline, 1) else (None, '')
            if kind == 'outside' and corners:
                kind = None
            same = (annotation.label, annotation.box, repr(annotation.segmentation))
            if kind is None and same in seen:
                kind, words = 'repeated', 'stands there twice'
            seen.add(same)
            if kind:
                name = data.classes[annotation.label]
                yield Problem(kind, f'{name} {number} of {_name(data, picture.path)} {words}', picture.path, number)


def _box_problem(picture: Picture, box: tuple[float, float, float, float]) -> tuple[str | None, str]:
    """The first kind of problem that a box has, and a sentence's end about it."""
    left, top, right, bottom = box
    shown = ', '.join(f'{value:g}' for value in box)
    if not all(map(math.isfinite, box)):
        return 'nan', f'has the box {shown}'
    if right < left or bottom < top:
        return 'inverted', f'has a box with its sides exchanged: {shown}'
    if right - left < 1 or bottom - top < 1:
        return 'empty', f'has a box of {right - left:g} × {bottom - top:g} pixels'
    if _reaches_out(picture, box, _SLACK):
        return 'outside', f'has the box {shown} in a picture of {picture.width} × {picture.height}'
    sides = sorted((picture.height, picture.width))
    scale = min(usual / side for usual, side in zip(_USUAL_SIZE, sides))
    if math.sqrt((right - left) * (bottom - top)) * scale < _TINY:
        return 'tiny', f'has {right - left:.3g} × {bottom - top:.3g} pixels'
    return None, ''


def _reaches_out(picture: Picture, box: tuple[float, float, float, float], slack: float) -> bool:
    left, top, right, bottom = box
    return left < -slack or top < -slack or right > picture.width + slack or bottom > picture.height + slack


def looks_like_corners(data: OwnData) -> int:
    """How many boxes reach out of their pictures, where all of the data's would fit if corners were meant; else 0."""
    if data.format not in ('coco', 'csv'):
        return 0
    out = fit = count = 0
    for picture in data.pictures:
        for annotation in picture.annotations:
            left, top, right, bottom = annotation.box
            if not picture.height or annotation.segmentation is not None or not math.isfinite(sum(annotation.box)):
                continue
            count += 1
            out += right > picture.width + _SLACK or bottom > picture.height + _SLACK
            fit += left < right - left <= picture.width + _SLACK and top < bottom - top <= picture.height + _SLACK
    return out if count >= 3 and fit == count and out >= 0.3 * count else 0


def same_class(name: str) -> str:
    """A name of a class without case and blanks around."""
    return unicodedata.normalize('NFC', name).casefold().strip()


def _classes(data: OwnData) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for label, name in enumerate(data.classes):
        if same_class(name) in first:
            yield Problem('equal_names', f'the classes {first[same_class(name)]} and {label} are both called {name!r}')
        first.setdefault(same_class(name), label)
    pictures: dict[int, Counter[str | None]] = defaultdict(Counter)
    for picture in data.pictures:
        for label in labels_of(data, picture):
            pictures[label][picture.split] += 1
    splits = [split for split in ('train', 'val') if any(picture.split == split for picture in data.pictures)]
    for label, name in enumerate(data.classes):
        found = pictures[label]
        if not found:
            yield Problem('unused_class', f'nothing belongs to the class {name!r}')
        elif len(splits) > 1 and (lacking := [split for split in splits if split not in found]):
            where = ', '.join(f'{found[split]} of {split}' for split in SPLITS if split in found)
            yield Problem('one_split', f'{name!r} is in no picture of {" and ".join(lacking)}, but in {where}')


def _equal(data: OwnData, looks: dict[Path, Look]) -> Iterator[Problem]:
    pictures = {picture.path: picture for picture in data.pictures}
    parents = {path: path for path in looks}

    def root(path: Path) -> Path:
        while parents[path] != path:
            path = parents[path]
        return path

    exact = {}
    for one, other, same in equal_pictures(looks):
        parents[root(one)] = root(other)
        if same:
            exact[one] = other
    clusters = defaultdict(list)
    for path in looks:
        clusters[root(path)].append(path)
    for paths in clusters.values():
        splits = [split for split in ('test', 'val', 'train', None) if any(pictures[path].split == split
                                                                          for path in paths)]
        kept = next(path for path in paths if pictures[path].split == splits[0])
        for path in paths:
            twin = kept if pictures[path].split != splits[0] else exact.get(path)
            if twin is None or twin == path:
                continue
            same = looks[path].digest == looks[twin].digest
            ours, theirs = pictures[path].split, pictures[twin].split
            kind = ('leak' if same else 'near_leak') if ours != theirs else 'duplicate'
            yield Problem(kind, f'{_name(data, path)} ({ours or "no split"}) {"equals" if same else "looks like"} '
                          f'{_name(data, twin)} ({theirs or "no split"})', path)


def _name(data: OwnData, path: Path) -> str:
    return str(path.relative_to(data.root)) if path.is_relative_to(data.root) else str(path)
