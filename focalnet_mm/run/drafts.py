"""Files that are written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ['remove_drafts', 'whole_file', 'write_whole']


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file beside its place, and put it there once it is on the disk.

    Args:
        path: The file, whose folder exists. What is there stays until the new one is whole.

    Returns:
        A context that gives the path to write to. Where what happens within it fails, nothing is left of it.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    draft = path.with_name(_draft_of(path.name))
    try:
        yield draft
        _flush(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    # Not every file system knows folders that are flushed.
    with contextlib.suppress(OSError):
        _flush(path.parent)


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole or not at all, see :func:`whole_file`."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding='utf-8')


def remove_drafts(folder: str | os.PathLike) -> None:
    """Remove what processes that were killed have left of files that :func:`whole_file` was to write in a folder."""
    for draft in Path(folder).glob(_draft_of('*')):
        draft.unlink(missing_ok=True)


def _draft_of(name: str) -> str:
    return f'.{name}.focalnet-draft'


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    # Windows does so for those that may write a file alone.
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
