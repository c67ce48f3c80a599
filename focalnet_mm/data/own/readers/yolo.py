"""YOLO: a text file for each picture, with a line for each box or polygon in parts of the picture's size."""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ...pictures import IMAGE_ENDINGS
from ..records import SPLITS, Picture
from .collecting import Collector
from .folder import Folder, read_text, split_of

__all__ = ['label_file', 'read', 'yolo_files']

# Lists of names, line by line, of data sets without data.yaml.
_NAMES = ('classes.txt', 'obj.names', 'labels.names')
_LINE = re.compile(r'\d+(?:\.0*)?(?:\s+[-+.\deEnaif]+){4,}')


def yolo_files(folder: Folder) -> list[Path]:
    """The ``data.yaml``, or else the lists of names beside label files."""
    found = [path for path in folder.ending('.yaml', '.yml') if _load(path)]
    if found:
        return found
    lists = [path for path in folder.files if path.name.casefold() in _NAMES]
    return lists if lists and any(_is_label_file(path, folder) for path in folder.ending('.txt')) else []


def label_file(folder: Folder) -> Path | None:
    """A label file of a picture, if there is one."""
    return next((path for path in folder.ending('.txt') if folder.has_picture(path.stem)
                 and _is_label_file(path, folder)), None)


def read(out: Collector) -> None:
    """Read the data set of a folder."""
    files = yolo_files(out.folder)
    if not files:
        raise ValueError(f'{out.folder.root} holds no data.yaml with names, nor {" or ".join(_NAMES)} beside label '
                         'files: write a data.yaml with "names: [cat, dog]" and "train: images/train".')
    content = _load(files[0])
    # LabelImg writes its list into each folder; a data.yaml names pictures of its own.
    if len(files) > 1 and (content is not None or len({tuple(_lines(path)) for path in files}) > 1):
        raise ValueError(f'{out.folder.root} holds {len(files)} lists of YOLO classes, {files[0].name} and '
                         f'{out.folder.relative(files[1])} among them: name the folder of one data set.')
    if content is None:
        content = dict(names=_lines(files[0]), **_lists(out.folder))
    out.declare(_names(content['names'], files[0]))
    keypoints = content.get('kpt_shape') or (0, 0)
    pose = int(keypoints[0]) * int(keypoints[1])
    pictures = list(_pictures(out, content, files[0]))
    read_already: set[Path | None] = set()
    seen: set[Path] = set()
    for path, split in out.track(pictures, 'Reading pictures and labels'):
        picture = out.picture(path, split)
        if path in seen:
            continue
        seen.add(path)
        labels = _label_file(path, out.folder)
        read_already.add(labels)
        # Without a label file, or with an empty one, a picture shows nothing of the classes.
        if labels is None or not picture.height:
            continue
        for number, line in enumerate(read_text(labels).splitlines(), start=1):
            if line.strip():
                _read_line(out, picture, line, pose, f'line {number} of {out.folder.relative(labels)}')
    for path in out.folder.ending('.txt'):
        if path not in read_already and not out.folder.has_picture(path.stem) and _is_label_file(path, out.folder):
            out.note('missing', f'{out.folder.relative(path)} annotates a picture that is not there', done='left out')


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _load(path: Path) -> dict[str, Any] | None:
    """The content of a ``data.yaml``; nothing where it is another file."""
    if path.suffix.lower() not in ('.yaml', '.yml'):
        return None
    try:
        content = yaml.safe_load(read_text(path))
    except (ValueError, yaml.YAMLError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get('names'), (list, dict)):
        # A class may be called no, on or 1_0: none is a truth value or another number.
        return {**content, 'names': yaml.load(read_text(path), yaml.BaseLoader)['names']}
    if isinstance(content.get('nc'), int) and content.get('train'):
        # As Ultralytics calls them.
        return {**content, 'names': [f'class_{number}' for number in range(content['nc'])]}
    return None


def _lists(folder: Folder) -> dict[str, list[str]]:
    """Darknet's lists of pictures, ``train.txt`` and ``valid.txt``, by their split."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in folder.ending('.txt'):
        split = split_of([path.stem])
        if split and (lines := _lines(path)) and all(line.lower().endswith(IMAGE_ENDINGS) for line in lines):
            found[split].append(str(path))
    return found


def _names(names: Any, path: Path) -> list[str]:
    if isinstance(names, list):
        return [str(name) for name in names]
    try:
        numbered = {int(number): str(name) for number, name in names.items()}
        return [numbered[number] for number in range(len(numbered))]
    except (KeyError, ValueError):
        found = ', '.join(map(str, list(names)[:10]))
        raise ValueError(f'names in {path} must number the classes 0, 1, …; it has {found}.') from None


def _pictures(out: Collector, content: Mapping[str, Any], file: Path) -> Iterator[tuple[Path, str | None]]:
    """The pictures that ``train``, ``val`` and ``test`` name: folders, lists or files; without them all with labels."""
    named = [(split, entry) for split in SPLITS for entry in _entries(content.get(split) or content.get(
        dict(val='valid').get(split, split)))]
    for split, entry in named:
        place = _locate(str(entry), content, file)
        if place is None and (place := out.folder.find_place(str(entry))):
            out.note('moved', f'{entry}, the {split} pictures of {file.name}, is not there: '
                     f'{out.folder.relative(place)} was taken, which is called alike')
        if place is None:
            out.note('missing', f'{entry}, the {split} pictures of {file.name}, is not there', done='left out')
        elif place.is_dir():
            below = [path for path in out.folder.pictures if path.is_relative_to(place)]
            inside = below or sorted(path for path in place.rglob('*') if path.suffix.lower() in IMAGE_ENDINGS)
            yield from ((path, split) for path in inside)
        elif place.suffix.lower() in IMAGE_ENDINGS:
            yield place, split
        else:
            for line in filter(None, map(str.strip, read_text(place).splitlines())):
                # CVAT writes data/obj_train_data/0.jpg, and packs no folder data.
                inner = line.removeprefix('data/')
                line = inner if (place.parent / inner).is_file() else line
                # Of two splits the first counts, and that has been said.
                picture = out.named(line, place.parent, split)
                yield picture.path, picture.split
    if not named:
        yield from ((path, split_of(out.folder.relative(path).parts[:-1])) for path in out.folder.pictures)


def _entries(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found] if found else []


def _locate(entry: str, content: Mapping[str, Any], file: Path) -> Path | None:
    """A folder or list that ``data.yaml`` names; ``path`` in it may be that of another machine."""
    entry = entry.replace('\\', '/')
    bases = [file.parent / str(content['path']).replace('\\', '/')] if content.get('path') else []
    # Roboflow writes ../train/images for train/images beside the file.
    for place in [*(base / entry for base in (*bases, file.parent)), file.parent / entry.removeprefix('../')]:
        place = Path(os.path.normpath(place))
        if place.exists():
            return place
    return None


def _label_file(picture: Path, folder: Folder) -> Path | None:
    """The text file in the last folder ``images`` turned to ``labels``, or beside the picture."""
    parts = list(picture.parts)
    for number in reversed(range(len(parts) - 1)):
        if parts[number] == 'images':
            found = folder.file(Path(*parts[:number], 'labels', *parts[number + 1:]).with_suffix('.txt'))
            if found is not None:
                return found
            break
    return folder.file(picture.with_suffix('.txt'))


def _is_label_file(path: Path, folder: Folder) -> bool:
    if path.name.casefold() in _NAMES:
        return False
    try:
        lines = read_text(path).splitlines()
    except ValueError:
        return False
    return any(map(str.strip, lines)) and all(_LINE.fullmatch(line.strip()) for line in lines if line.strip())


def _read_line(out: Collector, picture: Picture, line: str, pose: int, where: str) -> None:
    try:
        values = [float(value) for value in line.split()]
        label, *rest = values
        if pose and len(rest) == 4 + pose:
            rest = rest[:4]
        if label != int(label):
            raise ValueError(f'{label} is no number of a class')
        if not 0 <= label < len(out.classes):
            out.note('unknown_class', f'{where} has the class {int(label)}, but names lists {len(out.classes)}',
                     picture.path, done='left out')
            return
        width, height = picture.width, picture.height
        if len(rest) in (4, 5):  # five: a confidence stands last
            x, y, w, h = rest[0] * width, rest[1] * height, rest[2] * width, rest[3] * height
            out.add(picture, int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        elif len(rest) >= 6 and len(rest) % 2 == 0:
            sides = itertools.cycle((width, height))
            out.add(picture, int(label), None, [[value * side for value, side in zip(rest, sides)]])
        else:
            raise ValueError(f'{len(values)} numbers')
    except (ValueError, OverflowError) as error:
        out.note('malformed', f'{where} is neither box nor polygon: {error}', picture.path, done='left out')
