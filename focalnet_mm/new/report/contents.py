"""What a report says, in plain lists and numbers, and the small pictures that it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from ...data.own.looking.problems import KINDS
from ...data.own.records import OwnData, Picture, Problem
from ...data.pictures import printable
from ...data.progress import track
from .drawing import Window, colours_of, draw, whole, window_around
from .sources import Files
from .statistics import histogram, is_drawable, mean_side, per_class, per_split, quantiles, split_of, splits_of

__all__ = ['Album', 'contents_of', 'spread']

T = TypeVar('T')

# Of so many classes examples are drawn: half of them with the most, half with the fewest annotations.
_CLASSES_SHOWN = 40
_EXAMPLES = 4
_PICTURES_SHOWN = 12
# Reading a label map takes some milliseconds.
_MOST_LABEL_MAPS = 2000
_SIDE_EDGES = [0, *(2**i for i in range(1, 15))]
_PICTURE_EDGES = [0, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384]
_COUNT_EDGES = [0, 1, 2, 3, 5, 9, 17, 33, 65, 129, 257]


class Album:
    """The folder of a report's pictures.

    Args:
        folder: Where to; it is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def add(self, image: np.ndarray) -> dict[str, Any]:
        """Write a picture.

        Args:
            image: RGB image (H, W, 3), uint8.

        Returns:
            ``file``, its name in the folder, ``height`` and ``width``.
        """
        name = f'{self._count:04d}.jpg'
        self._count += 1
        _, content = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        (self._folder / name).write_bytes(content.tobytes())
        return dict(file=name, height=image.shape[0], width=image.shape[1])


def contents_of(data: OwnData, album: Album, files: Files, tell: Callable[[str], None]) -> dict[str, Any]:
    """All that a report says of a data set.

    Args:
        data: The data set.
        album: Takes the pictures.
        files: What reads pictures and label maps.
        tell: Takes lines about what was left out.

    Returns:
        What ``report.json`` holds.
    """
    maps = [i for i, picture in enumerate(data.pictures) if picture.label_map]
    read = spread(maps, _MOST_LABEL_MAPS)
    notes = []
    if len(read) < len(maps):
        notes.append(f'Pixels are counted in {len(read)} of the {len(maps)} label maps, spread evenly.')
        tell(notes[0])
    pixels = {i: files.pixels(data.pictures[i]) for i in track(read, 'label maps')}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        classes = per_class(data, pixels)
        _Examples(data, classes, pixels, album, files, progress).add_all()
        shown = _shown(data, album, files, progress)
    colours = colours_of(data)
    for row in classes:
        known = row['name'] is not None
        row['colour'] = '#{:02x}{:02x}{:02x}'.format(*colours[row['label'] if known else -1])
        row['name'] = printable(row['name']) if known else f'number {row["label"]}, which has no name'
    return dict(
        root=printable(data.root), format=data.format, task=data.task, notes=notes, splits=per_split(data),
        pictures=_picture_sizes(data.pictures), objects=_object_sizes(data.pictures), classes=classes,
        examples_of=sum('examples' in row for row in classes), shown=shown, problems=_problems(data))


def spread(items: Sequence[T], most: int) -> list[T]:
    """So many of some items at the most, spread evenly over them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]


def _picture_sizes(pictures: Sequence[Picture]) -> dict[str, Any]:
    readable = [picture for picture in pictures if picture.height and picture.width]
    sizes = Counter((picture.width, picture.height) for picture in readable)
    sides = [max(picture.width, picture.height) for picture in readable]
    return dict(count=len(pictures), sizes=len(sizes), width=quantiles([picture.width for picture in readable]),
                height=quantiles([picture.height for picture in readable]),
                most=[dict(width=width, height=height, pictures=count)
                      for (width, height), count in sizes.most_common(8)],
                longer_side=histogram(sides, _PICTURE_EDGES))


def _object_sizes(pictures: Sequence[Picture]) -> dict[str, Any]:
    objects = [(annotation, picture) for picture in pictures for annotation in picture.annotations]
    drawable = [(annotation, picture) for annotation, picture in objects if is_drawable(annotation)]
    sides = [mean_side(annotation) for annotation, _ in drawable]
    shares = [100 * mean_side(annotation) / (picture.height * picture.width)**0.5
              for annotation, picture in drawable if picture.height and picture.width]
    return dict(count=len(objects), without_area=len(objects) - len(drawable), side=quantiles(sides),
                share=quantiles(shares), sides=histogram(sides, _SIDE_EDGES),
                per_picture=histogram([len(picture.annotations) for picture in pictures], _COUNT_EDGES))


def _problems(data: OwnData) -> list[dict[str, Any]]:
    """Problems by kind, the most frequent first."""
    kinds: dict[str, list[Problem]] = {}
    for problem in data.problems:
        kinds.setdefault(problem.kind, []).append(problem)
    return [dict(kind=kind, about=KINDS[kind][0] if kind in KINDS else '', count=len(found),
                 done=dict(Counter(problem.done for problem in found)), found=[_told(problem) for problem in found])
            for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1]))]


def _told(problem: Problem) -> dict[str, Any]:
    return dict(text=printable(problem.text), picture=printable(problem.picture) if problem.picture else None,
                annotation=problem.annotation, done=problem.done)


def _total(row: dict[str, Any]) -> int:
    return sum(row['objects'].values()) or sum(row['pixels'].values()) or sum(row['pictures'].values())


class _Examples:
    """Examples of each class, or of those with the most and with the fewest annotations."""

    def __init__(self, data: OwnData, classes: Sequence[dict[str, Any]], pixels: dict[int, Counter[int]],
                 album: Album, files: Files, progress: Progress) -> None:
        self._data, self._album, self._files, self._progress = data, album, files, progress
        found = sorted((row for row in classes if _total(row)), key=_total, reverse=True)
        half = _CLASSES_SHOWN // 2
        self._rows = found if len(found) <= _CLASSES_SHOWN else [*found[:half], *found[-half:]]
        self._places: dict[int, list[tuple[int, int | None]]] = {row['label']: [] for row in self._rows}
        for i, picture in enumerate(data.pictures):
            if not (picture.height and picture.width):
                continue
            first = {annotation.label: number for number, annotation in
                     reversed(list(enumerate(picture.annotations))) if is_drawable(annotation)}
            for label in {*first, *picture.labels, *pixels.get(i, ())} & self._places.keys():
                self._places[label].append((i, first.get(label)))

    def add_all(self) -> None:
        """Draw them, and add them to the classes."""
        for row in self._progress.track(self._rows, description='examples'):
            places = self._places[row['label']]
            row['examples'] = [self._drawn(row['label'], *places[i])
                               for i in spread(range(len(places)), _EXAMPLES)]

    def _drawn(self, label: int, index: int, number: int | None) -> dict[str, Any]:
        picture = self._data.pictures[index]
        window = whole(picture)
        if number is not None and label not in self._data.stuff:
            window = window_around(picture, picture.annotations[number])
        return _drawn(picture, window, self._data, self._album, self._files, label)


def _shown(data: OwnData, album: Album, files: Files, progress: Progress) -> list[dict[str, Any]]:
    """Some pictures of each split, spread evenly, with all their annotations."""
    splits = splits_of(data)
    places: list[int] = []
    for split in splits:
        places += spread([i for i, picture in enumerate(data.pictures) if split_of(picture) == split],
                          -(-_PICTURES_SHOWN // len(splits)))
    return [_drawn(data.pictures[i], whole(data.pictures[i]), data, album, files)
            for i in progress.track(places, description='pictures')]


def _drawn(picture: Picture, window: Window, data: OwnData, album: Album, files: Files,
           chosen: int | None = None) -> dict[str, Any]:
    """An entry of a picture: where it is in the album, or why it is not."""
    entry: dict[str, Any] = dict(
        picture=printable(picture.path), name=printable(picture.path.name), split=split_of(picture),
        size=[picture.width, picture.height], labels=_labels(picture, None))
    try:
        if not (picture.height and picture.width):
            raise ValueError(f'{picture.path} cannot be read.')
        labels = files.labels(picture) if picture.label_map else None
        entry['labels'] = _labels(picture, labels)
        drawn = draw(picture, window, colours_of(data), files.image, labels, chosen, areas=data.stuff)
        return {**entry, **album.add(drawn)}
    except (OSError, ValueError) as error:
        return dict(entry, problem=printable(error))


def _labels(picture: Picture, labels: np.ndarray | None) -> list[int]:
    """The classes in a picture, the most frequent first."""
    found = Counter(annotation.label for annotation in picture.annotations)
    found.update(picture.labels)
    if labels is not None:
        values, counts = np.unique(labels[labels >= 0], return_counts=True)
        found.update(dict(zip(values.tolist(), counts.tolist())))
    return [label for label, _ in found.most_common()]
