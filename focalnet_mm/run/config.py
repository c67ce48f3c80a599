"""Configs, and what they say of their data."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.logging import print_log
from mmengine.registry import DATASETS, MODELS, Registry

from ..installed import cure
from .unread import unread_keys

__all__ = ['class_of', 'default_meta', 'evaluators', 'first_dataset', 'load_config', 'loaders', 'model_settings',
           'registry_scope', 'scope_of', 'single_datasets', 'type_name']

_LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')


def load_config(file: str, options: Mapping[str, Any] | None = None, work_dir: str | None = None,
                launcher: str = 'none') -> Config:
    """Read a config and settle what the command line says about it.

    Args:
        file: Path of the config.
        options: What ``--cfg-options`` says. A ``data_root`` moves the paths of all data sets and metrics that lie
            under the config's own ``data_root``; the other options are merged as they are.
        work_dir: Folder of logs and checkpoints; by default the config's, or ``work_dirs/NAME_OF_CONFIG``.
        launcher: Job launcher: none, pytorch, slurm or mpi.

    Returns:
        The config. Data loaders of mmpretrain have what its own tools give them.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: It, or what it inherits, cannot be read.
    """
    if Path(file).is_dir():
        raise FileNotFoundError(f'The config {file} is a folder: give the path of a config file.')
    if not Path(file).is_file():
        raise FileNotFoundError(f'The config {file} does not exist: give the path of a config file.')
    cfg = _read(file)
    options = dict(options or {})
    if 'data_root' in options and cfg.get('data_root'):
        for key in list(cfg):
            if key.endswith(('_dataloader', '_evaluator')):
                _move(cfg[key], cfg.data_root, options['data_root'])
    elif 'data_root' in options:
        print_log(f'{file} has no data_root that --cfg-options could move: set the paths of its data sets one by one.',
                  logger='current', level=logging.WARNING)
    if scope_of(cfg) == 'mmpretrain':
        for loader in (each for split in ('train', 'val', 'test') for each in loaders(cfg, split)):
            _set_defaults(loader)
    cfg.merge_from_dict(options)
    for told in unread_keys(cfg, options):
        print_log(f'{file}: {told}', logger='current', level=logging.WARNING)
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or os.path.join('work_dirs', Path(file).stem)
    return cfg


def _read(file: str) -> Config:
    try:
        return Config.fromfile(file)
    # Whatever stands in it is run.
    except Exception as error:
        names = [frame.f_locals.get('filename') for frame, _ in traceback.walk_tb(error.__traceback__)]
        place = next((name for name in reversed(names) if isinstance(name, str) and name.endswith('.py')), file)
        if isinstance(error, SyntaxError):
            raise ValueError(f'{place}, line {error.lineno}: {error.msg}: correct it there.') from error
        if isinstance(error, FileNotFoundError):
            raise ValueError(f'{file} inherits a config that does not exist: {error.filename or error}.') from error
        lacking = cure(error)
        if lacking is not None:
            raise ValueError(f'{file} inherits what cannot be read: {lacking}') from error
        cause: BaseException = error
        # mmengine's own lists all that is on the path.
        while isinstance(cause, ImportError) and (cause.__cause__ or cause.__context__):
            cause = cause.__cause__ or cause.__context__ or cause
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f'line {last.lineno}: ' if last.filename in ('', place) else ''
        raise ValueError(f'{place} cannot be read as a config: {where}{type(cause).__name__}: '
                         f'{next(iter(str(cause).splitlines()), "")}') from error


def _set_defaults(loader: dict[str, Any]) -> None:
    """Give a data loader what mmpretrain's train.py and test.py do: its preprocessors need batches put together."""
    loader.setdefault('collate_fn', dict(type='default_collate'))
    loader.setdefault('pin_memory', torch.cuda.is_available())
    loader.setdefault('persistent_workers', bool(loader.get('num_workers')))


def _move(node: Any, old: str, new: str) -> None:
    """Let the paths below ``old`` in a tree of dicts and lists begin with ``new``."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        if isinstance(value, str) and os.path.join(value, '').startswith(os.path.join(old, '')):
            node[key] = os.path.join(new, value[len(old):].lstrip('/'))
        else:
            _move(value, old, new)


def type_name(settings: Any) -> str:
    """The name of the class that settings are of, however the config names it.

    Args:
        settings: Settings with a ``type``: a name, one with its library or module (``'mmdet.LoadAnnotations'``), a
            class or function, or what a pure-Python config imports lazily.

    Returns:
        The name alone, ``'LoadAnnotations'``; ``''`` where there are no settings or no ``type``.
    """
    # A ConfigDict's own `get` would import what is lazy.
    kind = dict.get(settings, 'type') if isinstance(settings, dict) else None
    if kind is None:
        return ''
    # Any attribute that a lazy object is asked for exists.
    if isinstance(kind, (str, LazyAttr, LazyObject)):
        return str(kind).rpartition('.')[2]
    return getattr(kind, '__name__', type(kind).__name__)


def scope_of(cfg: Config) -> str:
    """The library that the model of a config is of.

    Args:
        cfg: The config. Where its model is a class, or another library's, its ``default_scope`` says nothing of that.

    Returns:
        mmdet, mmseg or mmpretrain; for models of none of these the ``default_scope``, or mmengine without one.
    """
    model = cfg.get('model')
    model = model if isinstance(model, Mapping) else {}
    scope = model.get('_scope_') or cfg.get('default_scope') or 'mmengine'
    kind = model.get('type')
    if isinstance(kind, str):
        root = kind.partition('.')[0]
        if root in _LIBRARIES or scope in _LIBRARIES:
            return root if root in _LIBRARIES else scope
        # The registry knows no such name, or not the library.
        with contextlib.suppress(RuntimeError, KeyError), MODELS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(kind)
    for base in getattr(kind, '__mro__', ()):
        if base.__module__.partition('.')[0] in _LIBRARIES:
            return base.__module__.partition('.')[0]
    return scope


def model_settings(cfg: Config) -> Any:
    """The settings of a config's model.

    Raises:
        ValueError: It has none.
    """
    found = cfg.get('model')
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f'{cfg.filename or "The config"} has no model: expected model = dict(type=…), '
                         f'found {"nothing" if found is None else repr(found)}.')
    return found


def registry_scope(cfg: Config) -> str:
    """Where the names of a config are looked up: its ``default_scope``, or, without one, the library of its model."""
    return cfg.get('default_scope') or scope_of(cfg)


def single_datasets(dataset: Mapping[str, Any]) -> Iterator[Any]:
    """The settings of each data set within those that repeat, filter or join others."""
    if isinstance(dataset.get('dataset'), Mapping):
        yield from single_datasets(dataset['dataset'])
    elif dataset.get('datasets') and not dataset.get('pipeline'):
        for part in dataset['datasets']:
            yield from single_datasets(part)
    else:
        yield dataset


def first_dataset(cfg: Mapping[str, Any], split: str) -> Any:
    """The settings of the first data set of a split, without what repeats or joins it; empty where there is none."""
    for loader in loaders(cfg, split):
        dataset = loader.get('dataset')
        return next(single_datasets(dataset), {}) if isinstance(dataset, Mapping) else {}
    return {}


def loaders(cfg: Mapping[str, Any], split: str) -> list[Any]:
    """The settings of the data loaders of a split: none, one or, for a loop of the config's own, several."""
    found = cfg.get(f'{split}_dataloader')
    return [loader for loader in (found if isinstance(found, list) else [found]) if isinstance(loader, Mapping)]


def evaluators(cfg: Config, split: str) -> list[dict[str, Any]]:
    """The metrics of a split, of which a config may give none, one or a list."""
    found = cfg.get(f'{split}_evaluator') or []
    found = found if isinstance(found, list) else [found]
    # Of several data loaders each has metrics of its own.
    return [metric for each in found for metric in (each if isinstance(each, list) else [each])]


def default_meta(cfg: Config, dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a data set's type says of its classes."""
    return getattr(class_of(cfg, dataset, DATASETS, 'datasets'), 'METAINFO', {})


def class_of(cfg: Config, settings: Mapping[str, Any], registry: Registry, module: str) -> Any:
    """The class that settings are of.

    Args:
        cfg: The config that they are part of.
        settings: Settings with a ``type``.
        registry: Where the class is registered, mmengine's.
        module: Module of the config's library that registers such classes, such as ``'datasets'``.

    Returns:
        The class, or ``None`` where the type is missing or nobody registered it.
    """
    kind = settings.get('type')
    if not kind or not isinstance(kind, str):
        return kind
    scope = settings.get('_scope_') or registry_scope(cfg)
    with contextlib.suppress(ImportError):
        importlib.import_module(f'{scope}.{module}')
    with registry.switch_scope_and_registry(scope) as own:
        return own.get(kind)
