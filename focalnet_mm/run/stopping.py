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
            # A pool waits until SIGTERM has ended its processes.
            if number == signals.SIGTERM:
                signals.signal(number, signals.SIG_DFL)
                signals.raise_signal(number)
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

    def restore() -> None:
        for number in list(before):
            signals.signal(number, before.pop(number))

    try:
        yield stop
    finally:
        restore()


def _is_run(code: CodeType, frame: FrameType | None) -> bool:
    """Whether a frame is of some code, or of what it calls."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None
