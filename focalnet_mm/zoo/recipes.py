"""Where the configs differ from the published recipes, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

__all__ = ['Deviation', 'deviations_table', 'read_deviations']


@dataclass(frozen=True)
class Deviation:
    """Something in which configs differ from their recipes on purpose.

    Attributes:
        configs: Patterns of their names below ``configs/``, without ending, with * and ?.
        fields: Field → (published value, value of the configs). ``'absent'`` is a key that is not there.
        reason: Why.
    """

    configs: tuple[str, ...]
    fields: Mapping[str, tuple[Any, Any]]
    reason: str

    def holds_for(self, name: str) -> bool:
        """Whether a config is one of those."""
        return any(fnmatchcase(name, pattern) for pattern in self.configs)


def read_deviations(root: str | Path) -> list[Deviation]:
    """Read ``configs/deviations.yml``.

    Args:
        root: The folder that holds ``configs``.

    Returns:
        All deviations, in the order of the file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    file = Path(root) / 'configs' / 'deviations.yml'
    return [Deviation(tuple(one['configs']), {field: (values[0], values[1]) for field, values in one['fields'].items()},
                      one['reason'].strip()) for one in yaml.safe_load(file.read_text(encoding='utf-8'))]


def deviations_table(deviations: Iterable[Deviation]) -> str:
    """The deviations in Markdown.

    Args:
        deviations: The deviations.

    Returns:
        The table, ending in a newline.
    """
    lines = ['| configs | field: published → ours | why |', '| --- | --- | --- |']
    for one in deviations:
        configs = '<br>'.join(f'`{pattern}`' for pattern in one.configs)
        fields = '<br>'.join(f'`{field}`: {_shown(field, theirs)} → {_shown(field, ours)}'
                             for field, (theirs, ours) in one.fields.items())
        lines.append(f'| {configs} | {fields} | {one.reason} |')
    return '\n'.join(lines) + '\n'


def _shown(field: str, value: Any) -> str:
    if value is None and not field.startswith('config.'):
        return 'not stated'
    return value if isinstance(value, str) else json.dumps(value)
