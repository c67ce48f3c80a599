"""The one way to the model of a config, and its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel, BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..weights import SCHEME, local_file, read_model, trained_classes
from ..weights.encodings import with_encodings
from ..weights.heads import class_tensors
from ..weights.layouts import shorten
from ..weights.losses import check_numbers, warn, worthless
from ..weights.whole import LAST_STEP
from .config import default_meta, first_dataset, model_settings, registry_scope, type_name
from .machine import replace_sync_bn

__all__ = ['build_model', 'check_checkpoint', 'load_model', 'load_weights', 'read_any_layout', 'unwrap']


def build_model(cfg: Config, device: str = 'cpu') -> BaseModel:
    """The model of a config before its weights are initialised or loaded.

    Args:
        cfg: The config, of any library: its ``default_scope``, or the library of its model, becomes the current one.
        device: Where the tensors lie; ``'meta'`` for a model without memory for its weights.

    Returns:
        The model in training mode, with BN for SyncBN, which needs several processes.

    Raises:
        ValueError: The config has no model.
    """
    settings = copy.deepcopy(model_settings(cfg))
    init_default_scope(registry_scope(cfg))
    if cfg.get('data_preprocessor'):
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    replace_sync_bn(settings)
    with torch.device(device):
        return MODELS.build(settings)


def load_model(cfg: Config, checkpoint: str | None = None) -> BaseModel:
    """The model of a config with its weights, in evaluation mode on the CPU.

    Args:
        cfg: The config.
        checkpoint: As :func:`~focalnet_mm.weights.read_model` takes it; without one the weights are what the config's
            ``init_cfg`` says.

    Returns:
        The model, with the classes of the checkpoint, or else of the data set, as its ``dataset_meta``.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It cannot be read, or is not of this config.
    """
    model = build_model(cfg)
    if checkpoint is None:
        model.init_weights()
        model.dataset_meta = _test_meta(cfg)
    else:
        load_weights(model, cfg, checkpoint)
    # That of some models returns nothing.
    model.eval()
    return model


def load_weights(model: BaseModel, cfg: Config, checkpoint: str) -> None:
    """Load a checkpoint into the model of a config, with the classes that it was trained for.

    Args:
        model: The model, or what wraps it for test-time augmentation, changed in place. The model's ``dataset_meta``
            becomes that of the checkpoint, or, where it says nothing, that of the config's data set.
        cfg: The config.
        checkpoint: As :func:`~focalnet_mm.weights.read_model` takes it.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It cannot be read, or is not of this config.
    """
    read = read_model(checkpoint)
    model = unwrap(model)
    tensors = with_encodings(_tested(read, cfg, checkpoint), model)
    _check_tensors(model, tensors, checkpoint)
    unused = model.load_state_dict(tensors, strict=False).unexpected_keys
    if unused:
        print_log(f'{checkpoint}: the model has no place for {len(unused)} of its tensors ({shorten(unused)}).',
                  logger='current')
    warn(checkpoint, worthless(read['state_dict']))
    model.dataset_meta = _named({**_test_meta(cfg), **trained_classes(read['meta'])}, model, checkpoint)


def _named(meta: dict[str, Any], model: nn.Module, source: str) -> dict[str, Any]:
    """What is known of a model's classes, without names where there are more of them than classes."""
    names, numbers = meta.get('classes'), [layer.classes for layer in class_tensors(model)]
    # Heads for boxes of panoptic data know its things only.
    if not isinstance(names, (list, tuple)) or not numbers or 'thing_classes' in meta or len(names) <= max(numbers):
        return meta
    warn(source, [f'the {len(names)} names of classes that it or the data set has are not those of the model\'s '
                  f'{max(numbers)}, which stay without names: give them as metainfo.classes of the test data.'])
    return {key: value for key, value in meta.items() if key not in ('classes', 'palette')}


def read_any_layout(source: str) -> str:
    """Let mmengine read a checkpoint with :func:`~focalnet_mm.weights.read_model`.

    Args:
        source: Path, URL or name of a checkpoint of any layout; downloaded here.

    Returns:
        The source for ``load_from``. What mmengine's storage backends read stays as it is.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ModuleNotFoundError: A name on the Hugging Face Hub, and ``huggingface_hub`` is not installed.
    """
    if '://' in source and not source.startswith(('http://', 'https://', 'hf://')):
        return source
    local_file(source)
    return SCHEME + source


def check_checkpoint(model: nn.Module, source: str) -> dict[str, Any]:
    """Check that a checkpoint holds every tensor of a model, since mmengine only warns where it does not.

    Args:
        model: The whole model, wrapped for distributed testing or test-time augmentation or not.
        source: As :func:`~focalnet_mm.weights.read_model` takes it.

    Returns:
        What it notes of its classes, see :func:`~focalnet_mm.weights.trained_classes`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or a tensor of the model is missing in it or has another shape.
    """
    read = read_model(source)
    tensors = read['state_dict']
    _check_tensors(unwrap(model), tensors, source)
    warn(source, worthless(tensors))
    return trained_classes(read['meta'])


def unwrap(model: nn.Module) -> Any:
    """The model itself, without what wraps it for distributed running or test-time augmentation."""
    inner: Any = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    return inner


def _tested(read: Mapping[str, Any], cfg: Config, source: str) -> Mapping[str, torch.Tensor]:
    """Those weights of a checkpoint that a test of the config would run with."""
    if not isinstance(read.get(LAST_STEP), Mapping):
        return read['state_dict']
    # mmpretrain's hook may be told so.
    hooks = [*(cfg.get('custom_hooks') or ()), *(cfg.get('default_hooks') or {}).values()]
    averaged = all(hook.get('evaluate_on_ema', True) for hook in hooks if type_name(hook) == 'EMAHook')
    print_log(f'{source} holds averaged weights and those of the last step: took '
              f'{"the averaged ones" if averaged else "the last, as evaluate_on_ema=False of the EMAHook says"}.',
              logger='current')
    if averaged:
        return read['state_dict']
    return {name.removeprefix('module.'): tensor for name, tensor in read[LAST_STEP].items()
            if name.startswith('module.')}


def _check_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    own = model.state_dict()
    # Older releases of torch did not count the batches, and whoever loads does without.
    missing = [name for name in own if name not in tensors and not name.endswith('.num_batches_tracked')]
    differing = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if missing:
        raise ValueError(f'The checkpoint {source} is not of this config: it lacks {len(missing)} of the model\'s '
                         f'{len(own)} tensors, the first is {missing[0]}.')
    if differing:
        name = differing[0]
        raise ValueError(f'The checkpoint {source} is not of this config: {len(differing)} of the model\'s {len(own)} '
                         f'tensors have other shapes, the first is {name}: {tuple(tensors[name].shape)} in the '
                         f'checkpoint, {tuple(own[name].shape)} in the model.')
    check_numbers(tensors, own, source)


def _test_meta(cfg: Config) -> dict[str, Any]:
    """Classes, palette and so on of the data set for tests, as far as the config or the data set's type names them."""
    dataset = first_dataset(cfg, 'test')
    return {**default_meta(cfg, dataset), **(dataset.get('metainfo') or {})}
