"""A folder that was made here, and what of it: a file in it lists the others, so that none of a user's is taken for
ours."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ['Made', 'changed_files', 'check_folder', 'check_no_source', 'files_below', 'read_marker', 'replace_made',
           'write_marker']

_FILES = 'files'
# What an interrupted replacement was between: the settings before and those after.
_UNFINISHED = 'unfinished'


class Made(NamedTuple):
    """What a folder's marker says."""

    #: What the folder was made with.
    settings: dict[str, Any]
    #: The files that were made, relative to the folder; ``None`` where no list of files below it is given.
    files: list[str] | None


def check_folder(folder: str | Path, force: bool) -> Path:
    """Check that nothing is in a folder that a tool writes to.

    Args:
        folder: The folder, which need not be there.
        force: Whether anything may be in it.

    Returns:
        Its path.

    Raises:
        FileExistsError: Something is, and may not.
    """
    folder = Path(folder)
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f'{folder} is not empty: name another folder, or add --force to replace files in it.')
    return folder


def check_no_source(target: str | Path, sources: Iterable[str | Path]) -> None:
    """Check that what a tool writes replaces nothing of what it reads, by whatever name.

    Args:
        target: The file or folder that is written.
        sources: Files and folders that are read; URLs may be among them.

    Raises:
        FileExistsError: The target is one of them.
    """
    for source in sources:
        if _is_same(target, source):
            raise FileExistsError(f'{target} is what is read here, and would be lost: give what is written another '
                                  'name.')


def _is_same(one: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    # One of them is not there.
    except (OSError, ValueError):
        return False


def read_marker(marker: Path) -> Made | None:
    """Read the marker of a folder.

    Args:
        marker: The file, which lies in the folder itself.

    Returns:
        What it says; ``None`` where there is none, or another file of this name.
    """
    try:
        found = json.loads(marker.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or 'version' not in found:
        return None
    files = found.pop(_FILES, None)
    return Made(found, files if _are_below(marker.parent, files) else None)


def write_marker(marker: Path, settings: Mapping[str, Any], files: Iterable[str]) -> None:
    """Write the marker of a folder, whole or not at all.

    Args:
        marker: The file.
        settings: What the folder is made with, ``version`` among it.
        files: The files that are made, relative to the folder.
    """
    partial = marker.with_name(f'.{marker.name}')
    partial.write_text(json.dumps({**settings, _FILES: sorted(files)}) + '\n', encoding='utf-8')
    partial.replace(marker)


def changed_files(folder: Path, made: Made, key: str, digest: Callable[[Path], str]) -> Iterator[str]:
    """The files of a folder that are others than were made; removed ones are not.

    Args:
        folder: The folder.
        made: What its marker says. After an interrupted replacement, each file may be as before or as after.
        key: Of the settings which give digests by file.
        digest: Of a file.

    Yields:
        Names relative to the folder.
    """
    known: dict[str, set[str]] = {}
    for settings in _settings(made):
        for name, value in (settings.get(key) or {}).items():
            known.setdefault(name, set()).add(value)
    for name, values in known.items():
        if (folder / name).is_file() and digest(folder / name) not in values:
            yield name


def _settings(made: Made | None) -> list[dict[str, Any]]:
    """What a folder was made with: of an interrupted replacement, all that it may be of."""
    if made is None:
        return []
    return made.settings[_UNFINISHED] if isinstance(made.settings.get(_UNFINISHED), list) else [made.settings]


def files_below(folder: Path) -> set[str]:
    """All files below a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if not path.is_dir()}


def replace_made(folder: Path, made: Path, marker: str) -> None:
    """Put what was made anew into a folder, in the place of what was made before; all else in it stays.

    Args:
        folder: The folder.
        made: Another one, with the new files and their marker; it is gone afterwards.
        marker: Name of the marker in both.

    Raises:
        FileExistsError: A new file would replace one that was not made before; nothing was changed.
    """
    before = read_marker(folder / marker)
    old = set(before.files or ()) if before else set()
    new = files_below(made) - {marker}
    foreign = sorted(name for name in new - old if os.path.lexists(folder / name))
    if foreign:
        raise FileExistsError(f'{folder / foreign[0]} is in the way and is not of what was made here before: move it '
                              'away, or choose another folder.')
    # After an interruption all that is there is known as ours, and as unfinished.
    unfinished = _settings(before) + _settings(read_marker(made / marker))
    write_marker(folder / marker, {'version': None, _UNFINISHED: unfinished}, old | new)
    above = {parent.as_posix() for name in new for parent in Path(name).parents}
    _remove(folder, old & above)
    # Each file is exchanged for its successor in one step, so that none is lost where this is interrupted.
    for name in sorted(new):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _exchange(made / name, folder / name)
    _remove(folder, old - new - above)
    _exchange(made / marker, folder / marker)
    shutil.rmtree(made)


def _exchange(source: Path, target: Path) -> None:
    """Move a file to where another may be, in one step, between file systems too."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f'.{target.name}.{os.getpid()}')
        shutil.copy2(source, partial)
        os.replace(partial, target)


def _remove(folder: Path, old: Iterable[str]) -> None:
    """Remove files below a folder, and the folders that are empty then."""
    for name in old:
        (folder / name).unlink(missing_ok=True)
    parents = {parent for name in old for parent in (folder / name).parents if folder in parent.parents}
    for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            parent.rmdir()


def _are_below(folder: Path, files: Any) -> bool:
    """Whether this is a list of files in a folder, none of which leads elsewhere."""
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        return False
    root = folder.resolve()
    for name in files:
        path = folder / name
        if path.name in ('', '..') or root not in (path.parent.resolve() / path.name).parents:
            return False
    return True
