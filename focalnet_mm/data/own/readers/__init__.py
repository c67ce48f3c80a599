"""From a folder to :class:`OwnData`: which form it is in, and the reader of that form."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..records import OwnData
from . import coco, cvat, folders, label_maps, labelme, labelstudio, tables, voc, yolo
from .collecting import Collector
from .folder import Folder, Outline

__all__ = ['FORMATS', 'find_formats', 'read_data']


class _Format(NamedTuple):
    looks_so: Callable[[Folder], object]
    read: Callable[[Collector], None]
    #: What a folder of it holds, for a message.
    holds: str


def _maps(folder: Folder) -> bool:
    """Whether there are label maps beside the PNGs of COCO's panoptic segments, whose folder is called as its JSON."""
    return any(not Path(f'{path.parent}.json').is_file() for path in label_maps.find_maps(folder).values())


_FORMATS = dict(
    coco=_Format(coco.coco_files, coco.read, 'a JSON with images, annotations and categories'),
    voc=_Format(lambda folder: voc.voc_files(folder, 1), voc.read, 'an XML a picture'),
    yolo=_Format(yolo.yolo_files, yolo.read, 'data.yaml and a .txt a picture'),
    labelme=_Format(labelme.labelme_files, labelme.read, 'a JSON with shapes a picture'),
    cvat=_Format(cvat.cvat_files, cvat.read, 'the XML of "CVAT for images"'),
    labelstudio=_Format(labelstudio.labelstudio_files, labelstudio.read, "Label Studio's JSON export"),
    labelmaps=_Format(_maps, label_maps.read, 'pictures and label maps of the same names'),
    folders=_Format(folders.class_folders, folders.read, 'a folder of pictures for each class'),
    csv=_Format(tables.tables, tables.read, 'a CSV with headings such as path,label'))

#: The forms that are read, by name.
FORMATS = tuple(_FORMATS)


def find_formats(root: str | os.PathLike) -> list[str]:
    """Which of :data:`FORMATS` a folder looks like.

    Args:
        root: The folder.

    Returns:
        Their names; none where it looks like nothing that is known.

    Raises:
        NotADirectoryError: There is no such folder.
    """
    return _find_formats(Folder(root))


def _find_formats(folder: Folder) -> list[str]:
    found = [name for name, form in _FORMATS.items() if name != 'folders' and form.looks_so(folder)]
    if not found and folders.class_folders(folder):
        # Other forms sort their pictures into folders too.
        found.append('folders')
    if not found and tables.tables(folder, loosely=True):
        found.append('csv')
    return found


def read_data(root: str | os.PathLike, format: str | None = None, tell: Callable[[str], None] = print) -> OwnData:
    """Read pictures and annotations; the pictures stay where they are.

    Args:
        root: The folder.
        format: One of :data:`FORMATS`; found out where none is given.
        tell: Is given a sentence about what was decided: the form, names that were matched loosely, what was passed by.

    Returns:
        The data. Paths of pictures are absolute. What was odd in the annotation files is among its problems.

    Raises:
        NotADirectoryError: There is no such folder.
        ValueError: It is in no form, in several, or in another than named; or a file of it cannot be read.
        ImportError: The form needs a library that ``pip install focalnet-mm[own]`` brings.
    """
    if format is not None and format not in _FORMATS:
        raise ValueError(f'There is no format {format!r}: choose one of {", ".join(FORMATS)}.')
    folder = Folder(root)
    if not folder.pictures:
        raise ValueError(f'{folder.root} holds no picture, and no folder below it does: name the folder that holds '
                         'the pictures and their annotations.')
    if format is None:
        format = _choose(folder)
        tell(f'{folder.root} is read as {format}: {_FORMATS[format].holds}.')
    elif format not in ('labelmaps', *_find_formats(folder)) and not _FORMATS[format].looks_so(folder):
        # The reader may know what is wrong.
        _FORMATS[format].read(Collector(folder, tell))
        found = _find_formats(folder)
        raise ValueError(f'{folder.root} is not in the format {format} ({_FORMATS[format].holds}); it looks like '
                         f'{" and ".join(found) or "none that is known"}.')
    out = Collector(folder, tell)
    try:
        _FORMATS[format].read(out)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f'{folder.root} holds annotations that are not as the form {format} has them '
                         f'({type(error).__name__}: {error}): export them anew, or mend the entry.') from error
    data = out.finish(format)
    if not data.pictures:
        raise ValueError(f'{folder.root} holds annotations in the format {format}, but of no picture.')
    if not data.classes:
        raise ValueError(f'{folder.root} holds no class: nothing in its annotations ({format}) has a name.')
    if data.task in ('boxes', 'instances') and not any(picture.annotations for picture in data.pictures):
        where = '; label files belong into labels beside images, or beside each picture' if format == 'yolo' else ''
        raise ValueError(f'{folder.root} holds no object: its annotations ({format}) list {len(data.classes)} classes, '
                         f'but show nothing in {len(data.pictures)} pictures{where}.')
    return data


def _hint(folder: Folder) -> str:
    """What the annotations seem to be, where they are in no form."""
    for path in folder.ending('.json'):
        if labelstudio.is_minimal(folder, path):
            return f"; {folder.relative(path)} is Label Studio's JSON-MIN: export as JSON"
        if folder.outline(path) == Outline():
            return f'; {folder.relative(path)} is no JSON in UTF-8 of a form that is known'
    if labels := yolo.label_file(folder):
        return (f'; {folder.relative(labels)} looks like YOLO\'s, without a list of classes: write a data.yaml with '
                '"names: [cat, dog]" beside it')
    others = [path for path in folder.ending('.csv', '.tsv') if not tables.is_submission(path)]
    return f'; {folder.relative(others[0])} has other headings' if others else ''


def _choose(folder: Folder) -> str:
    found = _find_formats(folder)
    if len(found) > 1:
        raise ValueError(f'{folder.root} holds annotations in several formats: name one of them with --format '
                         f'{"|".join(found)}, or the folder of one of them.')
    if not found:
        known = '; '.join(f'{name}: {form.holds}' for name, form in _FORMATS.items())
        loose = folders.without_class(folder)
        but = f'; {folder.relative(loose)} lies in no folder of a class, as others do: name the folder of these alone' \
            if loose else ''
        raise ValueError(f'{folder.root} holds {len(folder.pictures)} pictures, but no annotations in a form that is '
                         f'read ({known}){but}{_hint(folder)}.')
    return found[0]
