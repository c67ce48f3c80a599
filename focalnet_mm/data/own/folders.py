"""A folder for each class."""

from __future__ import annotations

from pathlib import Path

from .collecting import Collector
from .folder import Folder, split_of

__all__ = ['class_folders', 'read']

# Folders that are called so hold pictures, not those of a class.
_NO_CLASS = {'data', 'dataset', 'image', 'images', 'img', 'img_dir', 'imgs', 'jpegimages', 'photos', 'pictures'}


def class_folders(folder: Folder) -> dict[Path, str]:
    """The class of each picture: the first folder below the root, or below that of a split.

    Returns:
        Nothing where a picture lies in no such folder.
    """
    found: dict[Path, str] = {}
    with_splits = _have_splits(folder)
    for path in folder.pictures:
        parts = _parts(folder, path)
        while parts and with_splits and (parts[0].casefold() in _NO_CLASS or split_of(parts[:1])):
            del parts[0]
        if not parts:
            return {}
        found[path] = parts[0]
    return found


def _parts(folder: Folder, path: Path) -> list[str]:
    """The folders of a picture, but for those that hold all of the data."""
    parts = list(folder.relative(path).parts[:-1])
    while parts and parts[0].casefold() in _NO_CLASS:
        del parts[0]
    return parts


def _have_splits(folder: Folder) -> bool:
    """Whether every picture lies in the folder of a split: a class may be called train."""
    return all(split_of(_parts(folder, path)[:1]) for path in folder.pictures)


def read(out: Collector) -> None:
    """Read the pictures of a folder."""
    found = class_folders(out.folder)
    if not found:
        raise ValueError(f'{out.folder.root} does not hold a folder of pictures for each class.')
    for name in sorted(set(found.values())):
        out.label(name)
    with_splits = _have_splits(out.folder)
    for path in out.track(list(found), 'Reading pictures'):
        picture = out.picture(path)
        picture.labels = (out.label(found[path]),)
        picture.split = split_of(_parts(out.folder, path)[:1]) if with_splits else None
