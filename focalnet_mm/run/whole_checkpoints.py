"""Checkpoints that are written whole or not at all, and the newest whole one to resume."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from ..weights.pickles import CodeError, load_pickle
from .build import unwrap
from .drafts import remove_drafts, whole_file
from .failures import StoppedRunError
from .resuming import ALLOW, STATE, Run, candidates, check_resumable, find_newest, note_last, run_of

__all__ = ['UnsavedError', 'WholeCheckpointHook']


class UnsavedError(StoppedRunError):
    """A training that ended and could not be saved."""


class _Saves:
    """A runner whose ``save_checkpoint`` is another, and a backend that removes later."""

    def __init__(self, real: Any, **others: Callable[..., Any]) -> None:
        vars(self).update(others, real=real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with checkpoints that are there whole or not at all.

    A checkpoint is written beside its place and put there when it is on the disk; only then an older one goes. Where it
    cannot be written, the training goes on with the older one. ``resume=True`` takes the newest one of this run that is
    whole, and tells why it passed others over. On remote storage, and with ``FlexibleRunner``, files are written as
    mmengine writes them.

    Args:
        start_from (str, optional): What to load where there is nothing to resume.
        **settings: Those of ``CheckpointHook``.

    Raises:
        UnsavedError: The folder cannot be written to, or the last checkpoint of the training could not be written.
        ValueError: The checkpoint to resume is damaged, holds weights only, or is of another model.
    """

    keep_ckpt_ids: deque[int]
    file_backend: Any

    def __init__(self, *args: Any, start_from: str | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._start_from = start_from
        self._run, self._noted, self._looked_at = Run(''), False, False
        self._resumed: Mapping[str, Any] | None = None
        self._state: Mapping[str, Any] = {}
        self._replaced: list[int] = []
        self._unsaved: str | None = None

    def before_run(self, runner: Runner) -> None:
        # In a test the loop of the training is not built.
        if runner._resume and not runner._has_loaded and isinstance(runner._train_loop, BaseLoop):
            self._choose(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self._resumed = checkpoint.pop(STATE, {})
            if 'optimizer' not in checkpoint:
                runner.logger.warning('The checkpoint holds no state of the optimizer, as save_optimizer=False says: '
                                      'that begins anew.')

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self._is_whole(runner) and is_main_process():
            self._try_folder()
            remove_drafts(self.out_dir)
        self._noted = False
        self._settle_run(runner)
        self._find_best(runner)
        # A process may have been killed before it removed them.
        self._replaced = list((self._resumed or {}).get('replaced', ()))
        self._remove_replaced(runner)

    def _try_folder(self) -> None:
        """Find out before the first epoch, and not after the last one, that nothing can be written."""
        try:
            Path(self.out_dir).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.out_dir):
                pass
        except OSError as error:
            # What is full now may be emptied until then.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
                raise UnsavedError(f'Checkpoints cannot be written to {self.out_dir}: {error.strerror or error}; name '
                                   'another folder with default_hooks.checkpoint.out_dir or --work-dir.') from None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        # The best ones hold weights only, and those of other hooks have notes of their own.
        if ('optimizer' in checkpoint or 'param_schedulers' in checkpoint) and STATE not in checkpoint:
            checkpoint[STATE] = dict(self._state, replaced=self._replaced)

    def after_train(self, runner: Runner) -> None:
        if self._unsaved:
            raise UnsavedError(f'The training ended, and its last checkpoint is missing: {self._unsaved}')
        super().after_train(runner)

    def state_of(self, runner: Runner) -> dict[str, Any]:
        """What a checkpoint notes of the run. All processes take part."""
        return dict(run=self._run.name)

    def write(self, runner: Runner, name: str, **settings: Any) -> bool:
        """Write a checkpoint whole. All processes take part.

        Args:
            runner: The runner.
            name: The file's name.
            **settings: Those of the runner's ``save_checkpoint``.

        Returns:
            Whether it is there.
        """
        with self._noting(runner):
            if not self._is_whole(runner):
                runner.save_checkpoint(self.out_dir, name, self.file_client_args, backend_args=self.backend_args,
                                       **settings)
                return True
            failed = [self._write_whole(runner, Path(self.out_dir, name), settings) if is_main_process() else None]
        # All processes go on in the same way.
        broadcast_object_list(failed)
        self._unsaved = failed[0] or self._unsaved
        return failed[0] is None

    def _write_whole(self, runner: Runner, path: Path, settings: Mapping[str, Any]) -> str | None:
        """Write a checkpoint; why that failed, if it did."""
        try:
            with whole_file(path) as draft:
                # The template of names may have a folder too.
                runner.save_checkpoint(str(draft.parent), draft.name, **settings)
        except OSError as error:
            runner.logger.error(f'{path} could not be written: {error.strerror or error}. The older checkpoint stays, '
                                'and the training goes on.')
            return (f'{path} could not be written: {error.strerror or error}; make room there, and go on with '
                    '--resume.')
        return None

    @contextlib.contextmanager
    def _noting(self, runner: Runner) -> Iterator[None]:
        """Let what is saved note the state of now. What others save at another time does not."""
        self._state = self.state_of(runner)
        try:
            yield
        finally:
            self._state = {}

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        runner = getattr(runner, 'real', runner)
        if not self._is_whole(runner):
            with self._noting(runner):
                super()._save_checkpoint_with_step(runner, step, meta)
            self._unsaved = None
            return
        before = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        if self.max_keep_ckpts > 0:
            kept = deque((each for each in before if each != step), self.max_keep_ckpts)
            kept.append(step)
            self.keep_ckpt_ids = kept
            self._replaced = [each for each in before if each not in kept]
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        name = self.filename_tmpl.format(step)
        path = str(Path(self.out_dir, name))
        runner.message_hub.update_info('last_ckpt', path)
        if not self.write(runner, name, save_optimizer=self.save_optimizer, meta=meta, by_epoch=self.by_epoch,
                          save_param_scheduler=self.save_param_scheduler, **self.args):
            if self.max_keep_ckpts > 0:
                self.keep_ckpt_ids = deque(before, self.max_keep_ckpts)
                runner.message_hub.update_info('keep_ckpt_ids', before)
            return
        self.last_ckpt, self._unsaved = path, None
        if not self._looked_at and is_main_process():
            self._look_at(runner, path)
        if is_main_process():
            self.point_to(runner, path)
        self._remove_replaced(runner)

    def _look_at(self, runner: Runner, path: str) -> None:
        """Say after the first checkpoint, and not after days, that none can be resumed."""
        self._looked_at = True
        try:
            # Its tensors are not looked at.
            load_pickle(Path(path), check=False)
        except CodeError as error:
            runner.logger.warning(f'{error} {ALLOW} Until then --resume cannot go on from it.')

    def _remove_replaced(self, runner: Runner) -> None:
        """Remove the checkpoints in whose place the last one has come."""
        if self.max_keep_ckpts > 0 and self._is_whole(runner) and is_main_process():
            # Without a number in their names the last one has come in the very place of the others.
            kept = {self.filename_tmpl.format(step) for step in self.keep_ckpt_ids}
            for name in {self.filename_tmpl.format(step) for step in self._replaced} - kept:
                Path(self.out_dir, name).unlink(missing_ok=True)
        self._replaced = []

    def point_to(self, runner: Runner, path: str) -> None:
        """Note the last checkpoint; the training goes on where that fails."""
        self._note_run(runner)
        try:
            note_last(runner.work_dir, path, relative=self._is_whole(runner))
        except OSError as error:
            runner.logger.error(f'last_checkpoint in {runner.work_dir} could not be written: {error}')

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        unknown = [key for key in self.key_indicators if key != 'auto' and key not in metrics] if self.save_best else []
        if unknown and metrics:
            raise StoppedRunError(f'default_hooks.checkpoint.save_best names {unknown[0]!r}, which the validation does '
                                  f'not measure: take any of {", ".join(metrics)}.')
        if not self.save_best or not self._is_whole(runner):
            super()._save_best_checkpoint(runner, metrics)
            return
        noted = {key: value for key, value in runner.message_hub.runtime_info.items() if key.startswith('best_')}
        paths = getattr(self, 'best_ckpt_path', None), dict(getattr(self, 'best_ckpt_path_dict', {}))
        written, replaced, backend = list[bool](), list[str](), self.file_backend

        def save(out_dir: str, filename: str, file_client_args: Any = None, backend_args: Any = None,
                 **settings: Any) -> None:
            written.append(self.write(runner, filename, **settings))

        self.file_backend = _Saves(backend, remove=replaced.append)
        try:
            super()._save_best_checkpoint(_Saves(runner, save_checkpoint=save), metrics)
        finally:
            self.file_backend = backend
        if not all(written):
            # The best one is still the one of before, if any.
            for key in [key for key in runner.message_hub.runtime_info if key.startswith('best_')]:
                del runner.message_hub.runtime_info[key]
            runner.message_hub.runtime_info.update(noted)
            if len(self.key_indicators) == 1:
                self.best_ckpt_path = paths[0]
            else:
                self.best_ckpt_path_dict = paths[1]
            return
        for path in replaced:
            if Path(path).name not in _names(runner, 'best_ckpt'):
                Path(path).unlink(missing_ok=True)

    def _is_whole(self, runner: Any) -> bool:
        """Whether files are written here, and not by a storage or strategy of its own."""
        return (isinstance(getattr(runner, 'real', runner), Runner) and self.file_client_args is None
                and isinstance(getattr(self.file_backend, 'real', self.file_backend), LocalBackend))

    def _choose(self, runner: Runner) -> None:
        """Choose the checkpoint to resume."""
        model = unwrap(runner.model)
        if runner._load_from is not None:
            if '://' not in str(runner._load_from):
                check_resumable(runner._load_from, model, self.save_optimizer)
            return
        folder = self._folder(runner)
        if '://' in folder:
            return
        chosen: list[Any] = [None]
        if is_main_process():
            found = find_newest(runner.work_dir, folder, self.filename_tmpl, model, self.save_optimizer)
            for told in found.passed_over:
                runner.logger.warning(f'Not resumed: {told}')
            chosen = [str(found.path) if found.path else None]
        broadcast_object_list(chosen)
        if chosen[0] is None:
            start = f'from {self._start_from}, as load_from says' if self._start_from else 'from scratch'
            runner.logger.warning(f'NOTHING TO RESUME: there is no checkpoint of this run in {folder}, so the training '
                                  f'starts {start}.')
            runner._resume = False
        runner._load_from = chosen[0] or self._start_from

    def _folder(self, runner: Runner) -> str:
        """Where checkpoints go, as mmengine settles it before a training."""
        if self.out_dir is None or self.out_dir == runner.work_dir:
            return runner.work_dir
        return f'{self.out_dir}/{Path(runner.work_dir).name}'

    def _settle_run(self, runner: Runner) -> None:
        """Note in the work dir which run it is of."""
        paths = candidates(runner.work_dir, self.out_dir, self.filename_tmpl)
        there = [path.name for path in paths]
        noted = Run.read(runner.work_dir)
        if self._resumed is None:
            self._run = Run(uuid.uuid4().hex, tuple(there))
            if there:
                runner.logger.warning(
                    f'{self.out_dir} holds checkpoints of an earlier run: {", ".join(there)}. This one starts anew and '
                    'writes over those of the same names; --resume CHECKPOINT would go on with one of them.')
        else:
            name = self._resumed.get('run') or (noted.name if noted else uuid.uuid4().hex)
            self._run = noted if noted and noted.name == name else Run(
                name, tuple(path.name for path in paths if run_of(path) not in (None, name)))
        self._note_run(runner)

    def _note_run(self, runner: Runner) -> None:
        """Note the run in its work dir; where that fails, again with the next checkpoint."""
        if self._noted or not is_main_process():
            return
        try:
            self._run.write(runner.work_dir)
            self._noted = True
        except OSError as error:
            runner.logger.error(f'run.json in {runner.work_dir} could not be written: {error.strerror or error}. The '
                                'training goes on, and writes it with the next checkpoint.')

    def _find_best(self, runner: Runner) -> None:
        """Find the best checkpoints where a work dir was renamed."""
        if not self.save_best or not self._is_whole(runner):
            return

        def here(path: Any) -> Any:
            moved = Path(self.out_dir, Path(str(path)).name)
            return str(moved) if path and moved.is_file() else path

        if len(self.key_indicators) == 1:
            self.best_ckpt_path = here(self.best_ckpt_path)
        else:
            self.best_ckpt_path_dict = {key: here(path) for key, path in self.best_ckpt_path_dict.items()}


def _names(runner: Runner, key: str) -> set[str]:
    """Names of the files that the runner's notes with a key hold."""
    return {Path(str(value)).name for name, value in runner.message_hub.runtime_info.items() if name.startswith(key)}
