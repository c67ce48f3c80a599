"""Progress bars for long work: rich's, or lines in their place where rich is not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, TypeVar

__all__ = ['described', 'progress_bar', 'track']

_T = TypeVar('_T')
# Fewer items are done before a bar is seen.
_MANY = 200


class _Lines:
    """As much of rich's ``Progress`` as predictions use: a line for each input."""

    def __init__(self) -> None:
        self.console = self
        self._tasks: dict[int, list[int | None]] = {}

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 where: TracebackType | None) -> None:
        return None

    def print(self, text: str, **_: Any) -> None:
        print(text, file=sys.stderr, flush=True)

    def add_task(self, description: str, total: int | None = None) -> int:
        task = len(self._tasks)
        self._tasks[task] = [0, total]
        return task

    def update(self, task: int, description: str) -> None:
        done, total = self._tasks[task]
        self.print(f'{(done or 0) + 1}/{total} {description}')

    def advance(self, task: int) -> None:
        self._tasks[task][0] = (self._tasks[task][0] or 0) + 1

    def remove_task(self, task: int) -> None:
        self._tasks[task] = [0, None]


def described(text: str) -> str:
    """Text as the description of a task, where rich would take brackets for instructions."""
    if importlib.util.find_spec('rich') is None:
        return text
    from rich.markup import escape
    return escape(text)


def progress_bar() -> Any:
    """A progress bar on stderr, rich's own if it is there."""
    if importlib.util.find_spec('rich') is None:
        return _Lines()
    from rich.console import Console
    from rich.progress import Progress
    return Progress(console=Console(stderr=True))


def track(items: Iterable[_T], what: str, total: int | None = None) -> Iterator[_T]:
    """Go through items, many of them under a progress bar, which is gone afterwards; it needs rich.

    Args:
        items: What to go through.
        what: What is being done.
        total: How many items there are, where they do not tell.
    """
    from rich import get_console
    from rich.progress import Progress
    if total is None and isinstance(items, Sized):
        total = len(items)
    few = total is not None and total < _MANY
    with Progress(transient=True, disable=few or not get_console().is_terminal) as progress:
        yield from progress.track(items, total=total, description=what)
