"""Numbers and words that a model keeps beside its tensors and changes as it trains, which no state dict holds: the size
in force of mmdet's ``BatchSyncRandomResize``, the thresholds of its Dynamic R-CNN and the like."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

__all__ = ['changed_attributes', 'plain_attributes', 'set_attributes']

# Objects of these packages are looked into, such as the assigners of a head.
_PACKAGES = ('mmengine', 'mmdet', 'mmseg', 'mmpretrain', 'focalnet_mm')
_PLAIN = (bool, int, float, str, type(None))
# Whatever a module counts is short; what is longer is data.
_MOST = 10_000


def plain_attributes(model: nn.Module) -> dict[str, Any]:
    """Copies of the attributes of all modules that are numbers, words, or lists and the like of them.

    Args:
        model: The model, without what wraps it.

    Returns:
        ``'path/of/module|name'`` → value.
    """
    return {f'{path}|{name}': copy.deepcopy(value) for path, owner in _owners(model)
            for name, value in vars(owner).items() if name != 'training' and _is_plain(value)}


def changed_attributes(model: nn.Module, before: Mapping[str, Any]) -> dict[str, Any]:
    """What has changed since :func:`plain_attributes`."""
    now = plain_attributes(model)
    return {key: value for key, value in now.items() if key not in before or not _same(before[key], value)}


def set_attributes(model: nn.Module, values: Mapping[str, Any]) -> None:
    """Set what :func:`changed_attributes` returned; what the model does not have is passed over."""
    owners = dict(_owners(model))
    for key, value in values.items():
        path, _, name = key.rpartition('|')
        if path in owners:
            vars(owners[path])[name] = copy.deepcopy(value)


def _owners(model: nn.Module) -> Iterator[tuple[str, Any]]:
    seen = set[int]()
    for path, module in model.named_modules():
        yield path, module
        for name, value in vars(module).items():
            of_library = type(value).__module__.partition('.')[0] in _PACKAGES
            if of_library and not isinstance(value, (nn.Module, type)) and hasattr(value, '__dict__') and (
                    id(value) not in seen):
                seen.add(id(value))
                yield f'{path}/{name}', value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= _MOST and all(map(_is_plain, value))
    if type(value) is dict:
        return len(value) <= _MOST and all(isinstance(key, (str, int)) and _is_plain(each)
                                           for key, each in value.items())
    return isinstance(value, _PLAIN)


def _same(first: Any, second: Any) -> bool:
    # NaN is what it was.
    return type(first) is type(second) and repr(first) == repr(second)
