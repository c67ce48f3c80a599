"""What a training writes beside its checkpoints, on a disk that may be full."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from mmengine.runner import Runner

__all__ = ['keep_writing']

_DRAWING = ('add_scalar', 'add_scalars', 'add_image', 'close')


def keep_writing(runner: Runner) -> None:
    """Let a training go on where its log, values and pictures cannot be written, which is told once for each.

    Args:
        runner: The runner, whose visualizer and log files are changed in place.
    """
    for name in _DRAWING:
        setattr(runner.visualizer, name, _going_on(getattr(runner.visualizer, name), name, runner))
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # Python prints a traceback for each line otherwise.
            setattr(handler, 'handleError', _Once(runner, handler.baseFilename))  # noqa: B010


class _Once:
    """Tells a failure once."""

    def __init__(self, runner: Runner, what: str) -> None:
        self._runner, self._what, self._told = runner, what, False

    def __call__(self, *_: Any) -> None:
        error = sys.exc_info()[1]
        if not self._told:
            self._told = True
            self._runner.logger.error(f'{self._what} could not be written: {error}. The training goes on.')


def _going_on(function: Callable[..., Any], name: str, runner: Runner) -> Callable[..., Any]:
    """The function, where a disk that is full ends nothing."""
    tell = _Once(runner, f'Values or pictures ({name})')

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except OSError:
            tell()

    return call
