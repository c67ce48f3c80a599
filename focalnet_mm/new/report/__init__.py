"""What is in one's own data, as a page that opens from disk and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...data.own.records import OwnData

__all__ = ['write_report']


def write_report(data: OwnData, folder: Path, tell: Callable[[str], None] = print) -> Path:
    """Write ``report.html`` and, beside it, ``report.json`` and the folder ``report`` with the pictures of the page.

    Args:
        data: The data set, with its splits and problems.
        folder: Where to write; made where it is missing. A report that is there is replaced.
        tell: Takes lines about the progress.

    Returns:
        The path of the page.

    Raises:
        OSError: The folder cannot be written to.
    """
    raise NotImplementedError
