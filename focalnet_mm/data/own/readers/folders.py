"""A folder for each class."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from .collecting import Collector
from .folder import Folder, split_of

__all__ = ['class_folders', 'read', 'without_class']

# Folders that are called so hold pictures, not those of a class.
_NO_CLASS = {'data', 'dataset', 'image', 'images', 'img', 'img_dir', 'imgs', 'jpegimages', 'photos', 'pictures'}


def class_folders(folder: Folder) -> dict[Path, str]:
    """The class of each picture: the first folder below the root, or below that of a split.

    Returns:
        Nothing where a picture lies in no such folder.
    """
    found = _classes(folder)
    named = {path: name for path, name in found.items() if name is not None}
    return named if len(named) == len(found) else {}


def without_class(folder: Folder) -> Path | None:
    """A picture that lies in no folder of a class, where others lie in such of several classes; else nothing."""
    found = _classes(folder)
    several = len({name for name in found.values() if name is not None}) > 1
    return next((path for path, name in found.items() if name is None), None) if several else None


def _classes(folder: Folder) -> dict[Path, str | None]:
    found: dict[Path, str | None] = {}
    everything = _parts(folder)
    with_splits = _have_splits(everything)
    for path, parts in everything.items():
        while parts and with_splits and (parts[0].casefold() in _NO_CLASS or split_of(parts[:1])):
            del parts[0]
        found[path] = parts[0] if parts else None
    return found


def _parts(folder: Folder) -> dict[Path, list[str]]:
    """The folders of each picture, but for those that hold all of the data."""
    found = {path: list(folder.relative(path).parts[:-1]) for path in folder.pictures}
    around = len(_around(folder))
    for parts in found.values():
        del parts[:around]
        while parts and parts[0].casefold() in _NO_CLASS:
            del parts[0]
    return found


def _around(folder: Folder) -> tuple[str, ...]:
    """The folders that all pictures lie in, as archives have one around the rest, but for those of a split."""
    folders = [folder.relative(path).parts[:-1] for path in folder.pictures]
    least, most = min(folders), max(folders)
    around = tuple(part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(least, most)))
    if around in folders:
        # The only class that there is.
        return ()
    return around[:next((number for number, part in enumerate(around) if split_of([part])), len(around))]


def _have_splits(everything: Mapping[Path, Sequence[str]]) -> bool:
    """Whether every picture lies in the folder of a split: a class may be called train."""
    return all(split_of(parts[:1]) for parts in everything.values())


def read(out: Collector) -> None:
    """Read the pictures of a folder."""
    found = class_folders(out.folder)
    if not found:
        raise ValueError(f'{out.folder.root} does not hold a folder of pictures for each class.')
    for name in sorted(set(found.values())):
        out.label(name)
    if around := _around(out.folder):
        out.tell(f'The classes are the folders in {"/".join(around)}, which holds all pictures.')
    everything = _parts(out.folder)
    with_splits = _have_splits(everything)
    for path in out.track(list(found), 'Reading pictures'):
        picture = out.picture(path)
        picture.labels = (out.label(found[path]),)
        picture.split = split_of(everything[path][:1]) if with_splits else None
