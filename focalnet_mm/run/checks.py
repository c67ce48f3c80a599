"""Whether data, classes and folders are what a config takes them for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from .build import unwrap
from .config import default_meta, evaluators

__all__ = ['CheckClasses', 'ClassMismatchError', 'build_runner', 'check_classes', 'check_data', 'check_folder']

# The last parts of the keys that name folders of label maps.
_LABEL_MAP_KEYS = ('seg', 'seg_prefix', 'seg_map_path')
# Heads whose num_classes is that of the data set, by their paths in the models of mmdet, mmseg and mmpretrain.
_HEADS = ('bbox_head', 'roi_head.bbox_head', 'roi_head.mask_head', 'panoptic_head', 'decode_head', 'auxiliary_head',
          'head')


class ClassMismatchError(ValueError):
    """A model and its data set have different classes."""


class CheckClasses(Hook):
    """Checks before training and testing that model, data set and annotations have the same classes.

    Annotations of no class at all end in other errors while they are loaded: see :func:`check_classes`.

    Raises:
        ClassMismatchError: They have not; says how many each has, and the way out.
    """

    def before_train(self, runner: Runner) -> None:
        self._check(runner, runner.train_dataloader.dataset, 'train')

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader.dataset, 'test')

    @staticmethod
    def _check(runner: Runner, dataset: Any, split: str) -> None:
        while hasattr(dataset, 'dataset'):
            dataset = dataset.dataset
        classes = dataset.metainfo.get('classes')
        if classes is None:
            return
        key = f'{split}_dataloader.dataset'
        if hasattr(dataset, 'cat_ids'):
            _check_annotated(dataset.ann_file, len(dataset.cat_ids), len(classes), key)
        model = unwrap(runner.model)
        for path in _HEADS:
            for head in _modules(model, path):
                if hasattr(head, 'num_classes') and head.num_classes != len(classes):
                    raise ClassMismatchError(
                        f'model.{path} has {head.num_classes} classes, the data set of {key} has {len(classes)}: set '
                        f'num_classes of every head to {len(classes)}, or {key}.metainfo.classes to the classes that '
                        'the model has.')


def build_runner(cfg: Config) -> Runner:
    """mmengine's runner of a config, or the config's own kind of it, which checks the classes when it starts."""
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(CheckClasses())
    return runner


def check_folder(folder: str | Path, force: bool) -> Path:
    """Check that nothing is in a folder that a tool writes to.

    Args:
        folder: The folder, which need not be there.
        force: Whether anything may be in it.

    Returns:
        Its path.

    Raises:
        FileExistsError: Something is, and may not.
    """
    folder = Path(folder)
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f'{folder} is not empty: name another folder, or add --force to replace files in it.')
    return folder


def check_data(cfg: Config, *splits: str) -> None:
    """Check that the annotation files and folders that a config names exist, and that label maps are in theirs.

    Args:
        cfg: The config. Its ``data_source``, if any, tells users where the data comes from.
        *splits: Which of ``train``, ``val`` and ``test``.

    Raises:
        FileNotFoundError: Something is missing; names it, the key that names it, and the way out.
    """
    missing: dict[str, str] = {}
    for split in splits:
        for key, path in _data_paths(cfg, split):
            if not os.path.exists(path):
                missing.setdefault(path, key)
    if missing:
        path, key = next(iter(missing.items()))
        others = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
        nested = _elsewhere(path, cfg.get('data_root'))
        if nested:
            raise FileNotFoundError(f'{path}, which {key} names, does not exist{others}, but the data lies in '
                                    f'{nested}: add --cfg-options data_root={nested}.')
        source = f'{cfg.data_source}; or ' if cfg.get('data_source') else ''
        raise FileNotFoundError(f'{path}, which {key} names, does not exist{others}: {source}point to your copy of '
                                'the data with --cfg-options data_root=DIR.')
    for split in splits:
        for key, path in _data_paths(cfg, split):
            if key.rsplit('.', 1)[-1] in _LABEL_MAP_KEYS and not any(
                    entry.name.endswith('.png') for entry in os.scandir(path)):
                raise FileNotFoundError(f'{path}, which {key} names, holds no .png file: the label maps belong there; '
                                        "for COCO panoptic, unpack the panoptic annotations' own archive, "
                                        f'{os.path.basename(os.path.normpath(path))}.zip, beside it.')


def check_classes(cfg: Config, *splits: str) -> None:
    """Check that annotation files in COCO's format have the classes that a config names, before they are loaded.

    Args:
        cfg: The config. Files of more than 64 MiB, which take long to read, are left to :class:`CheckClasses`.
        *splits: Which of ``train``, ``val`` and ``test``.

    Raises:
        ClassMismatchError: A file lacks classes.
    """
    for split in splits:
        if not cfg.get(f'{split}_dataloader'):
            continue
        key, dataset = f'{split}_dataloader.dataset', cfg[f'{split}_dataloader']['dataset']
        while 'dataset' in dataset:
            key, dataset = f'{key}.dataset', dataset['dataset']
        path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        classes = (dataset.get('metainfo') or {}).get('classes') or default_meta(cfg, dataset).get('classes')
        if not path.endswith('.json') or not classes or not os.path.isfile(path) or os.path.getsize(path) > 1 << 26:
            continue
        names = {category['name'] for category in json.loads(Path(path).read_text()).get('categories', ())}
        _check_annotated(path, sum(name in names for name in classes), len(classes), key)


def _check_annotated(path: str, found: int, classes: int, key: str) -> None:
    if found != classes:
        raise ClassMismatchError(f'{path} holds {found} of the {classes} classes that the data set has: name those '
                                 f'of your annotations in {key}.metainfo.classes.')


def _elsewhere(path: str, root: str | None) -> str | None:
    """The folder just above or below ``root`` in which ``path``, which lies under ``root``, would exist."""
    if not root or not path.startswith(root):
        return None
    relative = path[len(root):].lstrip('/')
    above = os.path.dirname(os.path.normpath(root))
    below = sorted(entry.path for entry in os.scandir(root) if entry.is_dir()) if os.path.isdir(root) else []
    if not relative:
        return None
    return next((folder for folder in (*below, above) if os.path.exists(os.path.join(folder, relative))), None)


def _modules(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """What a path in a model leads to, one by one where that is a list."""
    part: Any = model
    for name in path.split('.'):
        part = getattr(part, name, None)
    if isinstance(part, nn.ModuleList):
        yield from part
    elif part is not None:
        yield part


def _data_paths(cfg: Config, split: str) -> Iterator[tuple[str, str]]:
    """(key in the config, path) of each local file and folder that a split reads."""
    loader = cfg.get(f'{split}_dataloader')
    if loader:
        yield from _dataset_paths(f'{split}_dataloader.dataset', loader['dataset'])
    for evaluator in evaluators(cfg, split):
        for name in ('ann_file', 'seg_prefix'):
            if _is_local(evaluator.get(name)):
                yield f'{split}_evaluator.{name}', evaluator[name]


def _dataset_paths(key: str, dataset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if 'dataset' in dataset:
        yield from _dataset_paths(f'{key}.dataset', dataset['dataset'])
    for i, part in enumerate(dataset.get('datasets', ())):
        yield from _dataset_paths(f'{key}.datasets.{i}', part)
    root = dataset.get('data_root') or ''
    prefixes = dataset.get('data_prefix') or {}
    prefixes = {'data_prefix': prefixes} if isinstance(prefixes, str) else {
        f'data_prefix.{name}': prefix for name, prefix in prefixes.items()}
    for name, path in {'data_root': '', 'ann_file': dataset.get('ann_file'), **prefixes}.items():
        path = os.path.join(root, path) if path is not None else None
        if _is_local(path):
            yield f'{key}.{name}', path


def _is_local(path: str | None) -> TypeGuard[str]:
    return bool(path and '://' not in path)
