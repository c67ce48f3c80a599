"""A folder for each class."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from .collecting import Collector
from .folder import Folder, split_of

__all__ = ['class_folders', 'read', 'without_class']

# Folders that are called so hold pictures, not those of a class.
_NO_CLASS = {'data', 'dataset', 'image', 'images', 'img', 'img_dir', 'imgs', 'jpegimages', 'photos', 'pictures'}
# Folders that are called so hold what belongs to pictures.
_OF_PICTURES = {'annotations', 'ground_truth', 'groundtruth', 'gt', 'labels', 'maps', 'mask', 'masks'}


class _Place(NamedTuple):
    """What the folders of a picture tell."""

    split: str | None
    #: Its class; nothing where it lies in no folder of one.
    name: str | None
    #: The folder below that of the class, if there is one.
    inner: str | None


def class_folders(folder: Folder) -> dict[Path, str]:
    """The class of each picture: the first folder below the root, or below that of a split.

    Returns:
        Nothing where a picture lies in no such folder.
    """
    return _names(_places(folder))


def _names(places: Mapping[Path, _Place]) -> dict[Path, str]:
    named = {path: place.name for path, place in places.items() if place.name is not None}
    return named if len(named) == len(places) else {}


def without_class(folder: Folder) -> Path | None:
    """A picture that lies in no folder of a class, where others lie in such of several classes; else nothing."""
    found = _places(folder)
    several = len({place.name for place in found.values() if place.name is not None}) > 1
    return next((path for path, place in found.items() if place.name is None), None) if several else None


def _places(folder: Folder) -> dict[Path, _Place]:
    folders = {path: folder.relative(path).parts[:-1] for path in folder.pictures}
    wrapping = _Wrapping(folders.values())
    start = len(_around(folder))
    starts = {path: wrapping.inside(parts, start) for path, parts in folders.items()}
    # A class may be called train.
    with_splits = all(split_of(parts[starts[path]:][:1]) for path, parts in folders.items())
    found = {}
    for path, parts in folders.items():
        at, split = starts[path], None
        if with_splits:
            split = split_of([parts[at]])
            at = wrapping.inside(parts, at + 1, with_splits)
        name, inner = (*parts[at:at + 2], None, None)[:2]
        found[path] = _Place(split, name, inner)
    return found


class _Wrapping:
    """Which folders do nothing but lie around others.

    A folder beside a class is none: of photos, drawings and paintings, photos is a class too.

    Args:
        folders: The parts of the folder of each picture.
    """

    def __init__(self, folders: Iterable[tuple[str, ...]]) -> None:
        self._holding = set(folders)
        self._inner: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for parts in self._holding:
            for depth, part in enumerate(parts):
                self._inner[parts[:depth]].add(part)
        # One that stands alone in val is the class that it is in train.
        self._beside = {part for inner in self._inner.values() for part in inner
                        if any(other != part and _may_be_class(other) for other in inner)}

    def inside(self, parts: tuple[str, ...], at: int, splits: bool = False) -> int:
        """How many folders of a picture are those around its class.

        Args:
            parts: Its folders.
            at: The number of those that are known to be.
            splits: Whether the folder of a split may lie in another one, as some archives have it.
        """
        while at < len(parts) and parts[at] not in self._beside:
            alone = len(self._inner[parts[:at]]) == 1 and parts[:at + 1] not in self._holding
            if not (splits and alone and split_of([parts[at]])) and parts[at].casefold() not in _NO_CLASS:
                break
            at += 1
        return at


def _may_be_class(name: str) -> bool:
    return name.casefold() not in _NO_CLASS | _OF_PICTURES and not split_of([name])


def _around(folder: Folder) -> tuple[str, ...]:
    """The folders that all pictures lie in, as archives have one around the rest, but for those of a split."""
    folders = [folder.relative(path).parts[:-1] for path in folder.pictures]
    least, most = min(folders), max(folders)
    around = tuple(part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(least, most)))
    if around in folders:
        # The only class that there is.
        return ()
    return around[:next((number for number, part in enumerate(around) if split_of([part])), len(around))]


def _note_depth(out: Collector, places: Iterable[_Place]) -> None:
    """Say where each class folder holds the same ones: those may be sources, and the inner ones the classes."""
    inner: dict[str, set[str]] = defaultdict(set)
    for place in places:
        inner[place.name or ''].add(place.inner or '')
    counts = Counter(name for names in inner.values() for name in names)
    common = {name for name, count in counts.items()
              if name and 2 * count > len(inner) and _may_be_class(name)}
    if len(inner) > 1 and len(common) > 1 and all('' not in names and 2 * len(names & common) > len(names)
                                                  and 2 * len(names & common) >= len(common)
                                                  for names in inner.values()):
        out.note('folders_within', f'the folders {_some(inner)} are taken for the classes, but each of them holds '
                 f'{_some(common)}: if these are the classes, name one of the outer folders, call them train, val and '
                 'test if they are that, or list the pictures in a CSV with the headings path,label')


def _some(names: Iterable[str]) -> str:
    """The first names of folders."""
    ordered = sorted(names)
    return f'{", ".join(ordered[:3])}{" …" if len(ordered) > 3 else ""}'


def read(out: Collector) -> None:
    """Read the pictures of a folder."""
    places = _places(out.folder)
    found = _names(places)
    if not found:
        raise ValueError(f'{out.folder.root} does not hold a folder of pictures for each class.')
    _note_depth(out, places.values())
    for name in sorted(set(found.values())):
        out.label(name)
    if around := _around(out.folder):
        out.tell(f'The classes are the folders in {"/".join(around)}, which holds all pictures.')
    for path in out.track(list(found), 'Reading pictures'):
        picture = out.picture(path)
        picture.labels = (out.label(found[path]),)
        picture.split = places[path].split
