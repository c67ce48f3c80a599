"""Whether model, data set and annotations fit together, asked of the data sets that were built."""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from mmengine import fileio
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..data.made import check_folder
from ..weights.heads import heads_with_classes, plain_name
from .build import check_checkpoint, unwrap
from .config import model_settings
from .datasets import parts
from .failures import explain_missing, why_empty
from .first_classes import FirstClasses
from .loading import FitCheckpoint

__all__ = ['CheckData', 'ClassMismatchError', 'DataError', 'build_runner', 'check_dataset', 'check_first_files',
           'check_folder', 'check_heads', 'check_order']

# How many items of a data set are looked at before training; each is unpickled.
_LOOKED_AT = 1000


class DataError(ValueError):
    """A data set that would be trained or tested on without a word is not what its config takes it for."""


class ClassMismatchError(DataError):
    """A model and its data set have different classes."""


class CheckData(Hook):
    """Checks before training and testing what would go wrong in silence: see :func:`check_dataset`.

    Args:
        checkpoint: What is tested, which must hold every tensor of the model, see :func:`.build.check_checkpoint`.

    Attributes:
        passed: Whether everything was found to fit, and the run has started.

    Raises:
        DataError: Something does not fit; says what was found, expected, and the way out.
        FileNotFoundError: What the first item of a validation or test reads is missing.
        ValueError: The checkpoint is not of the model.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.passed = False
        self._checkpoint = checkpoint
        self._trained: Mapping[str, Any] = {}

    def before_run(self, runner: Runner) -> None:
        # Only now every kind of runner has its model.
        if self._checkpoint:
            self._trained = check_checkpoint(runner.model, self._checkpoint)

    def before_train(self, runner: Runner) -> None:
        self._check(runner, 'train', runner.train_loop)
        if runner.val_loop is not None:
            self._check(runner, 'val', runner.val_loop)
        self.passed = True

    def before_test(self, runner: Runner) -> None:
        # A loop over several data loaders comes here for each.
        self.passed = False
        self._check(runner, 'test', runner.test_loop)
        self.passed = True

    def _check(self, runner: Runner, split: str, loop: Any) -> None:
        model = unwrap(runner.model)
        evaluator = getattr(loop, 'evaluator', None)
        of_first_classes = any(isinstance(metric, FirstClasses) for metric in getattr(evaluator, 'metrics', ()))
        for name, loader in _loaders_of(loop, f'{split}_dataloader'):
            for key, part in parts(f'{name}.dataset', getattr(loader, 'dataset', None)):
                check_dataset(part, key)
                if not of_first_classes:
                    check_heads(model, part, key)
                if split == 'test':
                    check_order(self._trained.get('classes'), part, key, self._checkpoint)
                if split != 'train':
                    check_first_files(part, runner.cfg)


def build_runner(cfg: Config, checkpoint: str | None = None) -> tuple[Runner, CheckData]:
    """mmengine's runner of a config, or the config's own kind of it, with the check that it starts with.

    What ``load_from`` names is fitted to the model.

    Args:
        cfg: The config.
        checkpoint: What is tested, if it is a test.

    Raises:
        ValueError: The config has no model.
    """
    model_settings(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    check = CheckData(checkpoint)
    runner.register_hook(check)
    runner.register_hook(FitCheckpoint())
    return runner, check


def check_dataset(dataset: Any, key: str) -> None:
    """Check that a data set has items, and that its classes are those of its annotations, in their order.

    mmdet numbers the classes of COCO's annotations in the order of the file's categories, whatever order the config
    names them in, and leaves out those that the file lacks.

    Args:
        dataset: A data set that was built, without what repeats or joins it.
        key: Its key in the config.

    Raises:
        DataError: It is empty, or its classes are one string.
        ClassMismatchError: The annotations lack classes, number them in another order, or have others.
    """
    classes = _classes(dataset)
    if isinstance(classes, str):
        raise DataError(f'{key}.metainfo.classes is the string {classes!r}, expected a tuple: write ({classes!r},), '
                        'with a comma, or the path of a file with a class on each line.')
    if classes and _is_coco(dataset):
        _check_categories(dataset, classes, key)
    if hasattr(dataset, '__len__') and not len(dataset):
        raise DataError(f'{key} has no items: {why_empty(dataset, key)}.')
    if classes and hasattr(dataset, 'get_data_info') and type(dataset).__module__.startswith(('mmdet.', 'mmpretrain.')):
        _check_labels(dataset, classes, key)


def check_heads(model: nn.Module, dataset: Any, key: str) -> None:
    """Check that the heads of a model have as many classes as a data set.

    Args:
        model: The model. Left out are heads that take their classes from a text, that share one mask among all classes,
            that tell background and foreground apart by one channel, or that predict no classes but depths.
        dataset: A data set that was built.
        key: Its key in the config.

    Raises:
        ClassMismatchError: A head has another number.
    """
    classes = _classes(dataset)
    if not classes:
        return
    # Depths are no classes, and trackers of pedestrians leave out the other classes of their videos.
    kinds = {base.__name__ for part in (model, dataset) for base in type(part).__mro__}
    if kinds & {'DepthEstimator', 'MOTChallengeDataset'}:
        return
    # Heads for boxes of a panoptic data set may know its things only.
    allowed = {len(classes), len(_meta(dataset).get('thing_classes') or classes)}
    for name, head, found in heads_with_classes(model):
        if found in allowed or _knows_no_classes(head):
            continue
        raise ClassMismatchError(
            f'model.{name} has {found} classes, the data set of {key} has {len(classes)}: set num_classes of every '
            f'head to {len(classes)}, or {key}.metainfo.classes to the classes that the model has.')


def check_order(trained: Any, dataset: Any, key: str, source: str | None) -> None:
    """Check that a data set to test on numbers its classes as the checkpoint does.

    Classes of one side alone, as where they were renamed, and names that one side has twice are not compared.

    Args:
        trained: The names of the checkpoint's classes, as far as it notes them.
        dataset: A data set that was built.
        key: Its key in the config.
        source: Path or URL of the checkpoint.

    Raises:
        ClassMismatchError: A class has another number in the checkpoint.
    """
    sides = trained, _classes(dataset)
    if any(isinstance(side, str) or not isinstance(side, Sequence) for side in sides) or len(set(map(len, sides))) > 1:
        return
    theirs, ours = ({plain: i for i, plain in enumerate(names) if names.count(plain) == 1}
                    for names in ([plain_name(str(name)) for name in side] for side in sides))
    moved = next((name for name, i in ours.items() if theirs.get(name, i) != i), None)
    if moved is not None:
        raise ClassMismatchError(
            f'The checkpoint {source} numbers its classes in another order than {key}: {sides[1][ours[moved]]!r} is '
            f'{theirs[moved]} there and {ours[moved]} here, so labels would be wrong; test on data that is numbered as '
            f'the checkpoint is, or train on these, with the checkpoint as load_from, which sorts its classes.')


def _knows_no_classes(head: Any) -> bool:
    """Whether what a head tells apart are no classes of the data: object or not, border or not."""
    return (getattr(head, 'class_agnostic', False) or getattr(head, 'out_channels', None) == 1
            or hasattr(head, 'boundary_threshold') or any('RPN' in base.__name__ for base in type(head).__mro__))


def _loaders_of(loop: Any, key: str) -> list[tuple[str, Any]]:
    """(key, data loader) of a loop; one of anybody's may have several, or loops for each."""
    if hasattr(loop, 'dataloader'):
        return [(key, loop.dataloader)]
    found = [each for value in vars(loop).values() for each in (value if isinstance(value, (list, tuple)) else [value])]
    return [(f'{key}.{i}', getattr(each, 'dataloader', each)) for i, each in enumerate(
        each for each in found if isinstance(each, (DataLoader, BaseLoop)))]


def _meta(dataset: Any) -> Mapping[str, Any]:
    found = getattr(dataset, 'metainfo', None)
    return found if isinstance(found, Mapping) else {}


def _classes(dataset: Any) -> Any:
    """The names of a data set's classes, where it says them as those of the libraries do."""
    found = _meta(dataset).get('classes')
    return found if isinstance(found, (str, Sequence)) else None


def _is_coco(dataset: Any) -> bool:
    """Whether mmdet numbers the classes of a data set by its annotation file; others may merge or sort them."""
    with contextlib.suppress(ImportError):
        if isinstance(dataset, importlib.import_module('mmdet.datasets').CocoDataset):
            return type(dataset).load_data_list.__module__.startswith('mmdet.') and hasattr(dataset, 'cat_ids')
    return False


def _check_categories(dataset: Any, classes: Sequence[str], key: str) -> None:
    names = _category_names(dataset.ann_file, getattr(dataset, 'backend_args', None))
    if names == {} and not dataset.cat_ids:
        # Pictures without labels, as semi-supervised training takes them.
        return
    if names is None:
        found = list(classes)[:len(dataset.cat_ids)]
    else:
        found = [names[number] for number in dataset.cat_ids if number in names]
    missing = [name for name in classes if name not in found]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise ClassMismatchError(
            f'{dataset.ann_file} holds {len(found)} categories of the {len(classes)} classes of {key}, {twice!r} more '
            'than once, and mmdet numbers each by itself: give them different names, or join them.')
    # The categories of LVIS are taken whatever the classes are called.
    if len(found) != len(classes):
        raise ClassMismatchError(
            f'{dataset.ann_file} holds {len(found)} of the {len(classes)} classes that the data set has'
            f'{f", and not {missing[0]!r}" if missing and found else ""}: name those of your annotations in '
            f'{key}.metainfo.classes.')
    if not missing and found != list(classes):
        first = next(i for i, name in enumerate(classes) if name != found[i])
        raise ClassMismatchError(
            f'{dataset.ann_file} numbers its classes in its own order, and {key}.metainfo.classes in another: class '
            f'{first} is {found[first]!r} there and {classes[first]!r} here, so labels would be wrong; write '
            f'classes={tuple(found)!r}.')


def _check_labels(dataset: Any, classes: Sequence[str], key: str) -> None:
    """Look at the labels of the first items: losses take one that is too high for background, or end in an assertion
    of the GPU; and annotations in XML whose names are no classes are left out."""
    found = [dataset.get_data_info(i) for i in range(min(len(dataset), _LOOKED_AT))]
    infos = [info for info in found if isinstance(info, Mapping)]
    for info in infos:
        labels = list(_labels(info))
        wrong = [label for label in labels if label >= len(classes)]
        if key.startswith('train') and isinstance(info.get('gt_label'), (int, list)):
            wrong += [label for label in labels if label < 0]
        if wrong:
            raise ClassMismatchError(
                f'{info.get("img_path")} has the label {wrong[0]} in {key}, whose {len(classes)} classes have 0 to '
                f'{len(classes) - 1}: correct the annotations, or {key}.metainfo.classes.')
    files = [info['xml_path'] for info in infos if 'xml_path' in info]
    if not files or any(info.get('instances') for info in infos):
        return
    named = {name.text for file in files for name in ElementTree.fromstring(fileio.get_text(
        file, backend_args=getattr(dataset, 'backend_args', None))).iterfind('object/name')}
    if named and not named.intersection(classes):
        raise ClassMismatchError(
            f'{files[0]} and the other annotations name {", ".join(sorted(map(repr, named))[:5])}, and none of the '
            f'{len(classes)} classes of the data set: name those of your annotations in {key}.metainfo.classes.')


def _labels(info: Any) -> Iterator[int]:
    """The labels that an item of mmdet's or mmpretrain's has."""
    instances, label = info.get('instances') or (), info.get('gt_label')
    found = [*(instance.get('bbox_label') for instance in instances), *(label if isinstance(label, list) else [label])]
    yield from (int(each) for each in found if isinstance(each, (int, np.integer)))


def _category_names(path: str, backend_args: dict[str, Any] | None) -> dict[int, str] | None:
    """Number → name of the categories of a file in COCO's format, from where the data set has it."""
    # What serves it may serve it once, or to nobody else.
    with contextlib.suppress(Exception), fileio.get_local_path(path, backend_args=backend_args) as local:
        return _names_in(local)
    return None


def _names_in(path: str) -> dict[int, str] | None:
    """The categories of a local file, of which only that list is read if possible."""
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.rfind(b'"categories"')
        end = data.find(b']', start)
        text = data[start:end + 1].decode('utf-8', 'replace').partition(':')[2] if start >= 0 else ''
    try:
        found = json.loads(text)
        return {category['id']: category['name'] for category in found}
    except (ValueError, KeyError, TypeError):
        # Keypoints and such are lists within that list.
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            content = json.loads(Path(path).read_bytes())
            return {category['id']: category['name'] for category in content.get('categories', ())}
    return None


def check_first_files(dataset: Any, cfg: Config) -> None:
    """Check that the files of the first item are there, hours before a validation would ask for them.

    Args:
        dataset: A data set that was built.
        cfg: The config that it is of.

    Raises:
        FileNotFoundError: One is missing; says which key names its place.
    """
    try:
        info = dataset.get_data_info(0)
    except Exception:
        # Not every data set tells of its items, and this is no place to fail for it.
        return
    for name in ('img_path', 'seg_map_path'):
        path = info.get(name) if isinstance(info, dict) else None
        # What a storage backend serves is not for us to look up.
        if isinstance(path, str) and '://' not in path and not getattr(dataset, 'backend_args', None) and (
                not os.path.lexists(path) and _is_read(name, dataset)):
            raise FileNotFoundError(explain_missing(path, cfg))


def _is_read(name: str, dataset: Any) -> bool:
    """Whether a step of the pipeline that is known to read such local files is there; others read what they like."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    if any(getattr(step, 'backend_args', None) for step in steps):
        return False
    kinds = {type(step).__name__ for step in steps}
    if name == 'img_path':
        return 'LoadImageFromFile' in kinds
    return 'LoadPanopticAnnotations' in kinds or any(
        type(step).__name__ == 'LoadAnnotations' and getattr(step, 'with_seg', True) for step in steps)
