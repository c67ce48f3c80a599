"""What stands beside a LongRunHook in a run: other checkpoint hooks, and hooks that exchange the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import Runner

from .resuming import STATE
from .whole_checkpoints import WholeCheckpointHook

if TYPE_CHECKING:
    from .long_run import LongRunHook

__all__ = ['CompanionHook', 'Exchange']


class CompanionHook(WholeCheckpointHook):
    """Another ``CheckpointHook`` of a run, whose checkpoints are whole and note what those of the first one do.

    Args:
        hook: The hook, whose settings it takes over.
        first: The one that keeps the run.
    """

    def __init__(self, hook: CheckpointHook, first: LongRunHook) -> None:
        super().__init__()
        self.__dict__.update(vars(hook))
        self._first = first

    def before_run(self, runner: Runner) -> None:
        """The first one chooses what is resumed, and restores it."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """See :meth:`before_run`."""

    def before_train(self, runner: Runner) -> None:
        CheckpointHook.before_train(self, runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._state:
            checkpoint[STATE] = dict(self._state)

    def state_of(self, runner: Runner) -> dict[str, Any]:
        return self._first.state_of(runner)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        if self._first.may_save(getattr(runner, 'real', runner), meta):
            super()._save_checkpoint_with_step(runner, step, meta)

    def _note_run(self, runner: Runner) -> None:
        self._first._note_run(runner)


class Exchange:
    """Whether the averaged weights of an ``EMAHook`` stand in the model's place: it counts the exchanges.

    Args:
        hook: The hook, which calls this from now on.
    """

    def __init__(self, hook: EMAHook) -> None:
        self._swap = hook._swap_ema_parameters
        self._is_on = False
        vars(hook)['_swap_ema_parameters'] = self

    def __call__(self) -> None:
        self._swap()
        self._is_on = not self._is_on

    def undo(self) -> None:
        """Let the model have its own weights."""
        if self._is_on:
            self()
