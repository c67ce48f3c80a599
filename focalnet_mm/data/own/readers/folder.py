"""The files of a folder, and which of its pictures an annotation means."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from ...pictures import IMAGE_ENDINGS

__all__ = ['OTHER_ENDINGS', 'Folder', 'Match', 'Outline', 'read_text', 'split_of', 'split_of_name']

_SPLITS = dict(train='train', training='train', val='val', valid='val', validate='val', validation='val', dev='val',
               eval='val', evaluation='val', test='test', testing='test', holdout='test')
# What stands beside the word: val2017, train_images, img_test, CVAT's obj_train_data, Kaggle's seg_train.
_BESIDE = 'annotations|data|images?|imgs?|labels|masks|obj|photos|pictures|seg'
_SPLIT_FOLDER = re.compile(rf'(?:(?:{_BESIDE})[_-])?({"|".join(_SPLITS)})(?:[_-]?(?:{_BESIDE}|set|\d{{4}}))?')
#: Of pictures in forms that OpenCV or Pillow may not know.
OTHER_ENDINGS = ('.avif', '.cr2', '.dng', '.heic', '.heif', '.jfif', '.jp2', '.jpe', '.jxl', '.nef', '.psd', '.svg')
# Of archives that were packed elsewhere, and of systems: Synology's @eaDir has a small copy of each picture.
_PASSED_BY = ('__MACOSX', '@eaDir', '$RECYCLE.BIN', 'System Volume Information', 'lost+found')


class Match(NamedTuple):
    """The picture that an annotation names."""

    path: Path
    #: Whether it lies where the annotation says, and not merely bears its name.
    certain: bool


class Outline(NamedTuple):
    """What tells the form of a JSON file."""

    #: The keys of an object.
    keys: frozenset[str] = frozenset()
    #: Those of them with lists.
    lists: frozenset[str] = frozenset()
    #: Of a list of objects, the keys of the first one.
    first: frozenset[str] = frozenset()


class Folder:
    """The files of a folder and of all folders below it.

    Args:
        root: The folder.

    Attributes:
        root: The folder, absolute.
        files: All files, in order of their names; hidden ones are passed by.
        pictures: Those with an ending of pictures.

    Raises:
        NotADirectoryError: There is no such folder.
        PermissionError: A folder in it cannot be listed.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(root)))
        if not self.root.is_dir():
            raise NotADirectoryError(f'{root} is no folder: name the folder that holds the pictures and annotations.')
        self.files = sorted(_walk(self.root), key=os.fspath)
        self.pictures = [path for path in self.files if path.suffix.lower() in IMAGE_ENDINGS]
        self._outlines: dict[Path, Outline] = {}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            self._by_name[_plain(path.name)].append(path)
        # Accents are written in two ways: archives of macOS have letter and accent apart.
        self._by_path = {unicodedata.normalize('NFC', os.fspath(path)): path for path in self.files}
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.pictures:
            self._by_stem[_plain(path.stem)].append(path)

    def ending(self, *endings: str) -> list[Path]:
        """The files with one of these endings, in lower or upper case."""
        return [path for path in self.files if path.suffix.lower() in endings]

    def relative(self, path: Path) -> Path:
        """A path below the root; another path as it is."""
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path

    @functools.lru_cache(maxsize=4)  # noqa: B019 - a folder lives as long as its reading
    def load_json(self, path: Path) -> Any:
        """The content of a JSON file.

        Raises:
            ValueError: It is no JSON.
        """
        try:
            return json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{path} is no JSON: {error}') from None

    def outline(self, path: Path) -> Outline:
        """The outline of a JSON file, which is read for it once; an empty one where it is no JSON."""
        if path not in self._outlines:
            self._outlines[path] = Outline()
            with contextlib.suppress(ValueError, OSError):
                content = self.load_json(path)
                if isinstance(content, dict):
                    lists = frozenset(key for key, value in content.items() if isinstance(value, list))
                    self._outlines[path] = Outline(frozenset(content), lists)
                elif isinstance(content, list) and content and isinstance(content[0], dict):
                    self._outlines[path] = Outline(first=frozenset(content[0]))
        return self._outlines[path]

    def find(self, name: str, near: Path, split: str | None = None) -> Match | None:
        """Find the picture that an annotation names.

        Args:
            name: A path as it was written, perhaps on another machine or with backslashes.
            near: The folder of the annotation file.
            split: Which split the annotation belongs to, to choose among pictures of one name.

        Returns:
            The picture; ``None`` where there is none, or where several fit alike.
        """
        for base in (near, self.root):
            path = self.file(Path(os.path.normpath(base / name)))
            if path is not None:
                return Match(path, True)
        parts = _parts(name)
        if not parts:
            return None
        found = [(_common_tail(path, parts), path) for path in self._by_name[_plain(parts[-1])]]
        longest = max((tail for tail, _ in found), default=0)
        best = [path for tail, path in found if tail == longest]
        if len(best) > 1 and split:
            best = [path for path in best if split_of(self.relative(path).parts[:-1]) == split] or best
        best = _nearest(_parallel(best, near), near)
        return Match(best[0], longest == len(parts)) if len(best) == 1 else None

    def find_stem(self, stem: str, near: Path, split: str | None = None) -> Path | None:
        """Find the one picture of this name without ending, first among those of the same folder."""
        found = self._by_stem[_plain(stem)]
        beside = [path for path in found if path.parent == near]
        if len(found) > 1 and not beside and split:
            found = [path for path in found if split_of(self.relative(path).parts[:-1]) == split]
        found = beside or _nearest(_parallel(found, near), near)
        return found[0] if len(found) == 1 else None

    def file(self, path: Path) -> Path | None:
        """The file of this path, or one below the root that differs in how accents are written alone."""
        if os.path.isfile(path):
            return path
        return self._by_path.get(unicodedata.normalize('NFC', os.fspath(path)))

    def has_picture(self, stem: str) -> bool:
        """Whether any picture has this name without ending."""
        return _plain(stem) in self._by_stem

    def find_place(self, name: str) -> Path | None:
        """Find the folder of pictures, or the list of them, that a path of another machine means.

        Args:
            name: The path. Where a part of it tells a split, that part must be found too.

        Returns:
            The one whose last parts are most of the path's; ``None`` where there is none, or where several fit alike.
        """
        parts = _parts(name)
        least = next((count for count, part in enumerate(reversed(parts), start=1) if split_of([part])), 1)
        places = {above for folder in {path.parent for path in self.pictures} for above in (folder, *folder.parents)
                  if above.is_relative_to(self.root)}
        found = [(_common_tail(place, parts), place) for place in (*places, *self.ending('.txt'))]
        longest = max((tail for tail, _ in found), default=0)
        best = [place for tail, place in found if tail == longest >= least]
        return best[0] if len(best) == 1 else None


def _walk(root: Path) -> Iterator[Path]:
    """All files, through links too, each real folder once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != '.' and name not in _PASSED_BY)
        for name in names:
            path = Path(folder, name)
            # A picture whose link leads nowhere is said when it is read.
            if name[0] != '.' and (path.is_file() or (path.suffix.lower() in IMAGE_ENDINGS and path.is_symlink()
                                                      and not path.exists())):
                yield path


def _refuse(error: OSError) -> None:
    raise PermissionError(f'{error.filename} cannot be listed ({error.strerror}): make it readable, or name a folder '
                          'without it.') from None


def _plain(name: str) -> str:
    """A name as file systems that fold case and accents compare it."""
    return unicodedata.normalize('NFC', name).casefold()


def _parts(name: str) -> list[str]:
    """The parts of a path of any machine, without drive and dots."""
    path = PureWindowsPath(name.removeprefix('file://'))
    return [part for part in path.parts if part not in (path.anchor, '.', '..')]


def _parallel(found: list[Path], near: Path) -> list[Path]:
    """Of several files those whose folders are called as the annotation's: ``images/dog`` beside ``labels/dog``."""
    tails = [_common_tail(path.parent, near.parts) for path in found]
    most = max(tails, default=0)
    return [path for path, tail in zip(found, tails) if tail == most]


def _nearest(found: list[Path], near: Path) -> list[Path]:
    """Of several files those that share most of the outer folders with the annotation: two tasks number alike."""
    shared = [len(os.path.commonpath((path.parent, near))) for path in found]
    most = max(shared, default=0)
    return [path for path, length in zip(found, shared) if length == most]


def _common_tail(path: Path, parts: Sequence[str]) -> int:
    """How many of the last parts of a path are these, to the letter."""
    count = 0
    for mine, other in zip(reversed(path.parts), reversed(parts)):
        if unicodedata.normalize('NFC', mine) != unicodedata.normalize('NFC', other):
            break
        count += 1
    return count


def split_of(parts: Sequence[str]) -> str | None:
    """The split that the names of folders tell, such as ``train2017`` or ``train_images``; the innermost counts."""
    for part in reversed(parts):
        if found := _SPLIT_FOLDER.fullmatch(part.casefold()):
            return _SPLITS[found[1]]
    return None


def split_of_name(stem: str) -> str | None:
    """The split that the name of a file tells, such as ``instances_val2017``; nothing where it tells two."""
    found = {_SPLITS[word] for word in re.findall(r'[a-z]+', stem.casefold()) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: It is in another encoding.
    """
    try:
        return path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not in UTF-8 (byte {error.start}): save it in UTF-8.') from None
