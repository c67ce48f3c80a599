"""Lets mkdocstrings read the package's docstrings: Sphinx's roles and links, and the comments above attributes."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r':(?:class|func|meth|data|mod|attr):`(~?)([\w.]+)`')
_LINK = re.compile(r'`([^`<]+) <([^>`]+)>`_+')
# The colon of a sentence in a section without types is not that of a type.
_SENTENCE = re.compile(r'^((?:Returns|Yields):\n\s+)(?=[^\n]*:)', re.M)
_COMMENT = '#: '


class Roles(griffe.Extension):
    """Turns what Sphinx would read into what Markdown reads."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        if obj.is_attribute and not obj.docstring and (text := _comment_above(obj)):
            obj.docstring = griffe.Docstring(text, parent=obj, lineno=obj.lineno)
        if obj.docstring:
            text = _ROLE.sub(lambda match: _reference(match, obj), obj.docstring.value)
            text = _LINK.sub(r'[\1](\2)', text)
            text = _SENTENCE.sub(r'\1: ', text)
            # The heading that griffe knows.
            obj.docstring.value = re.sub(r'^Example:$', 'Examples:', text, flags=re.M)


def _reference(match: re.Match[str], obj: griffe.Object) -> str:
    """A link to what a role names, where the API page has it."""
    short, target = match.groups()
    title = target.rsplit('.', 1)[-1] if short else target
    identifier = target if '.' in target else f'{obj.module.path}.{target}'
    return f'<autoref identifier="{identifier}" optional><code>{title}</code></autoref>'


def _comment_above(obj: griffe.Object) -> str:
    lines = obj.lines_collection[obj.filepath][:obj.lineno - 1] if obj.lineno else []
    found: list[str] = []
    while lines and lines[-1].strip().startswith(_COMMENT):
        found.insert(0, lines.pop().strip().removeprefix(_COMMENT))
    return ' '.join(found)
