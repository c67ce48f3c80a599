"""Ctrl-C, SIGTERM and other signals as a wish to stop after what is being done."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

__all__ = ['Stop', 'stop_on_signals']

# Of each context, what the signals did before that it handles.
_handled: list[dict[int, Any]] = []
_masks = threading.local()


def _before_fork() -> None:
    """Hold SIGTERM back: Python forgets what comes to a child before it knows that it is one.

    A pool that is over sends it to children that may have just begun, and waits until they have ended.
    """
    held = {signals.SIGTERM} if any(signals.SIGTERM in each for each in _handled) else set()
    _masks.before = signals.pthread_sigmask(signals.SIG_BLOCK, held)


def _in_parent() -> None:
    signals.pthread_sigmask(signals.SIG_SETMASK, _masks.before)


def _in_child() -> None:
    if any(signals.SIGTERM in each for each in _handled):
        signals.signal(signals.SIGTERM, signals.SIG_DFL)
    signals.pthread_sigmask(signals.SIG_SETMASK, _masks.before)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


class Stop:
    """Whether somebody wishes that work stops."""

    #: The signal that said so.
    signal: signals.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that stopped for it, as shells give it."""
        return 128 + self.signal if self.signal else 0


@contextlib.contextmanager
def stop_on_signals(numbers: Sequence[int] = (signals.SIGINT, signals.SIGTERM),
                    patient: bool = False, within: Callable[..., Any] | None = None) -> Iterator[Stop]:
    """Take signals as a wish to stop, the second one as ``KeyboardInterrupt`` at once.

    Args:
        numbers: The signals. Those that the process ignores, as ``nohup`` wants SIGHUP, it goes on to ignore.
        patient: Whether only a second SIGINT, which a person sends, ends at once: batch systems send several signals
            one after the other.
        within: The function that does the work. Where it has ended without the context, as with an error that a
            notebook caught, signals do what they did before.

    Returns:
        A context that gives what to ask between two steps of the work. In other threads than the main one it is never
        true, since Python hands signals to the main one. Forked children, such as workers of a data loader, leave it to
        their parent what becomes of signals, but for SIGTERM.
    """
    stop, owner = Stop(), os.getpid()

    code = getattr(within, '__code__', None)

    def wish(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        if code is not None and not _is_run(code, frame):
            restore()
            signals.raise_signal(number)
            return
        if stop and (number == signals.SIGINT or not patient):
            raise KeyboardInterrupt
        stop.signal = signals.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # `None` is a handler that Python did not set, and cannot set again.
    before = {number: signals.signal(number, wish) for number in numbers
              if signals.getsignal(number) not in (signals.SIG_IGN, None)}

    _handled.append(before)

    def restore() -> None:
        for number in list(before):
            signals.signal(number, before.pop(number))
        if before in _handled:
            _handled.remove(before)

    try:
        yield stop
    finally:
        restore()


def _is_run(code: CodeType, frame: FrameType | None) -> bool:
    """Whether a frame is of some code, or of what it calls."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None
