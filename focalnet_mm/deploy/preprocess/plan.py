"""What a config does with a picture before its model, in the steps that a graph can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import PIL
from mmengine.config import Config
from torch import nn

from ...run.config import type_name
from ..inputs import ask_preprocessor, test_pipeline
from .resize import KINDS

__all__ = ['make_plan']

_WAY_OUT = 'export with --no-preprocess, and prepare the images outside of the file'
# Settings of steps that change nothing of the pixels.
_HARMLESS = {'type', 'clip_object_border', 'backend_args', 'file_client_args', '_scope_'}
_PREPROCESSORS = ('DetDataPreprocessor', 'SegDataPreProcessor', 'ClsDataPreprocessor', 'ImgDataPreprocessor')

_LONGEST = 2 ** 31 - 1

Settings = dict[str, Any]


def make_plan(model: nn.Module, channels: int, cfg: Config) -> dict[str, Any]:
    """What the test pipeline and the data preprocessor of a config do with 8-bit RGB pictures.

    Args:
        model: The model with its ``data_preprocessor``.
        channels: The number of its image channels.
        cfg: Its config.

    Returns:
        Plain values: ``loader``, how files are decoded; ``steps``, each with its name in
        :data:`~focalnet_mm.deploy.preprocess.steps.STEPS` as ``step``; and ``prepare``, the arguments of
        :func:`~focalnet_mm.deploy.preprocess.steps.prepared`.

    Raises:
        ValueError: The config does something else.
    """
    if channels != 3:
        raise ValueError(f'The model takes {channels} channels, and the graph prepares RGB pictures alone: {_WAY_OUT}.')
    pipeline = list(test_pipeline(cfg))
    if not pipeline:
        raise ValueError('The config has no test pipeline, which would tell how pictures are resized: give it a '
                         f'test_dataloader, or {_WAY_OUT}.')
    plan: dict[str, Any] = dict(loader={}, steps=[], prepare=_preparation(model))
    for step in pipeline:
        settings, name = dict(step), type_name(step)
        if name == 'LoadImageFromFile':
            plan['loader'] = _loader(settings)
        elif name in _READERS:
            plan['steps'].append(_READERS[name](_Reader(name, settings)))
        elif not _leaves_pictures(name, settings):
            raise _cannot(f'the step {name}')
    if not plan['loader']:
        raise _cannot(f'the loading step {type_name(pipeline[0])}')
    if plan['loader']['float']:
        plan['steps'] = [dict(step='as_float'), *map(_on_floats, plan['steps'])]
    return plan


def _on_floats(step: Settings) -> Settings:
    """A step behind a loader with ``to_float32``."""
    if 'backend' not in step:
        return dict(step, float=True)
    if step['backend'] != 'cv2':
        raise _cannot('resizing with pillow behind to_float32=True')
    return dict(step, backend='cv2 float')


class _Reader:
    """The settings of a step, each of which must be asked for."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self._left = {key: value for key, value in settings.items() if key not in _HARMLESS}

    def take(self, key: str, default: Any = None) -> Any:
        return self._left.pop(key, default)

    def only(self, key: str, *values: Any) -> None:
        """Check that a setting is one of some values, the first of which is the step's own."""
        value = self.take(key, values[0])
        if value not in values:
            raise _cannot(f'{key}={value!r} of the step {self.name}')

    def done(self, step: str, **settings: Any) -> Settings:
        if self._left:
            raise _cannot(f'{", ".join(self._left)} of the step {self.name}')
        return dict(step=step, **settings)

    def interpolation(self) -> Settings:
        backend, kind = self.take('backend', 'cv2'), self.take('interpolation', 'bilinear')
        if (backend, kind) not in KINDS:
            known = ' or '.join(f'{kind} of {backend}' for backend, kind in KINDS if backend in ('cv2', 'pillow'))
            raise _cannot(f'the interpolation {kind} of {backend} in the step {self.name}', f'; it knows {known}')
        if backend == 'pillow' and int(PIL.__version__.split('.')[0]) >= 13:
            backend = 'pillow 13'
        return dict(backend=backend, interpolation=kind)


def _resize(read: _Reader) -> Settings:
    scale, factor = read.take('scale'), read.take('scale_factor')
    # A limit may be infinite.
    size = [int(min(length, _LONGEST)) for length in ([scale] * 2 if isinstance(scale, (int, float)) else scale or ())]
    if isinstance(factor, (int, float)):
        factor = (factor, factor)
    return read.done('resize', size=size, factor=[float(value) for value in factor] if factor and not size else [],
                     keep_ratio=bool(read.take('keep_ratio', False)), **read.interpolation())


def _resize_edge(read: _Reader) -> Settings:
    return read.done('resize_edge', length=int(read.take('scale')), edge=read.take('edge', 'short'),
                     **read.interpolation())


def _center_crop(read: _Reader) -> Settings:
    read.only('auto_pad', False)
    read.take('pad_cfg')
    size = read.take('crop_size')
    return read.done('center_crop', size=[size, size] if isinstance(size, int) else list(size))


def _pad(read: _Reader) -> Settings:
    read.only('padding_mode', 'constant')
    value = read.take('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, Mapping) else value
    # mmcv repeats whole numbers alone, and of any other one OpenCV makes the value of the first channel.
    values = set(value) if isinstance(value, Sequence) else {value} if isinstance(value, int) else {value, 0}
    if len(values) != 1:
        raise _cannot(f'pad_val={value!r} of the step {read.name}, another value a channel,')
    return read.done('pad', size=list(read.take('size') or ()), divisor=read.take('size_divisor') or 1,
                     square=bool(read.take('pad_to_square', False)), value=values.pop())


#: Step of a test pipeline → its settings for the graph.
_READERS: dict[str, Callable[[_Reader], Settings]] = dict(
    Resize=_resize, ResizeEdge=_resize_edge, CenterCrop=_center_crop, Pad=_pad)


def _leaves_pictures(name: str, settings: Settings) -> bool:
    """Whether a step does nothing to pictures, as one that flips none of them."""
    if name == 'RandomFlip':
        chance = settings.get('prob')
        return all(value == 0 for value in (chance if isinstance(chance, list) else [chance]))
    return name.startswith(('Load', 'Pack')) and not name.startswith('LoadImage')


def _loader(settings: Settings) -> Settings:
    read = _Reader('LoadImageFromFile', settings)
    read.take('ignore_empty')
    read.only('imdecode_backend', 'cv2', None, 'turbojpeg')
    colours = read.take('color_type', 'color')
    if colours not in ('color', 'color_ignore_orientation'):
        raise _cannot(f'color_type={colours!r} of the step LoadImageFromFile')
    return read.done('load', turned=colours == 'color', float=bool(read.take('to_float32', False)))


def _preparation(model: nn.Module) -> Settings:
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    name = type(preprocessor).__name__
    found = ask_preprocessor(preprocessor, 3) if name in _PREPROCESSORS else None
    if found is None:
        raise _cannot(f'the data_preprocessor {name}')
    # Files are loaded as BGR, the graph takes RGB.
    return dict(channels=[2 - channel for channel in found.order], mean=found.mean, std=found.std,
                padding=_padding(preprocessor))


def _padding(preprocessor: Any) -> Settings | None:
    """How a data preprocessor pads a batch in a test."""
    # mmseg's pads as its test_cfg says.
    if hasattr(preprocessor, 'pad_val'):
        tested = preprocessor.test_cfg or {}
        height_width, divisor, value = tested.get('size'), tested.get('size_divisor'), preprocessor.pad_val
    else:
        height_width, divisor, value = None, preprocessor.pad_size_divisor, preprocessor.pad_value
    if not height_width and (divisor or 1) <= 1:
        return None
    return dict(size=list(height_width or ())[::-1], divisor=divisor or 1, value=value)


def _cannot(what: str, more: str = '') -> ValueError:
    return ValueError(f'The graph cannot do what {what} of the config does{more}: {_WAY_OUT}.')
