"""From a folder to :class:`OwnData`: which form it is in, and the reader of that form."""

from __future__ import annotations

import os
from collections.abc import Callable

from .records import OwnData

__all__ = ['FORMATS', 'find_formats', 'read_data']

#: The forms that are read, by name.
FORMATS = ('coco', 'voc', 'yolo', 'labelme', 'cvat', 'labelstudio', 'labelmaps', 'folders', 'csv')


def find_formats(root: str | os.PathLike) -> list[str]:
    """Which of :data:`FORMATS` a folder looks like.

    Args:
        root: The folder.

    Returns:
        Their names; none where it looks like nothing that is known.

    Raises:
        NotADirectoryError: There is no such folder.
    """
    raise NotImplementedError


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
    raise NotImplementedError
