"""The size of files and functions; import-linter has the floors, in `make lint`."""

import ast

import pytest
import yaml

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


def test_the_ci_runs_the_sessions_of_nox():
    tree = ast.parse((ROOT / 'noxfile.py').read_text())
    sessions = next(node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
                    and node.targets[0].id == 'SESSIONS')
    settings = {key.value: {word.arg: word.value.value for word in value.keywords}
                for key, value in zip(sessions.keys, sessions.values)}
    jobs = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ci.yml').read_text())['jobs']
    rows = jobs['test']['strategy']['matrix']['include']
    assert {row['session']: f'python{row["python"]}' for row in rows} == {
        name: given['PYTHON'] for name, given in settings.items()}
    for given in settings.values():
        assert (ROOT / 'requirements' / f'{given.get("TORCH", "torch")}.txt').is_file()
        assert given.keys() <= {'PYTHON', 'TORCH', 'FAMILY', 'WITHOUT'}
