"""What of a model is known, so that its predictions can be written anew."""

from __future__ import annotations

from typing import Any

from ..part import known_class

__all__ = ['check_known']


def check_known(*parts: tuple[Any, str]) -> None:
    """Check that parts of a model are what the inference for export is written for.

    Args:
        parts: Each with the name of the library's class that it has to be.

    Raises:
        ValueError: One of them is of another class, or has a method of its own.
    """
    for part, name in parts:
        if not known_class(part, name):
            found = type(part).__name__
            what = f'is no {name}' if found != name else 'has methods of its own'
            raise ValueError(f'The {found} of this model {what}, so that it is not known what it predicts: export '
                             '--part features.')
