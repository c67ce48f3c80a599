"""What is to be done with an image before an exported model, found by asking the config's own data_preprocessor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..run.config import first_dataset, type_name
from ..weights.clean import clean_text

__all__ = ['ask_preprocessor', 'describe_inputs', 'test_pipeline']

# Of an odd height and width, so that padding shows.
_HEIGHT, _WIDTH = 33, 47
_BRIGHT = 200
# Steps of test pipelines that leave the order of channels and their values alone.
_GEOMETRY = ('Resize', 'CenterCrop', 'Pad', 'RandomFlip', 'FixShapeResize', 'EfficientNetCenterCrop')


class _Found(NamedTuple):
    """What a data preprocessor does."""

    #: Of each channel after it, the one before it.
    order: list[int]
    mean: list[float]
    std: list[float]
    #: How much it pads below and on the right, and the value there.
    padding: tuple[int, int, float] | None


def describe_inputs(model: nn.Module, channels: int, cfg: Config | None = None) -> tuple[str, dict[str, Any]]:
    """What an exported model takes.

    Args:
        model: A model with its ``data_preprocessor``, if any.
        channels: The number of its image channels.
        cfg: Its config, whose test pipeline loads and resizes.

    Returns:
        A sentence's part that says what the file takes, and ``order``, ``mean`` and ``std`` (one value a channel, or
        nothing where they are not known) and ``pipeline``, the steps before them.
    """
    steps = test_pipeline(cfg)
    named = [_call(step) for step in steps if not type_name(step).startswith(('Load', 'Pack'))]
    images = f'images (N, {channels}, H, W) in float32'
    facts: dict[str, Any] = dict(order='', mean=[], std=[], pipeline=named)
    before = f'; the test pipeline of the config comes first: {", ".join(named)}' if named else ''
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is None:
        return images + before, facts
    found = ask_preprocessor(preprocessor, channels)
    if found is None:
        return f'{images}, as {type(preprocessor).__name__} of the config prepares them{before}', facts
    facts.update(order=_order(found.order, steps), mean=found.mean, std=found.std)
    parts = [images, f'channels {facts["order"]}']
    if any(found.mean) or any(value != 1 for value in found.std):
        parts.append(f'minus {found.mean}, divided by {found.std}')
    else:
        parts.append('as they are, not normalised')
    if found.padding:
        parts.append(_padding(preprocessor, found.padding))
    return ', '.join(parts) + before, facts


def ask_preprocessor(preprocessor: nn.Module, channels: int) -> _Found | None:
    """Let a data preprocessor prepare black images with one bright channel each; ``None`` where it does more than
    order, normalise and pad them."""
    images = torch.zeros(channels + 1, channels, _HEIGHT, _WIDTH, dtype=torch.uint8)
    for channel in range(channels):
        images[channel + 1, channel] = _BRIGHT
    try:
        with torch.no_grad():
            prepared = torch.cat([preprocessor(dict(inputs=[image], data_samples=[BaseDataElement()]), False)['inputs']
                                  for image in images]).double()
    # Anybody's own preprocessor may ask for anything.
    except Exception:
        return None
    if prepared.ndim != 4 or prepared.shape[1] != channels:
        return None
    height, width = prepared.shape[2:]
    inside = prepared[:, :, :_HEIGHT, :_WIDTH]
    values = inside[:, :, 0, 0]
    if height < _HEIGHT or width < _WIDTH or not torch.equal(inside, values[..., None, None].expand_as(inside)):
        return None
    response = (values[1:] - values[0]).T / _BRIGHT
    if not torch.equal((response != 0).sum(1), torch.ones(channels)):
        return None
    std = 1 / response.sum(1)
    outside = float(prepared[0, 0, -1, -1])
    padding = (height - _HEIGHT, width - _WIDTH, round(outside, 4)) if (height, width) != (_HEIGHT, _WIDTH) else None
    return _Found(response.abs().argmax(1).tolist(), _numbers(preprocessor, 'mean', -values[0] * std),
                  _numbers(preprocessor, 'std', std), padding)


def _numbers(preprocessor: Any, name: str, found: Tensor) -> list[float]:
    """The numbers as the config writes them, where they are those that were found; else the latter."""
    written = getattr(preprocessor, name, None)
    if isinstance(written, Tensor):
        written = written.detach().double().flatten().expand(len(found)) if written.numel() == 1 else written.flatten()
        if len(written) == len(found) and torch.allclose(written.double(), found, rtol=1e-4, atol=1e-4):
            found = written
    # As many digits as float32 has. There is no negative zero.
    return [float(f'{value:.7g}') + 0.0 for value in found.tolist()]


def _order(order: Sequence[int], steps: Sequence[Mapping[str, Any]]) -> str:
    """The order of the channels in words: of colours where it is known how OpenMMLab loads them."""
    kept = list(range(len(order)))
    if len(order) == 1:
        return 'as loaded'
    loaders = [step for step in steps if type_name(step) in ('LoadImageFromFile', 'LoadImageFromNDArray')]
    others = [step for step in steps if not type_name(step).startswith(('Load', 'Pack', *_GEOMETRY))]
    if len(order) == 3 and loaders and not others and loaders[0].get('imdecode_backend') != 'tifffile':
        return 'BGR' if list(order) == kept else 'RGB' if list(order) == kept[::-1] else f'{list(order)} of BGR'
    if list(order) == kept:
        return 'as loaded'
    return 'as loaded, reversed' if list(order) == kept[::-1] else f'{list(order)} of those loaded'


def _padding(preprocessor: Any, padding: tuple[int, int, float]) -> str:
    below, right, value = padding
    # That of the forks' mmseg has both, of which the second one counts in tests.
    divisor = (getattr(preprocessor, 'test_cfg', None) or {}).get('size_divisor') or getattr(
        preprocessor, 'pad_size_divisor', None)
    if divisor and (below, right) == (-_HEIGHT % divisor, -_WIDTH % divisor):
        return f'padded with {value} below and on the right to multiples of {divisor} pixels'
    return f'padded with {value} below and on the right as {type(preprocessor).__name__} of the config does'


def test_pipeline(cfg: Config | None) -> list[Mapping[str, Any]]:
    return list(first_dataset(cfg, 'test').get('pipeline') or ()) if cfg else []


def _call(step: Mapping[str, Any]) -> str:
    """A step as it would be written in Python."""
    arguments = ', '.join(f'{key}={value!r}' for key, value in step.items() if key not in ('type', 'backend_args'))
    return clean_text(f'{type_name(step)}({arguments})')
