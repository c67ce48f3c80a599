"""Renaming by tables of beginnings of names."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ['BLOCK', 'Table', 'backward', 'rename', 'shorten', 'uncompiled']

# Beginnings of names: (ours, theirs); of several that fit a name the first holds, the rest of the name stays.
# {next} is {stage} + 1.
Table = Iterable[tuple[str, str]]
_COMPILED = re.compile(r'(^|\.)_orig_mod\.')
#: What the official names of a block's tensors begin with.
BLOCK = 'layers.{stage}.blocks.{block}.'


def backward(table: Table) -> list[tuple[str, str]]:
    """The table of the way back."""
    return [(theirs, ours) for ours, theirs in table]


def rename(name: str, table: Table) -> str:
    """A name by a table; one that the table does not have stays."""
    for old, new in table:
        pattern = re.sub(r'\\{(\w+)\\}', r'(?P<\1>\\d+)', re.escape(old))
        if match := re.match(pattern, name):
            numbers = {key: int(value) for key, value in match.groupdict().items()}
            if 'next' in numbers:
                numbers['stage'] = numbers['next'] - 1
            elif 'stage' in numbers:
                numbers['next'] = numbers['stage'] + 1
            return new.format(**numbers) + name[match.end():]
    return name


def uncompiled(name: str) -> str:
    """A name without what torch.compile puts before those of a module that it compiles, a model or a block of it."""
    return _COMPILED.sub(r'\1', name)


def shorten(names: Iterable[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    return ', '.join(names[:most]) + (f', … {len(names) - most} more' if len(names) > most else '')
