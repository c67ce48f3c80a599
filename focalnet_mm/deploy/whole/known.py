"""What of a model is known, so that its predictions can be written anew."""

from __future__ import annotations

from typing import Any

from ..part import known_class

__all__ = ['check_known', 'check_most']


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


def check_most(most: int, queries: int, classes: int, where: str) -> None:
    """Check that there are as many pairs of query and class as a test config asks for.

    Args:
        most: How many it asks for.
        queries: How many queries, or proposals, an image has.
        classes: How many classes there are.
        where: What the number is called in the config.

    Raises:
        ValueError: There are not.
    """
    if not 0 <= most <= queries * classes:
        raise ValueError(f'{where} is {most}, but {queries} queries and {classes} classes make {queries * classes} '
                         'objects an image, and prediction would end in an error too: set it by --cfg-options.')
