"""Progress bars for long work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich import get_console
from rich.progress import Progress

__all__ = ['track']

_T = TypeVar('_T')
# Fewer items are done before a bar is seen.
_MANY = 200


def track(items: Iterable[_T], what: str, total: int | None = None) -> Iterator[_T]:
    """Go through items, many of them under a progress bar, which is gone afterwards.

    Args:
        items: What to go through.
        what: What is being done.
        total: How many items there are, where they do not tell.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    few = total is not None and total < _MANY
    with Progress(transient=True, disable=few or not get_console().is_terminal) as progress:
        yield from progress.track(items, total=total, description=what)
