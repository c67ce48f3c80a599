"""``focalnet-mm COMMAND``: each command parses its arguments and calls the package, as ``tools/*.py`` do."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..installed import MISSING, MissingExtraError, needs_missing
from .options import Parser, finish, nobody_reads

__all__ = ['COMMANDS', 'main', 'run']

#: Word of the command line → module here, or the words that may follow.
COMMANDS: dict[str, str | dict[str, str]] = {
    'new': 'new',
    'check': 'check',
    'train': 'train',
    'test': 'test',
    'predict': 'predict',
    'explain': 'explain',
    'export': 'export',
    'convert': 'convert',
    'publish': 'publish',
    'config': 'config',
    'shapes': 'shapes',
    'zoo': {'sizes': 'zoo_sizes', 'evaluate': 'zoo_evaluate', 'shapes': 'zoo_shapes',
            'exports': 'zoo_exports'},
    'benchmark': 'benchmark',
    'grid': 'grid',
}

_DEPRECATED = 'pkg_resources is deprecated as an API'


def main(argv: Sequence[str] | None = None) -> None:
    """Run what a command line says.

    Args:
        argv: The words after ``focalnet-mm``; by default those that the process was started with.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    commands: str | dict[str, str] | dict[str, str | dict[str, str]] = COMMANDS
    prog = 'focalnet-mm'
    while isinstance(commands, dict):
        word, *rest = words or ['--help']
        if word not in commands:
            _top_parser(prog, commands).parse_args([word])
        prog, commands, words = f'{prog} {word}', commands[word], rest
    run(commands, words, prog)


def run(module: str, argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Run one command.

    Args:
        module: Its module here.
        argv: Its arguments; by default those that the process was started with.
        prog: What it calls itself in messages; by default the file that the process was started with.
    """
    hide_deprecation()
    try:
        command = importlib.import_module(f'.{module}', __name__)
    except MissingExtraError as error:
        raise SystemExit(f'{prog}: error: {error}') from None
    except ModuleNotFoundError as error:
        if error.name not in MISSING:
            raise
        raise SystemExit(f'{prog} {needs_missing()}; without, predict runs exported files.') from None
    parser = Parser(prog=prog, description=command.__doc__)
    command.add_arguments(parser)
    args = parser.parse(argv)
    try:
        command.main(args, parser)
    except BrokenPipeError:
        # One of a logger's connection or a worker's pipe is a failure like any other.
        if not nobody_reads():
            raise
        raise SystemExit(1) from None
    finish(parser)


def hide_deprecation() -> None:
    """Hide, here and in processes that are started, that mmengine uses what setuptools takes away: it says so for
    each config that it reads, and no user can do anything about it."""
    warnings.filterwarnings('ignore', message=_DEPRECATED)
    given, option = os.environ.get('PYTHONWARNINGS', ''), f'ignore:{_DEPRECATED}'
    if option not in given.split(','):
        os.environ['PYTHONWARNINGS'] = ','.join(filter(None, (given, option)))


def _top_parser(prog: str, commands: Mapping[str, str | dict[str, str]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description='Focal Modulation Networks for OpenMMLab.',
                                     epilog=f'{prog} COMMAND --help tells the arguments of a command.')
    parser.add_argument('--version', action='version', version=f'focalnet-mm {__version__}')
    subparsers = parser.add_subparsers(metavar='COMMAND', required=True)
    for word, module in commands.items():
        subparsers.add_parser(word, help=_summary(module))
    return parser


def _summary(module: str | dict[str, str]) -> str:
    """The first line of a command's docstring, read without importing what the command needs."""
    if isinstance(module, dict):
        return f'The model zoo: {", ".join(module)}.'
    source = Path(__file__).with_name(f'{module}.py').read_text(encoding='utf-8')
    return (ast.get_docstring(ast.parse(source)) or '').splitlines()[0]
