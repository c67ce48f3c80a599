"""Pictures of one's own, read and prepared as the config does it with those of its test set."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS, TRANSFORMS, init_default_scope

from ..data.pictures import printable, read_image
from .config import first_dataset, loaders, registry_scope, type_name
from .failures import explain_failure, first_line

__all__ = ['ImagePipeline', 'Loaded']

Source = str | Path | Sequence[str | Path] | np.ndarray


class Loaded(NamedTuple):
    """An image as a config reads it."""

    #: (H, W) or (H, W, C), of the config's channels and depth, in the size that predictions are in.
    image: np.ndarray
    #: Batch of one, as the config's data loader for tests gives it, without annotations.
    batch: dict[str, Any]


class ImagePipeline:
    """The test pipeline of a config, for images without annotations.

    The config's own steps load the image. Steps that load annotations are left out.

    Args:
        cfg: The config.

    Raises:
        ValueError: The config has no test data and with it no pipeline, or a step of it could not be made.
    """

    def __init__(self, cfg: Config) -> None:
        dataset = first_dataset(cfg, 'test')
        if not dataset.get('pipeline'):
            raise ValueError('The config has no pipeline in its test_dataloader, which would load images.')
        self._scope = dataset.get('_scope_') or registry_scope(cfg)
        init_default_scope(self._scope)
        steps = _without_annotations(dataset.pipeline)
        self._names = [type_name(step) or type(step).__name__ for step in steps]
        self._settings = steps
        #: Names of loading steps that want what only a data set has.
        self._useless: set[str] = set()
        self._local = self._built([_on_this_disk(step) for step in steps])
        self._collate = _collate_fn(loaders(cfg, 'test')[0])
        self._zero_label = bool(dataset.get('reduce_zero_label'))
        #: Name of the step that loads the image.
        self.loader: str = next((name for name in self._names if name.startswith('Load')), self._names[0])
        #: Whether the channels of an image are files of their own, of which the loader takes a list.
        self.channels_apart = self.loader == 'LoadMultiChannelImageFromFiles'
        #: Endings of image files that the config's data set names.
        self.endings: tuple[str, ...] = tuple(
            ending for ending in (dataset.get('img_suffix'), *(dataset.get('extensions') or ()))
            if isinstance(ending, str) and ending.startswith('.'))

    def __call__(self, source: Source, name: str | None = None) -> Loaded:
        """Load and prepare an image.

        Args:
            source: File or URL; files, for a loader that takes a list; or an image as the loader gives it, (H, W) or
                (H, W, C), for which ``to_float32`` still counts.
            name: What messages call it, by default its path.

        Returns:
            The image as it was loaded, and the batch.

        Raises:
            ValueError: The image could not be loaded, or a step of the pipeline failed on it.
        """
        name = name or ('the image' if isinstance(source, np.ndarray) else _named(source))
        remote = isinstance(source, str) and '://' in source
        steps = list(zip(self._names, self._built(self._settings) if remote else self._local))
        data: dict[str, Any] = dict(img_path=_plain(source), img_id=0, sample_idx=0, instances=[], seg_fields=[],
                                    reduce_zero_label=self._zero_label)
        while steps and ('img' not in data or steps[0][0].startswith('Load')):
            step_name, step = steps.pop(0)
            if isinstance(source, np.ndarray):
                data = _take(data, step, source)
            elif step_name not in self._useless:
                data = self._load(data, step_name, step, name)
        image = np.asarray(data['img'])
        if image.ndim not in (2, 3) or not image.size:
            raise ValueError(f'{name} was read as an array of shape {image.shape} by {self.loader} of the config\'s '
                             'test pipeline: (H, W) or (H, W, C) was expected.')
        # Steps may write into the image.
        image = image.copy()
        for step_name, step in steps:
            try:
                data = step(data)
            except Exception as error:
                raise ValueError(f'{name} was read as {_described(image)}, and the step {step_name} of the config\'s '
                                 f'test pipeline fails on it: {printable(first_line(error))}.') from error
            if data is None:
                raise ValueError(f'{name}: the step {step_name} of the config\'s test pipeline gives nothing for it.')
        return Loaded(image, self._collate([data]))

    def check_channels(self, loaded: Loaded, channels: int, name: str) -> None:
        """Check that an image has as many channels as the model takes: some preprocessors drop or repeat channels.

        Args:
            loaded: The image.
            channels: How many the model takes.
            name: What messages call it.

        Raises:
            ValueError: It has another number of them.
        """
        inputs = loaded.batch['inputs'][0]
        if not isinstance(inputs, torch.Tensor) or inputs.dim() != 3 or len(inputs) == channels:
            return
        raise ValueError(f'{name} was read with {_channels(loaded.image)} by {self.loader} of the config\'s '
                         f'test pipeline, and the model takes {channels}: name files with {channels}, or the loader '
                         'that the model was trained with.')

    def _built(self, steps: Sequence[Any]) -> list[Compose]:
        # Others may have changed it in the meantime.
        init_default_scope(self._scope)
        built = []
        for name, step in zip(self._names, copy.deepcopy(steps)):
            try:
                built.append(Compose([step]))
            except Exception as error:
                raise ValueError(f'The step {name} of the config\'s test pipeline could not be made: '
                                 f'{printable(explain_failure(error, ours=()))}') from error
        return built

    def _load(self, data: dict[str, Any], step_name: str, step: Compose, name: str) -> dict[str, Any]:
        """What a step that loads makes of the data."""
        if step_name == 'LoadImageFromNDArray':
            data['img'] = read_image(data['img_path'])
        try:
            loaded = step(dict(data))
        except Exception as error:
            if 'img' in data and isinstance(error, KeyError):
                print_log(f'The step {step_name} of the test pipeline is left out: it needs {error}, which only a data '
                          'set has.', logger='current')
                self._useless.add(step_name)
                return data
            if isinstance(error, KeyError) and error.args and error.args[0] not in data:
                raise ValueError(f'{name} cannot be loaded by itself: {step_name} of the config\'s test pipeline needs '
                                 f'{error.args[0]!r} too, which only its data set gives; use test, with a '
                                 'test_dataloader that has your pictures.') from error
            raise ValueError(
                f'{name}{_size(data["img_path"])} is damaged or no image that {step_name} of the config\'s test '
                f'pipeline can read: {printable(first_line(error))}.') from error
        if loaded is None:
            raise ValueError(f'{name}{_size(data["img_path"])} is damaged or no image that {step_name} of the '
                             'config\'s test pipeline can read: it gives nothing.')
        return loaded


def _take(data: dict[str, Any], step: Compose, image: np.ndarray) -> dict[str, Any]:
    """The data with an image that needs no loading, in place of what a step would load."""
    image = image.astype(np.float32) if getattr(step.transforms[0], 'to_float32', False) else image
    return {**data, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}


def _without_annotations(steps: Sequence[Any]) -> list[Any]:
    """Steps without those about annotations, also where test-time augmentation has them."""
    kept = []
    for step in steps:
        if isinstance(step, Sequence) and not isinstance(step, str):
            step = _without_annotations(step)
            if not step:
                continue
        elif _is_annotation(step):
            continue
        elif isinstance(step, Mapping) and isinstance(step.get('transforms'), Sequence):
            changed: Any = copy.copy(step)
            changed['transforms'] = _without_annotations(step['transforms'])
            step = changed
        kept.append(step)
    return kept


def _is_annotation(step: Any) -> bool:
    """Whether a step is about annotations, which one's own pictures have not."""
    from mmcv.transforms import LoadAnnotations
    name = type_name(step)
    if name.endswith(('Annotation', 'Annotations')) or name == 'LoadProposals':
        return True
    kind = step.get('type') if isinstance(step, Mapping) else None
    if isinstance(kind, str) and name.startswith('Load'):
        # An own class; one that nobody knows is told of when it is built.
        with contextlib.suppress(RuntimeError, KeyError), TRANSFORMS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return isinstance(kind, type) and issubclass(kind, LoadAnnotations)


def _on_this_disk(step: Any) -> Any:
    """A step that reads files where they were named, and not where the config has its data set."""
    if not isinstance(step, dict):
        return step
    step = copy.deepcopy(step)
    for key in ('backend_args', 'file_client_args'):
        if isinstance(step.get(key), Mapping) and step[key].get('backend', 'local') not in ('local', 'disk'):
            step[key] = None
    return step


def _collate_fn(loader: Mapping[str, Any]) -> Callable[[list[Any]], dict[str, Any]]:
    """What makes a batch of the samples, as mmengine's runner finds it."""
    settings = dict(loader.get('collate_fn') or dict(type=pseudo_collate))
    kind = settings.pop('type')
    with FUNCTIONS.switch_scope_and_registry(None) as registry:
        function = registry.get(kind) if isinstance(kind, str) else kind
    return lambda samples: function(samples, **settings)


def _plain(source: Source) -> Any:
    if isinstance(source, np.ndarray):
        return ''
    return str(source) if isinstance(source, (str, Path)) else [str(path) for path in source]


def _named(source: str | Path | Sequence[str | Path]) -> str:
    return str(source) if isinstance(source, (str, Path)) else f'the image of {", ".join(map(str, source))}'


def _size(path: Any) -> str:
    return f' ({os.path.getsize(path)} bytes)' if isinstance(path, str) and os.path.isfile(path) else ''


def _described(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    return f'{width} × {height} pixels of {_channels(image)} in {image.dtype}'


def _channels(image: np.ndarray) -> str:
    count = 1 if image.ndim == 2 else image.shape[2]
    return f'{count} channel{"s" * (count != 1)}'
