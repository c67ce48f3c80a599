"""Pictures of a data set that cannot be read, met in the middle of a run."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from .datasets import parts
from .failures import StoppedRunError, first_line

__all__ = ['DamagedPictureError', 'tell_damaged']


class DamagedPictureError(StoppedRunError):
    """A picture or label map that cannot be read."""


class _Prepare:
    """In place of a data set's ``prepare_data``: tells which picture is damaged, and lets another take its place."""

    def __init__(self, dataset: BaseDataset, key: str, replaced: bool) -> None:
        self._prepare: Callable[[int], Any] = dataset.prepare_data
        self._info, self._key, self._replaced = dataset.get_data_info, key, replaced
        # No other one takes the place of what is measured.
        self._in_test = bool(dataset.test_mode)
        self._told: set[str] = set()

    def __call__(self, index: int) -> Any:
        try:
            return self._prepare(index)
        except Exception as error:
            path = self._damaged(error, index)
            if path is None:
                raise
            told = f'{path} cannot be read: {first_line(error)}'
            if not self._replaced:
                raise DamagedPictureError(
                    f'{told}; replace it, or leave it out of the annotations.' if self._in_test else
                    f'{told}; replace it, leave it out of the annotations, or let another picture take the place of '
                    f'each such one with {self._key}.max_refetch=10.') from None
            if path not in self._told:
                self._told.add(path)
                print_log(f'{told}; another picture takes its place, as {self._key}.max_refetch says.',
                          logger='current', level=logging.WARNING)
            # mmengine takes another one then.
            return None

    def _damaged(self, error: Exception, index: int) -> str | None:
        """The file that a step of the pipeline could not read, if that is what failed."""
        # A missing file is another matter, and memory that runs out is no fault of a file.
        if isinstance(error, (FileNotFoundError, NotADirectoryError, MemoryError)):
            return None
        steps = [type(frame.f_locals.get('self')).__name__ for frame, _ in traceback.walk_tb(error.__traceback__)]
        step = next((name for name in reversed(steps) if name.startswith('Load')), None)
        if step is None:
            return None
        info = None
        # Items of videos are not told of by their index.
        with contextlib.suppress(Exception):
            info = self._info(index)
        key = 'seg_map_path' if 'Annotations' in step else 'img_path'
        path = info.get(key) if isinstance(info, Mapping) else None
        return path if isinstance(path, str) else None


def tell_damaged(dataset: Any, key: str, cfg: Config | None) -> None:
    """Let a data set tell which picture is damaged, in place of whatever its pipeline raises.

    Args:
        dataset: The data set as it was built, changed in place, with those that it repeats or joins. Each is one of
            mmengine's kind, or left as it is.
        key: Its key in the config, ``'train_dataloader.dataset'``.
        cfg: The config. Where it sets ``max_refetch`` of the data set, others take the place of damaged pictures;
            without one they do not.
    """
    settings: Any = cfg
    for name in key.split('.'):
        settings = settings.get(name) if isinstance(settings, (Mapping, Config)) else None
    replaced = _sets_refetch(settings)
    for name, part in parts(key, dataset):
        if isinstance(part, BaseDataset) and not isinstance(part.prepare_data, _Prepare):
            part.prepare_data = _Prepare(part, name, replaced and not part.test_mode)


def _sets_refetch(settings: Any) -> bool:
    if isinstance(settings, (list, tuple)):
        return any(map(_sets_refetch, settings))
    return isinstance(settings, Mapping) and (bool(settings.get('max_refetch')) or any(
        _sets_refetch(settings.get(key)) for key in ('dataset', 'datasets')))
