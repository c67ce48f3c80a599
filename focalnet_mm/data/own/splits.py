"""Training, validation and test pictures."""

from __future__ import annotations

import os

from .records import OwnData

__all__ = ['read_split', 'split_data', 'write_split']


def split_data(data: OwnData, val: float = 0.2, test: float = 0.0, seed: int = 0) -> None:
    """Give a split to what has none.

    Groups, told by folders or file names, and pictures that are equal or nearly so stay on one side. Each class gets
    its share of each split as far as that allows. Data without any split is split as a whole; of data with training
    pictures alone, validation pictures are split off; what has training and validation pictures is left alone.

    Args:
        data: The data; ``split`` and ``group`` of its pictures are set.
        val: Share of validation pictures, 0 to 1. At least one picture where it is above 0.
        test: Share of test pictures, the same.
        seed: The same seed gives the same split, whatever the order of the pictures.

    Raises:
        ValueError: A share is out of range, or there are too few pictures.
    """
    raise NotImplementedError


def write_split(data: OwnData, path: str | os.PathLike) -> None:
    """Write a CSV of ``picture,split,group``, which may be edited by hand; whole or not at all.

    Args:
        data: The data. Pictures are named relative to its root.
        path: Where to.

    Raises:
        FileExistsError: There is a file, with another split.
    """
    raise NotImplementedError


def read_split(data: OwnData, path: str | os.PathLike) -> None:
    """Take the splits of a CSV that :func:`write_split` wrote and somebody may have edited.

    Args:
        data: The data; ``split`` and ``group`` of its pictures are set. Pictures that the file does not name get
            none, and a problem says so.
        path: The file.

    Raises:
        ValueError: The file is no such CSV, names a picture that is not in the data, or a split that there is not.
    """
    raise NotImplementedError
