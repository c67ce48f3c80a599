"""Arguments that several commands share, and how a command fails."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..installed import MISSING, OURS

if TYPE_CHECKING:
    from mmengine.config import Config

__all__ = ['Parser', 'add_cfg_options', 'add_checkpoint', 'add_config', 'add_force', 'add_launcher', 'as_worker',
           'finish', 'in_one_sentence', 'nobody_reads', 'say', 'settle_rank']


class Parser(argparse.ArgumentParser):
    """The parser of a command, with what all commands take."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        #: Whether a command that fails shows where.
        self.shows_traceback = False

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse the arguments of a command, those of all commands last."""
        self.add_argument('--traceback', action='store_true', help='show where an error comes from')
        args = self.parse_args(argv)
        self.shows_traceback = args.traceback
        return args


class _KeyValues(argparse.Action):
    """mmengine's action, which ends in a traceback where there is no ``=``."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        if MISSING:
            parser.error(f'{option_string} is about a config, which needs {" and ".join(MISSING)}')
        from mmengine.config import DictAction
        for value in values:
            if '=' not in value or value.startswith('='):
                parser.error(f'{option_string} {value}: expected KEY=VALUE')
        DictAction(self.option_strings, self.dest, nargs='+')(parser, namespace, values, option_string or '')


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the positional ``config``."""
    parser.add_argument('config', help='path of the config')


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the positional ``checkpoint``."""
    parser.add_argument('checkpoint', help='checkpoint of any layout: path, URL or hf://owner/name')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, for :func:`focalnet_mm.run.config.load_config`."""
    parser.add_argument('--cfg-options', nargs='+', action=_KeyValues, metavar='KEY=VALUE',
                        help='override settings of the config; data_root=DIR moves all data sets')


def add_force(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add ``--force``."""
    parser.add_argument('--force', action='store_true', help=meaning)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add what starting in several processes needs, see :func:`settle_rank`."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='job launcher')
    # Older launchers pass the rank as an argument, torchrun in the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def settle_rank(args: argparse.Namespace) -> None:
    """Put the rank of this process where mmengine looks for it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise SystemExit('--launcher pytorch is for processes that torchrun starts: torchrun --nproc-per-node=GPUS '
                         f'{sys.argv[0]} … --launcher pytorch.')


@contextlib.contextmanager
def as_worker(parser: Parser) -> Iterator[None]:
    """Run in a process that a command of ours started, which tells the last line and logs or shows the others."""
    parser.shows_traceback = True
    with in_one_sentence(parser, (Exception,)):
        yield


@contextlib.contextmanager
def in_one_sentence(parser: argparse.ArgumentParser,
                    errors: tuple[type[Exception], ...] = OURS,
                    cfg: Config | None = None, has_started: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """End with a sentence in place of a traceback, which ``--traceback`` shows before it.

    Args:
        parser: The command's.
        errors: What is told so, and ``Exception`` for what libraries raise too, with the kind of error before it; by
            default what the package raises of wrong arguments, files and data.
        cfg: The config that is at work, whose keys are named.
        has_started: Whether what follows the preparations runs: from then on only what tells itself, as a missing
            file does, is told so, since all else is a fault of the code.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except errors as error:
        if not MISSING:
            from ..run.failures import explain_failure, tells_itself
            if has_started() and not tells_itself(error):
                if _rank():
                    # Those of several processes are hard to tell apart.
                    print(f'{parser.prog}{_rank()}: {explain_failure(error, cfg)}', file=sys.stderr, flush=True)
                raise
        if getattr(parser, 'shows_traceback', False):
            traceback.print_exc()
        ours = OURS if Exception in errors else errors
        # Configs and data sets, which failures are explained by, come with the libraries.
        words = str(error) if MISSING else explain_failure(error, cfg, ours)
        raise SystemExit(f'{parser.prog}{_rank()}: {words}') from None


def _rank() -> str:
    """Which of several processes this is."""
    count = os.environ.get('WORLD_SIZE', '1')
    return f', rank {os.environ.get("RANK", "?")} of {count}' if count.isdigit() and int(count) > 1 else ''


def nobody_reads() -> bool:
    """Whether what read our output has closed it, as ``head`` does when it has enough."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return sys.stdout is None


def say(text: str) -> None:
    """Print a line about the progress of work that goes on whether somebody reads it or not."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _write_nowhere()


def finish(parser: argparse.ArgumentParser) -> None:
    """Write out what was printed, and say where that fails; Python would print a traceback at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere()
        raise SystemExit(1) from None
    except OSError as error:
        _write_nowhere()
        raise SystemExit(f'{parser.prog}: what was printed could not be written: {error}') from None


def _write_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
