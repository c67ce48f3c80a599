"""Training runs that survive whatever happens to their process."""

from __future__ import annotations

import contextlib
import functools
import math
import signal as signals
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.dist import all_reduce, barrier, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from .attributes import plain_attributes, set_attributes
from .batches import EndlessBatches, SeededBatches, begin_anew, seed_batches
from .build import unwrap
from .companions import CompanionHook, Exchange
from .damaged import tell_damaged
from .diverging import DivergedError, FiniteLosses, nonfinite_parameters
from .randomness import random_states, seed_everything, set_random_states
from .resuming import last_checkpoint
from .states import collect_state, restore_gradients, restore_random, restore_stopping, set_sampler_seed
from .stopping import Stop, stop_on_signals
from .whole_checkpoints import WholeCheckpointHook
from .writing import keep_writing

__all__ = ['LongRunHook', 'keep_long_runs']

# Several processes agree about stopping at every how many steps.
_AGREE = 10
_SIGNALS = ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1')
_STOPPED = 'stopped_iter_{}.pth'


@HOOKS.register_module()
class LongRunHook(WholeCheckpointHook):
    """mmengine's ``CheckpointHook`` for runs that are killed, stopped and resumed.

    ``default_hooks = dict(checkpoint=dict(type='LongRunHook'))`` in a config is enough; ``focalnet-mm train`` takes it
    by itself. All settings of ``CheckpointHook`` remain and mean the same. Beside what :class:`WholeCheckpointHook`
    does:

    - A resumed run equals the one without a break: random states, the place in the data, pending gradients, what the
      model counts beside its tensors, and a validation that was due are restored. For that the augmentation of each
      item depends on the seed, the process and the step alone where the data loader has workers. Each process draws
      other random numbers.
    - Signals end the run after the step, with a checkpoint and the status 128 + the signal; a second SIGINT ends it at
      once.
    - A loss that stays NaN or infinite ends the run, and such weights never become a checkpoint.
    - A damaged picture is told by its path.
    - Other ``CheckpointHook`` of the run write their checkpoints so too.

    Args:
        max_nonfinite (int): After how many steps in a row whose loss is no finite number the run ends. Defaults to 5.
        stop_signals (Sequence[str]): Names of the signals that end the run after a step.
        **settings: Those of :class:`WholeCheckpointHook`.

    Raises:
        ValueError: No signal has such a name.
        DivergedError: The loss stayed NaN or infinite, or parameters became so.
        DamagedPictureError: A picture cannot be read, and the config sets no ``max_refetch``.
    """

    def __init__(self, *args: Any, max_nonfinite: int = 5,
                 stop_signals: Sequence[str] = _SIGNALS, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._signals = _known(stop_signals)
        self._losses = FiniteLosses(max_nonfinite)
        self._batches: SeededBatches | None = None
        # The random states with which a resumed run goes on, and those before a validation.
        self._start: dict[str, Any] | None = None
        self._before_val: dict[str, Any] | None = None
        self._over, self._validated = 0, False
        self._metrics: Mapping[str, Any] = {}
        # Whether augmentation depends on the step, and whether a validation leaves the random states alone.
        self._seeded = self._neutral = False
        self._saved_after = -1
        # How many steps of a validation all processes take.
        self._together = 0
        # Parameters that were no finite numbers before the first step.
        self._odd = frozenset[str]()
        self._stop, self._handlers = Stop(), contextlib.ExitStack()
        self._exchanges: list[Exchange] = []
        # Those of the model before the training.
        self._attributes: dict[str, Any] | None = None

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        # Behind this one, whatever their priority: what hooks before it change in a step belongs to the step.
        for hook in [hook for hook in runner.hooks if type(hook) in (CheckpointHook, LongRunHook) and hook is not self]:
            runner.hooks.remove(hook)
            runner.hooks.insert(runner.hooks.index(self) + 1, CompanionHook(hook, self))
        self._exchanges = self._exchanges or [Exchange(hook) for hook in runner.hooks if isinstance(hook, EMAHook)]

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        loop = runner.train_loop
        self._odd = frozenset(nonfinite_parameters(unwrap(runner.model)))
        self._attributes = plain_attributes(unwrap(runner.model))
        for split, each in (('train', loop), ('val', runner.val_loop)):
            tell_damaged(getattr(getattr(each, 'dataloader', None), 'dataset', None), f'{split}_dataloader.dataset',
                         runner.cfg)
        keep_writing(runner)
        self._handlers.close()
        self._stop = self._handlers.enter_context(stop_on_signals(self._signals, patient=True, within=type(loop).run))
        self._seeded = getattr(getattr(loop, 'dataloader', None), 'num_workers', 0) > 0
        # Workers that stay draw a number when they start, and a resumed run starts them anew.
        self._neutral = self._seeded or getattr(getattr(runner.val_loop, 'dataloader', None), 'persistent_workers',
                                                False)
        state = self._resumed
        if state is None:
            if runner.rank:
                seed_everything(runner.seed, runner.rank)
            return
        self._saved_after = runner.iter
        if not state.get('random'):
            runner.logger.warning('The checkpoint holds no random states: the run goes on with other random numbers '
                                  'than it would have had.')
            return
        self._over, self._validated, self._metrics = state['over'], state['validated'], state.get('metrics') or {}
        restore_stopping(runner, state)
        restore_gradients(runner, state)
        set_sampler_seed(runner, state)
        restore_random(runner, state)
        set_attributes(unwrap(runner.model), state.get('attributes') or {})
        if not self._validated and self._is_due(runner):
            runner.logger.info('The run ended in or before a validation, which is made up for.')
            runner.val_loop.run()
        self._start = random_states()

    def before_train_epoch(self, runner: Runner) -> None:
        loop, state, self._resumed = runner.train_loop, self._resumed, None
        if self._batches is None:
            self._take_batches(runner, state or {})
        if isinstance(loop, EpochBasedTrainLoop) and state and self._over and self._batches is not None:
            self._batches.pass_over(self._over)
            # The epoch that goes on has drawn the seed for workers already.
            loop.dataloader.generator = loop.dataloader.generator or torch.Generator()
            over = self._over
            loop.run_iter = lambda idx, *rest, **named: type(loop).run_iter(loop, idx + over, *rest, **named)
        # Hooks that draw random numbers when an epoch begins did so before the checkpoint in the middle of it.
        if self._start is not None and self._over:
            set_random_states(self._start)
        self._start = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._over, self._validated = batch_idx + 1, False
        if self._losses.look_at(outputs, data_batch, runner.iter + 1):
            self._diverged(runner, self._losses.explain(self._before(runner)))
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self._must_stop(runner.iter + 1):
            self._end(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._over = 0
            if vars(runner.train_loop).pop('run_iter', None) and not self._seeded:
                runner.train_dataloader.generator = None
        super().after_train_epoch(runner)

    def before_val(self, runner: Runner) -> None:
        self._before_val = random_states()
        self._together = _steps_of_all(runner.val_loop)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._must_stop(batch_idx + 1, self._together):
            if self._saved_after != runner.iter:
                # Validation looks at the averaged weights; mmpretrain's may do so first, and then at the model's own.
                for exchange in self._exchanges:
                    exchange.undo()
            self._end(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._validated, self._metrics = True, metrics or {}
        super().after_val_epoch(runner, metrics or {})

    def after_val(self, runner: Runner) -> None:
        if self._neutral and self._before_val is not None:
            set_random_states(self._before_val)
        self._before_val = None

    def after_train(self, runner: Runner) -> None:
        self._handlers.close()
        super().after_train(runner)

    def state_of(self, runner: Runner) -> dict[str, Any]:
        """What a checkpoint notes of the run, and all that a resumed one needs. All processes take part."""
        before = self._before_val if self._neutral or not self._validated else None
        return collect_state(runner, self._run.name, self._over, self._validated, before, self._metrics,
                             self._attributes)

    def may_save(self, real: Any, meta: dict) -> bool:
        """Whether what would be saved are finite numbers. All processes take part.

        Args:
            real: The runner.
            meta: The notes of the checkpoint.

        Raises:
            DivergedError: A parameter became NaN or infinite.
        """
        if self._has_diverged():
            self._unsaved = ('the loss was no finite number when it was due; lower the learning rate, or clip '
                             'gradients (optim_wrapper.clip_grad), and go on from the older one with --resume.')
            real.logger.warning('The loss is no finite number: no checkpoint is saved, and the older one stays.')
            return False
        name = next((name for name in nonfinite_parameters(unwrap(real.model)) if name not in self._odd), None)
        if name is not None:
            self._diverged(real, f'The parameter {name} holds NaN or infinity after step {meta["iter"]}, which is not '
                           f'saved. {self._before(real)} Lower the learning rate, or clip gradients '
                           '(optim_wrapper.clip_grad).')
        return True

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        real = getattr(runner, 'real', runner)
        if not self.may_save(real, meta):
            return
        super()._save_checkpoint_with_step(runner, step, meta)
        if self._unsaved is None:
            self._saved_after = meta['iter']
            self._forget_stops(real)

    def _take_batches(self, runner: Runner, state: Mapping[str, Any]) -> None:
        """Let the augmentation depend on the step, and the data go on where it was."""
        loop = runner.train_loop
        if not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            runner.logger.warning(f'{type(loop).__name__} is no loop of mmengine: a resumed run may see other data.')
            return
        endless = isinstance(loop, IterBasedTrainLoop)
        if not self._seeded and not self._over:
            return
        if endless and self._seeded and isinstance(runner._train_dataloader, dict):
            # Its workers are at work already, and the sampler has begun.
            begin_anew(runner)
            set_sampler_seed(runner, state)
        loader = loop.dataloader
        self._batches = seed_batches(loader, runner.seed if self._seeded else None, runner.rank, lambda: loop.iter)
        if endless and self._batches is not None:
            epoch = self._batches.pass_over(loop.iter, functools.partial(_set_epoch, loader))
            loop.dataloader_iterator = EndlessBatches(loader, epoch, loop.iter)

    def _is_due(self, runner: Runner) -> bool:
        """Whether the loop validates where it stands."""
        loop = runner.train_loop
        if runner.val_loop is None or not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            return False
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if by_epoch and self._over:
            return False
        loop._decide_current_val_interval()
        done, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        return done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)

    def _has_diverged(self) -> bool:
        """Whether the last loss of any process is no finite number. All processes take part."""
        count = torch.tensor(self._losses.count)
        all_reduce(count, 'max')
        return bool(count)

    def _must_stop(self, step: int, most: float = math.inf) -> bool:
        """Whether a signal has come; several processes stop after the same step, one of those that all of them take."""
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return bool(self._stop)
        if step % _AGREE or step > most:
            return False
        number = torch.tensor(int(self._stop.signal or 0))
        all_reduce(number, 'max')
        if number.item():
            self._stop.signal = signals.Signals(int(number.item()))
        return bool(self._stop)

    def _end(self, runner: Runner, step: int) -> NoReturn:
        """End the run for a signal, with a checkpoint of now."""
        signal = self._stop.signal
        if self._saved_after != step and not self._has_diverged():
            name = _STOPPED.format(step)
            if self.write(runner, name, meta=dict(epoch=runner.epoch, iter=step), by_epoch=False) and is_main_process():
                self.point_to(runner, self.file_backend.join_path(self.out_dir, name))
                self._forget_stops(runner, name)
                self._saved_after = step
        # Whoever ends first has the others killed.
        barrier()
        runner.logger.warning(f'{signal.name if signal else "A signal"} came: the run ends after step {step}. '
                              f'{self._before(runner)} Go on with --resume.')
        self._handlers.close()
        raise SystemExit(self._stop.status)

    def _forget_stops(self, runner: Runner, but: str = '') -> None:
        """Remove the checkpoints with which this run was stopped before, once there is a newer one."""
        if is_main_process() and self._is_whole(runner):
            for path in Path(self.out_dir).glob(_STOPPED.format('*')):
                if path.name not in (but, *self._run.earlier):
                    path.unlink(missing_ok=True)

    def _diverged(self, runner: Runner, told: str) -> NoReturn:
        self._handlers.close()
        raise DivergedError(told)

    def _before(self, runner: Runner) -> str:
        last = last_checkpoint(runner.work_dir)
        return f'The last checkpoint is {last}.' if last else 'There is no checkpoint.'


def keep_long_runs(runner: Runner, start_from: str | None = None) -> None:
    """Let a runner do as :class:`LongRunHook` does, with the settings of its own ``CheckpointHook``.

    Args:
        runner: The runner before its training. Where it has no ``CheckpointHook``, or one of another kind, it is left
            as it is, which the log tells.
        start_from: What to load where there is nothing to resume.
    """
    for i, hook in enumerate(runner.hooks):
        if type(hook) is CheckpointHook:
            taken = LongRunHook(start_from=start_from)
            taken.__dict__.update(vars(hook))
            runner.hooks[i] = taken
            return
        if isinstance(hook, WholeCheckpointHook):
            hook._start_from = hook._start_from or start_from
            return
    runner.logger.info('The config has a checkpoint hook of its own or none: checkpoints are written as it does.')


def _known(names: Sequence[str]) -> list[signals.Signals]:
    """The signals of that names as far as this system has them: Windows lacks some."""
    known = signals.Signals.__members__
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in known and name not in _SIGNALS:
            raise ValueError(f'default_hooks.checkpoint.stop_signals names {name!r}, which is no signal here: take '
                             f'any of {", ".join(known)}.')
    return [known[name] for name in names if name in known]


def _set_epoch(loader: Any, epoch: int) -> None:
    """As mmengine's iteration-based loop does where the data comes to its end."""
    sampler = next((each for each in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None))
                    if hasattr(each, 'set_epoch')), None)
    if sampler is not None:
        sampler.set_epoch(epoch)


def _steps_of_all(loop: Any) -> int:
    """How many steps of a validation all processes take, of which one may have more. All processes take part."""
    steps = torch.tensor(0)
    # Not every loop has one loader, whose length is known.
    with contextlib.suppress(AttributeError, TypeError, NotImplementedError):
        steps = torch.tensor(len(loop.dataloader))
    all_reduce(steps, 'min')
    return int(steps)
