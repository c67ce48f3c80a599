"""What a reader has found so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...progress import track
from ..classes import relabel, things_first
from ..headers import Header, read_header
from ..masks import check_segmentation, polygon_box
from ..records import Annotation, OwnData, Picture, Problem
from .folder import OTHER_ENDINGS, Folder, split_of

__all__ = ['Collector']

_T = TypeVar('_T')


class Collector:
    """Pictures, classes and problems, as a reader finds them.

    Args:
        folder: The files.
        tell: Is given sentences for the user.

    Attributes:
        pictures: By path, in the order in which they were found.
        classes: Names, in the order of the labels.
        problems: What was odd.
        map_values: As in :class:`OwnData`.
        stuff: The same.
        palette: The same.
        several: Whether a picture may have several classes as a whole.
        gathered: Whether the classes are those that occur, and no list: one of entries that were left out is none.
    """

    def __init__(self, folder: Folder, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.tell = tell
        self.pictures: dict[Path, Picture] = {}
        self.classes: list[str] = []
        self.problems: list[Problem] = []
        self.map_values: dict[int | tuple[int, int, int], int] = {}
        self.stuff: frozenset[int] = frozenset()
        self.palette: list[tuple[int, int, int]] | None = None
        self.several = False
        self.gathered = False
        self._headers: dict[Path, Header | None] = {}
        self._labels: dict[str, int] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._names: dict[tuple[str, Path, str | None, str | None], Path | None] = {}
        # Whether the first mention of a picture told its split, and which were mentioned both with one and without.
        self._with_split: dict[Path, bool] = {}
        self._both_ways: set[Path] = set()
        self._twice = 0

    def track(self, items: Sequence[_T], what: str) -> Iterator[_T]:
        """Go through items, many of them under a progress bar."""
        return track(items, what)

    def note(self, kind: str, text: str, picture: Path | None = None, annotation: int | None = None,
             done: str = 'kept', said: tuple[int, int] | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, text, picture, annotation, done, said))

    def objects(self, items: Any, where: str) -> list[dict[str, Any]]:
        """The objects of a JSON's list; what is none is noted, and left out.

        Args:
            items: What should be a list of objects.
            where: What it is, for a message.
        """
        if not isinstance(items, list):
            items = [items]
        odd = [number for number, item in enumerate(items) if not isinstance(item, dict)]
        if odd:
            self.note('malformed', f'{len(odd)} entries of {where}, number {odd[0]} among them, are no objects of JSON',
                      done='left out')
        return [item for item in items if isinstance(item, dict)]

    def declare(self, names: Iterable[str]) -> None:
        """Take a list of classes whose order is given; equal names stay apart."""
        for name in map(str, names):
            self._labels.setdefault(name, len(self.classes))
            self.classes.append(name)

    def label(self, name: str) -> int:
        """The label of a class, which is added where it is new."""
        if name not in self._labels:
            self.declare([name])
        return self._labels[name]

    def header(self, path: Path) -> Header | None:
        """The header of a picture; ``None``, with a problem, where it cannot be read."""
        if path not in self._headers:
            try:
                self._headers[path] = read_header(path)
            except (OSError, ValueError) as error:
                self._headers[path] = None
                self.note('unreadable', f'{self.folder.relative(path)} cannot be read: {error}', path)
        return self._headers[path]

    def picture(self, path: Path, split: str | None = None, size: Sequence[Any] | None = None) -> Picture:
        """The record of a picture, which is made at its first mention.

        Args:
            path: The picture.
            split: The one that it is said to be in; told by its folders where no mention says one.
            size: Height and width that the annotations name, if they do: numbers, or texts of some.
        """
        said = [_side(value) for value in size or ()]
        if path not in self.pictures:
            header = self.header(path)
            height, width = (header.height, header.width) if header else (0, 0)
            self._with_split[path] = bool(split)
            split = split or split_of(self.folder.relative(path).parts[:-1])
            self.pictures[path] = Picture(path, height, width, split=split)
            if header and said and all(said) and said != [height, width]:
                self._other_size(path, header, (said[0], said[1]))
        else:
            self._again(self.pictures[path], split)
        return self.pictures[path]

    def _again(self, picture: Picture, split: str | None) -> None:
        """Take the split of a later mention where none before told one."""
        told = self._with_split[picture.path]
        if told != bool(split):
            self._both_ways.add(picture.path)
        if not split or (told and split == picture.split):
            return
        if told:
            self.note('two_splits', f'{self.folder.relative(picture.path)} stands in {picture.split} and in {split}: '
                      'the first counts, and what the other tells is passed by', picture.path)
        else:
            picture.split, self._with_split[picture.path] = split, True

    def named(self, name: str, near: Path, split: str | None = None, size: Sequence[Any] | None = None,
              stem: str | None = None) -> Picture:
        """The record of the picture that an annotation names.

        Args:
            name: As it is written there.
            near: The folder of the annotation file.
            split: As :meth:`picture` takes it.
            size: The same.
            stem: The name of the annotation file without ending, which is tried last.
        """
        key = (name, near, split, stem)
        if key not in self._names:
            self._names[key] = self._look_up(name, near, split, stem)
        found = self._names[key]
        if found is not None:
            return self.picture(found, split, size)
        path = near / name.replace('\\', '/')
        if path in self.pictures:
            self._again(self.pictures[path], split)
        else:
            self.pictures[path] = Picture(path, 0, 0, split=split)
            self._with_split[path] = bool(split)
            self.note('missing', f'{name} is annotated in {self.folder.relative(near)}, but no picture, or no single '
                      'one, is called so', path)
        return self.pictures[path]

    def _look_up(self, name: str, near: Path, split: str | None, stem: str | None) -> Path | None:
        match = self.folder.find(name, near, split)
        if match is None and stem is not None and (path := self.folder.find_stem(stem, near, split)):
            self.note('moved', f'{name} is not there: {self.folder.relative(path)} was taken, which is called as its '
                      'annotations', path)
            return path
        if match and not match.certain:
            self.note('moved', f'{name} is not there: {self.folder.relative(match.path)} was taken, which is called '
                      'alike', match.path)
        return match.path if match else None

    def _other_size(self, path: Path, header: Header, size: tuple[int, int]) -> None:
        name, said = self.folder.relative(path), f'{size[1]} × {size[0]}'
        self._sizes[path] = size
        if tuple(size) == header.stored:
            self.note('exif', f'{name} is annotated as it is stored, {said}; loaded, it is turned by its EXIF '
                      f'orientation {header.orientation} to {header.width} × {header.height}', path, said=size)
        else:
            self.note('size', f'{name} is annotated as {said}, but has {header.width} × {header.height} pixels', path,
                      said=size)

    def add(self, picture: Picture, label: int, box: Sequence[float] | None, segmentation: Any = None,
            crowd: bool = False) -> None:
        """Add an object; where it has no box, that of its polygons.

        A file of all pictures and one of a split hold the same objects, each of which is taken once.

        Raises:
            ValueError: Its segmentation cannot be drawn.
        """
        if segmentation and picture.height:
            # Annotations of another size have a problem of their own.
            check_segmentation(segmentation, *self._sizes.get(picture.path, (picture.height, picture.width)))
        if box is None:
            box = polygon_box(segmentation)
        left, top, right, bottom = map(float, box)
        found = Annotation(label, (left, top, right, bottom), segmentation or None, crowd)
        if picture.path in self._both_ways and found in picture.annotations:
            self._twice += 1
            return
        picture.annotations.append(found)

    def finish(self, format: str) -> OwnData:
        """All that was found; sentences about it go to the user."""
        pictures = list(self.pictures.values())
        data = OwnData(self.folder.root, format, self._task(pictures), self.classes, pictures, self.problems,
                       self.stuff, self.map_values, self.palette)
        if data.stuff:
            things_first(data)
        self._pass_by_labels(data)
        if self.gathered:
            self._pass_by_classes(data)
        self._pass_by_pictures(data)
        if self._twice:
            self.tell(f'{self._twice} objects stand both where their picture has a split and where it has none: each '
                      'is taken once.')
        for kind, count in Counter(problem.kind for problem in self.problems).items():
            example = next(problem for problem in self.problems if problem.kind == kind)
            done = ': left out' if example.done == 'left out' else ''
            more = f' ({count} such)' if count > 1 else ''
            self.tell(f'{example.text}{done}{more}.')
        return data

    def _pass_by_labels(self, data: OwnData) -> None:
        """Beside objects, classes of whole pictures are passed by; they are no classes of objects."""
        if data.task not in ('boxes', 'instances') or not any(picture.labels for picture in data.pictures):
            return
        used = {annotation.label for picture in data.pictures for annotation in picture.annotations}
        whole = {label for picture in data.pictures for label in picture.labels} - used
        for picture in data.pictures:
            picture.labels = ()
        self.tell(f'Classes of whole pictures ({", ".join(data.classes[label] for label in sorted(whole))}) are passed '
                  'by beside objects.')
        kept = [label for label in range(len(data.classes)) if label not in whole]
        relabel(data, [kept.index(label) if label in kept else None for label in range(len(data.classes))])

    def _pass_by_classes(self, data: OwnData) -> None:
        """What occurs in entries alone that were left out, such as points, is no class to learn."""
        used = {annotation.label for picture in data.pictures for annotation in picture.annotations}
        used |= {label for picture in data.pictures for label in picture.labels}
        unused = [name for label, name in enumerate(data.classes) if label not in used]
        if used and unused:
            kept = sorted(used)
            relabel(data, [kept.index(label) if label in used else None for label in range(len(data.classes))])
            self.tell(f'{", ".join(unused[:10])}{" …" if len(unused) > 10 else ""}: no classes, since nothing that is '
                      'read is of them.')

    def _pass_by_pictures(self, data: OwnData) -> None:
        """Say what is read of no picture: those that no annotation names, and those in forms that are not read."""
        others = [path for path in self.folder.ending(*OTHER_ENDINGS) if path not in self.pictures]
        if others:
            endings = ', '.join(sorted({path.suffix.lower() for path in others}))
            self.tell(f'{len(others)} files are not read, {self.folder.relative(others[0])} among them: convert '
                      f'pictures in {endings} to JPEG or PNG.')
        if data.format == 'labelmaps':
            return
        # Label maps and segments bear the names of pictures.
        stems = {path.stem for path in self.pictures}
        without = [path for path in self.folder.pictures if path not in self.pictures
                   and not (path.suffix.lower() == '.png' and path.stem in stems)]
        if without:
            self.tell(f'{len(without)} pictures are named by no annotation, {self.folder.relative(without[0])} among '
                      'them: passed by.')

    def _task(self, pictures: list[Picture]) -> str:
        if any(picture.label_map for picture in pictures):
            return 'semantic'
        if self.stuff:
            return 'panoptic'
        objects = [annotation for picture in pictures for annotation in picture.annotations]
        if not objects and any(picture.labels for picture in pictures):
            several = self.several or any(len(picture.labels) > 1 for picture in pictures)
            return 'labels' if several else 'classes'
        with_mask = sum(annotation.segmentation is not None for annotation in objects)
        if 0 < with_mask < len(objects):
            self.tell(f'{len(objects) - with_mask} of {len(objects)} objects have no mask, so boxes are what all of '
                      'the data has.')
        return 'instances' if objects and with_mask == len(objects) else 'boxes'


def _side(value: Any) -> int:
    """A side in pixels; 0 where it is no number."""
    try:
        return int(float(value))
    except (OverflowError, TypeError, ValueError):
        return 0
