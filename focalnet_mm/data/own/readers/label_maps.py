"""Pictures beside others that tell the class of each pixel."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..classes import BACKGROUND
from ..headers import large_pictures, read_header
from ..label_maps import IGNORED, content_of, load_map, number_of, value_of
from .collecting import Collector
from .folder import Folder, read_text, split_of
from .image_sets import image_sets, split_in

__all__ = ['find_maps', 'read']

_WORDS = re.compile(r'(.*[_-])?(ann(ot(ation)?s?)?|gt(fine|coarse)?|ground[_-]?truths?|labels?|masks?|'
                    r'seg(mentation)?s?|segmentationclass|targets?)([_-]?(dir|maps?|pngs?|images?|ids?))?|'
                    r'(train|val|test)annot', re.IGNORECASE)
_STEM_ENDING = re.compile(r'[_-](mask|label|labels|seg|segmentation|gt|groundtruth|labelids|labeltrainids|'
                          r'gtfine_labelids|gtfine_labeltrainids|annotation|l)$', re.IGNORECASE)
_PICTURE_ENDING = re.compile(r'[_-](leftimg8bit|image|img)$', re.IGNORECASE)
# labelme2voc writes class_names.txt, Roboflow _classes.csv.
_LISTS = ('classes.txt', 'labelmap.txt', 'labels.txt', 'class_dict.csv', 'classes.csv', 'label_colors.txt',
          'class_names.txt', '_classes.csv')
# More values than that are no classes but depths, or colours blurred by JPEG.
_MOST_CLASSES = 4096
# Unknown values, up to which each is named.
_FEW_VALUES = 16
# How much a value of compressed maps may differ from the one that was meant.
_NOISE = 16
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
    for path in _pictures(folder):
        by_stem[_bare(path.stem)].append(path)
    pairs = {}
    for paths in by_stem.values():
        possible = [path for path in paths if (sure or path.suffix.lower() in _LOSSLESS)
                    and not (sure and _says_nothing(folder.relative(path)))]
        for picture in paths if possible else ():
            maps = [path for path in possible if path != picture
                    and _belongs(folder.relative(picture), folder.relative(path), sure)]
            # Cityscapes has several maps of a picture: that with the numbers of training counts.
            maps = [path for path in maps if 'trainids' in path.stem.casefold()] or maps
            if len(maps) == 1 and (_is_flat(maps[0]) if sure else _is_map(maps[0])):
                pairs[picture] = maps[0]
    # What is a map itself has none.
    taken = set(pairs.values())
    return {picture: path for picture, path in pairs.items() if picture not in taken or not sure}


def _pictures(folder: Folder) -> list[Path]:
    """All but Pascal VOC's maps of objects, which are neither pictures nor maps of classes."""
    return [path for path in folder.pictures if 'segmentationobject' not in map(str.casefold, path.parts)]


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


def _is_flat(path: Path) -> bool:
    """Whether a picture that was compressed with loss has areas of one colour each, as no photo has."""
    if path.suffix.lower() in _LOSSLESS:
        return True
    try:
        values = load_map(path)
    except ValueError:
        return False
    steps = np.diff(values.reshape(*values.shape[:2], -1), axis=1)
    # Of photos of COCO one pixel in fifty equals its neighbour, of maps saved as JPEG more than half.
    return bool((steps == 0).all(axis=2).mean() > 0.4)


def _is_map(path: Path) -> bool:
    try:
        return read_header(path).mode in ('L', 'P', '1', 'I;16', 'I')
    except (OSError, ValueError):
        return False


def read(out: Collector) -> None:
    """Read the pictures of a folder and what values occur in their label maps."""
    pairs = find_maps(out.folder) or find_maps(out.folder, sure=False)
    if not pairs:
        raise ValueError(f'{out.folder.root} holds no pictures with label maps of the same name: put them into two '
                         'folders, such as images and annotations.')
    splits = image_sets(out.folder, 'Segmentation')
    listed = _class_list(out.folder)
    colours = _goes_by_palette(listed, out.track(list(pairs.values()), 'Looking at palettes'))
    counts: Counter[int] = Counter()
    for path, label_map in out.track(sorted(pairs.items()), 'Reading label maps'):
        picture = out.picture(path, split_in(splits, path) or split_of(out.folder.relative(path).parts[:-1]))
        picture.label_map = label_map
        try:
            (height, width), numbers = content_of(label_map, colours)
        except (OSError, ValueError) as error:
            out.note('no_map', str(error), path)
            continue
        if picture.height and (height, width) != (picture.height, picture.width):
            out.note('map_size', f'{out.folder.relative(label_map)} has {width} × {height} pixels, {path.name} '
                     f'{picture.width} × {picture.height}', path)
        counts.update(numbers)
    maps = set(pairs.values())
    without = [path for path in _pictures(out.folder) if path not in pairs and path not in maps]
    if without:
        out.tell(f'{len(without)} pictures have no label map, {out.folder.relative(without[0])} among them: passed by.')
    _name_classes(out, listed, counts, next(iter(pairs.values())))
    _note_unknown(out, counts, colours)


def _name_classes(out: Collector, listed: list[_Entry], counts: Mapping[int, int], example: Path) -> None:
    """Say which value or colour is which class."""
    numbers = sorted(counts)
    lossy = example.suffix.lower() not in _LOSSLESS
    if (lossy and not any(entry.colour for entry in listed)) or (not listed and len(numbers) > _MOST_CLASSES):
        numbers = _black_and_white(counts, example)
    greys = sorted({grey for number in numbers if (grey := _grey(number)) is not None})
    # Greys that were saved in three channels are numbers all the same, unless a list has colours.
    three = max(numbers, default=0) >= 1 << 24 and all(_grey(number) is not None for number in numbers) and (
        greys == [0, IGNORED] or (bool(listed) and not any(entry.colour for entry in listed)))
    numbers = greys if three else numbers
    listed = _with_background(out, listed, numbers)
    values = [value for value in numbers if value != IGNORED or len(listed) > IGNORED]
    if listed:
        out.declare(entry.name for entry in listed)
        out.map_values = _listed_values(out, listed, values)
        if all(entry.colour for entry in listed):
            out.palette = [entry.colour for entry in listed if entry.colour]
    elif numbers == [0, IGNORED]:
        out.declare(['background', 'object'])
        out.map_values = {0: 0, IGNORED: 1}
    else:
        out.declare(_title(number) for number in values)
        out.map_values = {value_of(number): label for label, number in enumerate(values)}
        out.tell(f'No list of classes such as {_LISTS[0]} lies in the folder: the {len(values)} values of the label '
                 'maps are named by themselves.')
    if three:
        out.map_values.update({(value, value, value): label for value, label in out.map_values.items()
                               if isinstance(value, int)})
    colours = _palette(example)
    if out.palette is None and colours and all(isinstance(value, int) for value in out.map_values):
        by_label = {label: colours.get(value, (0, 0, 0)) for value, label in out.map_values.items()
                    if isinstance(value, int)}
        out.palette = [by_label[label] for label in range(len(out.classes))]
    if IGNORED in numbers and IGNORED not in out.map_values:
        out.tell(f'The value {IGNORED} of the label maps is taken for no class: where it is one, number the lines of '
                 f'the list of classes, "{IGNORED} name".')


def _black_and_white(counts: Mapping[int, int], example: Path) -> list[int]:
    """Black and white, where compressed maps hold little else.

    Raises:
        ValueError: They hold more, so that nobody can tell which values were meant.
    """
    greys: Counter[int | None] = Counter()
    for number, count in counts.items():
        greys[_grey(number)] += count
    near = sum(count for grey, count in greys.items()
               if grey is not None and (grey <= _NOISE or grey >= IGNORED - _NOISE))
    if near < 0.9 * _total(counts):
        raise ValueError(f'The label maps, {example.name} among them, hold {len(counts)} values, as compressed or '
                         'blurred maps and depths do: write a list of the classes with their colours, such as '
                         'labelmap.txt, or save the maps as PNG.')
    # As they are counted: in one channel or in three.
    three = max(counts) >= 1 << 24
    return [number_of((grey,) * 3) if three else grey for grey in (0, IGNORED)]


def _total(counts: Mapping[int, int]) -> int:
    """How many pixels these are."""
    return sum(counts.values())


def _note_unknown(out: Collector, counts: Mapping[int, int], colours: bool) -> None:
    """Say how many pixels are of no class: by value, or of many values by picture."""
    known = {number_of(value) for value in out.map_values} | {IGNORED, number_of((IGNORED,) * 3)}
    unknown = {number: count for number, count in counts.items() if number not in known}
    if len(unknown) <= _FEW_VALUES:
        for number, count in sorted(unknown.items()):
            out.note('map_values', f'the value {_title(number)} of label maps is in no list of classes: its {count} '
                     'pixels have none')
        return
    for picture in out.pictures.values():
        found = content_of(picture.label_map, colours)[1] if picture.label_map and picture.height else {}
        if lost := {number: count for number, count in found.items() if number in unknown}:
            out.note('map_values', f'{out.folder.relative(Path(str(picture.label_map)))} has {_total(lost)} of '
                     f'{_total(found)} pixels of {len(lost)} values that are no class, as blurred and compressed '
                     'maps have', picture.path)


def _grey(number: int) -> int | None:
    """The grey that a number of a label map is, in one channel or three; nothing for other colours."""
    value = value_of(number)
    return value if isinstance(value, int) else value[0] if len(set(value)) == 1 else None


def _with_background(out: Collector, listed: list[_Entry], numbers: Sequence[int]) -> list[_Entry]:
    """A list of classes; where it names one, and the maps hold 0 and another value, 0 is a class of its own, since
    nothing is learned where all pixels are of one class."""
    others = [number for number in numbers if number not in (0, IGNORED)] or [IGNORED]
    if (len(listed) != 1 or listed[0] != _Entry(listed[0].name) or len(others) > 1 or not {0, *others} <= {*numbers}
            or listed[0].name.casefold() in BACKGROUND):
        return listed
    out.tell(f'The list of classes names {listed[0].name} alone, which is taken to be the value {others[0]} of the '
             'label maps; 0 is background, a class too.')
    return [_Entry('background', value=0), listed[0]._replace(value=others[0])]


def _listed_values(out: Collector, listed: Sequence[_Entry], values: Sequence[int]) -> dict[Any, int]:
    """The values, or colours, of listed classes."""
    if any(value >= 1 << 24 for value in values):
        return {entry.colour: label for label, entry in enumerate(listed) if entry.colour is not None}
    if all(entry.value is not None for entry in listed):
        return {entry.value: label for label, entry in enumerate(listed)}
    if list(values) == [0] and len(listed) == 2:
        return {0: 0, IGNORED: 1}
    # ADE20K counts its classes from 1, and 0 is none.
    first = int(max(values, default=0) == len(listed))
    if not first and max(values, default=0) < len(listed) - 1:
        out.tell(f'The values of the label maps end at {max(values, default=0)}, the list of classes has {len(listed)} '
                 f'names: the first one, {listed[0].name}, is taken to be 0. If it is 1, number the lines of the list: '
                 f'"1 {listed[0].name}".')
    return {label + first: label for label in range(len(listed))}


def _goes_by_palette(listed: Sequence[_Entry], maps: Iterable[Path]) -> bool:
    """Whether maps have the listed colours in their palettes at other places than in the list.

    Programs that shrink a PNG number its colours anew, each file by itself.
    """
    places = {entry.colour: place for place, entry in enumerate(listed)}
    if not listed or None in places or len(places) < len(listed):
        return False
    moved = False
    for path in maps:
        try:
            palette = _palette(path)
            used = [number for number in content_of(path)[1] if number != IGNORED]
        except (OSError, ValueError):
            continue
        colours = [palette.get(number) for number in used]
        if not palette or not all(colour in places for colour in colours):
            return False
        moved = moved or any(places[colour] != number for colour, number in zip(colours, used))
    return moved


def _title(number: int) -> str:
    value = value_of(number)
    return str(value) if isinstance(value, int) else ','.join(map(str, value))


def _palette(path: Path) -> dict[int, tuple[int, int, int]]:
    """Colours of a map that carries some."""
    with large_pictures(), Image.open(path) as image:
        flat = image.getpalette() if image.mode == 'P' else None
    return {number: tuple(flat[3 * number:3 * number + 3]) for number in range(len(flat) // 3)} if flat else {}


class _Entry(NamedTuple):
    """A line of a list of classes."""

    name: str
    colour: tuple[int, int, int] | None = None
    value: int | None = None


def _class_list(folder: Folder) -> list[_Entry]:
    """The classes of the first list that lies in the folder."""
    for name in _LISTS:
        for path in folder.files:
            if path.name.casefold() == name:
                entries = [entry for line in read_text(path).splitlines() if (entry := _parse_line(line.strip(), path))]
                numbered = [re.fullmatch(r'(\d+)\s*[\s:,;]\s*(.*\D.*)', entry.name) for entry in entries]
                if all(numbered) and not any(entry.colour for entry in entries):
                    entries = [_Entry(found[2], value=int(found[1])) for found in numbered if found]
                return entries
    return []


def _parse_line(line: str, path: Path) -> _Entry | None:
    """A line ``name``, ``name:r,g,b:…`` (CVAT), ``name,r,g,b`` or ``r g b name`` (CamVid)."""
    if not line or line.startswith('#'):
        return None
    if found := re.fullmatch(r'(.+?):(\d+),(\d+),(\d+)(:.*)?', line):
        return _Entry(found[1], (int(found[2]), int(found[3]), int(found[4])))
    if found := re.fullmatch(r'(\d+)\s+(\d+)\s+(\d+)\s+(.+)', line):
        return _Entry(found[4], (int(found[1]), int(found[2]), int(found[3])))
    if path.suffix.lower() == '.csv':
        name, *rest = next(csv.reader([line]))
        if len(rest) >= 3 and all(value.strip().isdecimal() for value in rest[:3]):
            return _Entry(name, (int(rest[0]), int(rest[1]), int(rest[2])))
        if name.casefold() in ('name', 'class', 'label', 'pixel value'):
            return None
        return _Entry(line if name.strip().isdecimal() else name)
    return _Entry(line)
