"""The size of files and functions; import-linter has the floors, in `make lint`."""

import ast

import pytest

from tests.helpers.tools import ROOT

FILES = sorted(path for folder in ('focalnet_mm', 'tools', 'tests') for path in (ROOT / folder).rglob('*.py')
               if '.mim' not in path.parts)
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_long(path):
    source = path.read_text()
    assert len(source.splitlines()) <= MOST_LINES
    long = {node.name: node.end_lineno - node.lineno + 1 for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION}
    assert not long
