"""Pictures that tell the class of each pixel."""

from __future__ import annotations

import contextlib
import csv
import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .collecting import Collector
from .folder import Folder, read_text
from .headers import large_pictures, read_header
from .records import OwnData, Picture

__all__ = ['IGNORED', 'NO_CLASS', 'find_maps', 'labels_of', 'load_map', 'numbers_of', 'read', 'read_label_map']

#: What :func:`read_label_map` gives where a pixel has no class.
NO_CLASS = -1
#: The value that is ignored by custom, unless a list of classes reaches it.
IGNORED = 255

_WORDS = re.compile(r'(ann(ot(ation)?s?)?|gt(fine|coarse)?|labels?|label_?maps?|masks?|seg(mentation)?s?|segmaps?|'
                    r'segmentationclass|targets?)', re.IGNORECASE)
_STEM_ENDING = re.compile(r'[_-](mask|label|labels|seg|gt|labelids|labeltrainids|gtfine_labelids|gtfine_labeltrainids|'
                          r'annotation|l)$', re.IGNORECASE)
_PICTURE_ENDING = re.compile(r'[_-](leftimg8bit|image|img)$', re.IGNORECASE)
_LISTS = ('classes.txt', 'labelmap.txt', 'labels.txt', 'class_dict.csv', 'classes.csv', 'label_colors.txt')
# More values than that are no classes but depths, or colours blurred by JPEG.
_MOST_CLASSES = 4096
_LOSSLESS = ('.bmp', '.gif', '.pgm', '.png', '.ppm', '.tif', '.tiff')


def find_maps(folder: Folder, sure: bool = True) -> dict[Path, Path]:
    """Pictures and their label maps: of one name, with or without an ending of custom, in parallel folders or in one.

    Args:
        folder: The files.
        sure: Whether the folder or name of a map must say so, by a word such as ``masks`` or ``annotations``.

    Returns:
        Label maps by picture.
    """
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in folder.pictures:
        by_stem[_bare(path.stem)].append(path)
    pairs = {}
    for paths in by_stem.values():
        possible = [path for path in paths if path.suffix.lower() in _LOSSLESS
                    and not (sure and _says_nothing(folder.relative(path)))]
        for picture in paths if possible else ():
            maps = [path for path in possible if path != picture
                    and _belongs(folder.relative(picture), folder.relative(path), sure)]
            # Cityscapes has several maps of a picture: that with the numbers of training counts.
            maps = [path for path in maps if 'trainids' in path.stem.casefold()] or maps
            if len(maps) == 1 and (sure or _is_map(maps[0])):
                pairs[picture] = maps[0]
    # What is a map itself has none.
    taken = set(pairs.values())
    return {picture: path for picture, path in pairs.items() if picture not in taken or not sure}


def _bare(stem: str) -> str:
    return _PICTURE_ENDING.sub('', _STEM_ENDING.sub('', stem))


def _says_nothing(path: Path) -> bool:
    """Whether neither a folder nor the name tells that a file is a map."""
    return not (_STEM_ENDING.search(path.stem) or any(map(_WORDS.fullmatch, path.parts[:-1])))


def _belongs(picture: Path, other: Path, sure: bool) -> bool:
    """Whether the other lies in the same folder or one that differs in one part, and is called as a map is."""
    if _STEM_ENDING.search(picture.stem):
        return False
    ours, theirs = picture.parent.parts, other.parent.parts
    named = bool(_STEM_ENDING.search(other.stem))
    if ours == theirs:
        return named or (not sure and picture.suffix.lower() in ('.jpg', '.jpeg'))
    while ours and theirs and ours[-1] == theirs[-1]:
        ours, theirs = ours[:-1], theirs[:-1]
    while ours and theirs and ours[0] == theirs[0]:
        ours, theirs = ours[1:], theirs[1:]
    if len(ours) > 1 or len(theirs) > 1:
        return False
    words = [bool(parts and _WORDS.fullmatch(parts[0])) for parts in (ours, theirs)]
    return (named or words[1] or not sure) and not words[0]


def _is_map(path: Path) -> bool:
    try:
        return read_header(path).mode in ('L', 'P', '1', 'I;16', 'I')
    except (OSError, ValueError):
        return False


def load_map(path: Path) -> np.ndarray:
    """The values of a label map: (H, W) numbers, or (H, W, 3) colours in RGB.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        with large_pictures(), Image.open(path) as image:
            if image.mode in ('RGBA', 'LA', 'PA', 'CMYK', 'YCbCr'):
                image = image.convert('RGB') if image.mode != 'LA' else image.getchannel(0)
            return np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from None


def read_label_map(data: OwnData, picture: Picture) -> np.ndarray:
    """The class of each pixel.

    Args:
        data: The data.
        picture: A picture of it with a label map.

    Returns:
        (H, W), int32: indices into the classes, :data:`NO_CLASS` where there is none.

    Raises:
        ValueError: The map cannot be read, or there is none.
    """
    if picture.label_map is None:
        raise ValueError(f'{picture.path} has no label map.')
    values = _numbers(load_map(picture.label_map))
    known = {_number(value): label for value, label in data.map_values.items()}
    found, places = np.unique(values, return_inverse=True)
    labels = np.array([known.get(value, NO_CLASS) for value in found.tolist()], np.int32)
    return labels[places].reshape(values.shape)


def _numbers(values: np.ndarray) -> np.ndarray:
    """One number for each pixel; those of colours lie beyond those of greys."""
    if values.ndim == 2:
        return values
    return (1 << 24) + (values[..., 0] << 16) + (values[..., 1] << 8) + values[..., 2]


def _number(value: int | tuple[int, int, int]) -> int:
    return value if isinstance(value, int) else (1 << 24) + (value[0] << 16) + (value[1] << 8) + value[2]


def _value(number: int) -> int | tuple[int, int, int]:
    return number if number < 1 << 24 else (number >> 16 & 255, number >> 8 & 255, number & 255)


@functools.lru_cache(maxsize=200_000)
def _values(path: Path, changed: int) -> tuple[tuple[int, int], frozenset[int]]:
    """Height and width of a map, and the numbers in it."""
    values = _numbers(load_map(path))
    return values.shape, frozenset(np.unique(values).tolist())


def numbers_of(path: Path) -> frozenset[int]:
    """The values in a label map; those of colours lie beyond those of greys."""
    return _values(path, path.stat().st_mtime_ns)[1]


def labels_of(data: OwnData, picture: Picture) -> set[int]:
    """The classes that occur in a picture: as a whole, in its objects, or in its label map."""
    labels = {annotation.label for annotation in picture.annotations} | set(picture.labels)
    if picture.label_map is not None:
        known = {_number(value): label for value, label in data.map_values.items()}
        with contextlib.suppress(OSError, ValueError):
            labels |= {known[number] for number in numbers_of(picture.label_map) if number in known}
    return labels


def read(out: Collector) -> None:
    """Read the pictures of a folder and what values occur in their label maps."""
    pairs = find_maps(out.folder) or find_maps(out.folder, sure=False)
    if not pairs:
        raise ValueError(f'{out.folder.root} holds no pictures with label maps of the same name: put them into two '
                         'folders, such as images and annotations.')
    counts: Counter[int] = Counter()
    for path, label_map in out.track(sorted(pairs.items()), 'Reading label maps'):
        picture = out.picture(path)
        picture.label_map = label_map
        try:
            (height, width), numbers = _values(label_map, label_map.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            out.note('no_map', str(error), path)
            continue
        if picture.height and (height, width) != (picture.height, picture.width):
            out.note('map_size', f'{out.folder.relative(label_map)} has {width} × {height} pixels, {path.name} '
                     f'{picture.width} × {picture.height}', path)
        counts.update(numbers)
        if len(counts) > _MOST_CLASSES:
            raise ValueError(f'The label maps hold more than {_MOST_CLASSES} values, among them those of '
                             f'{label_map}: were they saved as JPEG, or are they depths?')
    maps = set(pairs.values())
    without = [path for path in out.folder.pictures if path not in pairs and path not in maps]
    if without:
        out.tell(f'{len(without)} pictures have no label map, {out.folder.relative(without[0])} among them: passed by.')
    _name_classes(out, sorted(counts), next(iter(pairs.values())))


def _name_classes(out: Collector, numbers: list[int], example: Path) -> None:
    names = _class_list(out.folder)
    palette: dict[int, tuple[int, int, int]] = _palette(example)
    if names and isinstance(names[0][1], tuple):
        out.declare(name for name, _ in names)
        out.map_values = {colour: label for label, (_, colour) in enumerate(names) if colour is not None}
        out.palette = [colour or (0, 0, 0) for _, colour in names]
        if all(number < 1 << 24 for number in numbers):
            # The maps hold numbers, for which the list gives colours to show.
            out.map_values = {number: number for number in range(len(names))}
    elif names:
        first = _first_number(numbers, len(names))
        out.declare(name for name, _ in names)
        out.map_values = {number + first: number for number in range(len(names))}
        if set(numbers) - {IGNORED} == {0} and IGNORED in numbers and len(names) == 2:
            out.map_values = {0: 0, IGNORED: 1}
    elif numbers == [0, IGNORED]:
        out.declare(['background', 'object'])
        out.map_values = {0: 0, IGNORED: 1}
    else:
        kept = [number for number in numbers if number != IGNORED]
        out.declare(_title(number) for number in kept)
        out.map_values = {_value(number): label for label, number in enumerate(kept)}
        out.tell(f'No list of classes such as {_LISTS[0]} lies in the folder: the {len(kept)} values of the label maps '
                 'are named by themselves.')
    if out.palette is None and palette and all(isinstance(value, int) for value in out.map_values):
        out.palette = [palette.get(value, (0, 0, 0)) for value in sorted(out.map_values, key=out.map_values.__getitem__)
                       if isinstance(value, int)]
    known = {_number(value) for value in out.map_values}
    for number in sorted(set(numbers) - known - {IGNORED}):
        out.note('map_values', f'the value {_title(number)} of label maps is in no list of classes: such pixels have '
                 'none')


def _title(number: int) -> str:
    value = _value(number)
    return str(value) if isinstance(value, int) else ','.join(map(str, value))


def _first_number(numbers: Sequence[int], count: int) -> int:
    """1 where classes are counted from there, 0 being no class; as ADE20K does."""
    used = set(numbers) - {IGNORED} if count <= IGNORED else set(numbers)
    return int(max(used, default=0) == count and max(used) > 0)


def _palette(path: Path) -> dict[int, tuple[int, int, int]]:
    """Colours of a map that carries some."""
    with large_pictures(), Image.open(path) as image:
        flat = image.getpalette() if image.mode == 'P' else None
    return {number: tuple(flat[3 * number:3 * number + 3]) for number in range(len(flat) // 3)} if flat else {}


def _class_list(folder: Folder) -> list[tuple[str, tuple[int, int, int] | None]]:
    """Names, and colours where the list gives them."""
    for name in _LISTS:
        for path in folder.files:
            if path.name.casefold() == name:
                return list(_parse_list(path))
    return []


def _parse_list(path: Path) -> Iterator[tuple[str, tuple[int, int, int] | None]]:
    """Lines ``name``, ``name:r,g,b:…`` (CVAT), ``name,r,g,b`` or ``r g b name`` (CamVid)."""
    for line in read_text(path).splitlines():
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        if found := re.fullmatch(r'(.+?):(\d+),(\d+),(\d+)(:.*)?', line):
            yield found[1], (int(found[2]), int(found[3]), int(found[4]))
        elif found := re.fullmatch(r'(\d+)\s+(\d+)\s+(\d+)\s+(.+)', line):
            yield found[4], (int(found[1]), int(found[2]), int(found[3]))
        elif path.suffix.lower() == '.csv':
            name, *rest = next(csv.reader([line]))
            if rest[:3] and all(value.strip().isdecimal() for value in rest[:3]) and len(rest) >= 3:
                yield name, (int(rest[0]), int(rest[1]), int(rest[2]))
            elif not rest or name.casefold() not in ('name', 'class', 'label'):
                yield name, None
        else:
            yield line, None
