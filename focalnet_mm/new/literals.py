"""Values as the text of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ['Code', 'assignment', 'literal']

_WIDTH = 120


class Code(str):
    """An expression, which stands in a config as it is."""


def assignment(name: str, value: Any, why: str = '') -> str:
    """A line, or several, that give a name a value.

    Args:
        name: The name.
        value: What :func:`literal` takes.
        why: A comment: behind the value where both fit into a line, else above it.
    """
    text = f'{name} = {literal(value, len(name) + 3)}'
    if not why:
        return text
    if '\n' not in text and len(text) + len(why) + 4 <= _WIDTH:
        return f'{text}  # {why}'
    return f'# {why[0].upper()}{why[1:]}.\n{text}'


def literal(value: Any, column: int = 0, indent: int = 0) -> str:
    """A value as Python code of at most 120 columns, as far as its parts allow.

    Args:
        value: Of dicts, lists, tuples, strings, numbers, booleans, ``None`` and :class:`Code`.
        column: Where it starts, and what stands behind it.
        indent: Of the line that it starts in.
    """
    flat = _flat(value)
    if column + len(flat) <= _WIDTH or isinstance(value, str) or not isinstance(value, (Mapping, Sequence)):
        return flat
    inner = indent + 4
    if isinstance(value, Mapping):
        named = _is_named(value)
        heads = [f'{key}=' if named else f'{key!r}: ' for key in value]
        parts = [head + literal(each, inner + len(head) + 2, inner) for head, each in zip(heads, value.values())]
        return _stacked('dict(' if named else '{', parts, ')' if named else '}', indent)
    opening, closing = '()' if isinstance(value, tuple) else '[]'
    if any(isinstance(each, Mapping) for each in value):
        return _stacked(opening, [literal(each, inner + 1, inner) for each in value], closing, indent)
    return _stacked(opening, _filled([_flat(each) for each in value], _WIDTH - inner), closing, indent)


def _flat(value: Any) -> str:
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, Mapping):
        if _is_named(value):
            return f'dict({", ".join(f"{key}={_flat(each)}" for key, each in value.items())})'
        return f'{{{", ".join(f"{key!r}: {_flat(each)}" for key, each in value.items())}}}'
    if isinstance(value, tuple):
        return f'({", ".join(map(_flat, value))}{"," if len(value) == 1 else ""})'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    # mmengine puts values of its own in the place of what stands in double braces.
    return repr(value).replace('{{', '{\\x7b') if isinstance(value, str) else repr(value)


def _is_named(value: Mapping) -> bool:
    return all(isinstance(key, str) and key.isidentifier() for key in value)


def _stacked(opening: str, parts: Sequence[str], closing: str, indent: int) -> str:
    space = ' ' * (indent + 4)
    # What was filled into lines has its comma.
    lines = [f'{space}{part}' if part.endswith(',') else f'{space}{part},' for part in parts]
    return '\n'.join([opening, *lines, ' ' * indent + closing])


def _filled(parts: Sequence[str], width: int) -> list[str]:
    """Short values, as many on a line as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 2 <= width:
            lines[-1] += f' {part},'
        else:
            lines.append(f'{part},')
    return lines
