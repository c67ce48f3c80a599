"""What is suspicious in somebody's data, and what can be mended."""

from __future__ import annotations

from collections.abc import Iterable

from .records import OwnData

__all__ = ['KINDS', 'find_problems', 'fix_data']

#: Kinds of problems: what each is, and whether :func:`fix_data` leaves out, mends or can do nothing about it.
KINDS: dict[str, tuple[str, str]] = {}


def find_problems(data: OwnData) -> None:
    """Look for everything suspicious, with a progress bar, and append it to ``data.problems``.

    Pictures are decoded once, on all cores. What an earlier call found is not repeated.

    Args:
        data: The data; nothing but its problems is changed.
    """
    raise NotImplementedError


def fix_data(data: OwnData, kinds: Iterable[str]) -> None:
    """Leave out or mend what has the named kinds of problems, in ``data`` alone, never in files.

    Args:
        data: The data, in which :func:`find_problems` has looked; ``done`` of each problem says what became of it.
        kinds: Of :data:`KINDS`; or ``'all'`` alone.

    Raises:
        ValueError: There is no such kind, or nothing can be done about it.
    """
    raise NotImplementedError
