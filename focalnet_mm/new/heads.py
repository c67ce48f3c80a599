"""Where a config's model says the number of classes, and which weights it starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..run.config import type_name
from .literals import Code

__all__ = ['class_settings', 'pretrained']

# They tell objects from none, or have no classes.
_LEFT_OUT = ('rpn_head', 'backbone', 'neck')
_COUNTS = {'num_things_classes': Code('num_things'), 'num_stuff_classes': Code('num_stuff')}


def class_settings(node: Mapping[str, Any], place: str, panoptic: bool = False) -> dict[str, Any]:
    """What must be said in a config that inherits another, so that every head has other classes.

    Lists are replaced as a whole by a config that inherits them: theirs are written as a comprehension over the base's.

    Args:
        node: The settings of the base's model, or of a part of it.
        place: How the part is named in the config, such as ``'_base_.model'``.
        panoptic: Whether there are things and stuff, of which heads of regions know the things only.

    Returns:
        Settings that name ``num_classes``, ``num_things`` and ``num_stuff``, nested as the base's are.

    Raises:
        ValueError: The base weighs its classes in the loss, each by itself.
    """
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in _LEFT_OUT:
            continue
        inner, regions = f'{place}.{key}', panoptic and '.roi_head' in place
        if key == 'num_classes' and isinstance(value, int):
            found[key] = Code('num_things' if regions else 'num_classes')
        elif key in _COUNTS and isinstance(value, int):
            found[key] = _COUNTS[key]
        elif key == 'class_weight' and isinstance(value, Sequence):
            found[key] = _weights(value, inner)
        elif isinstance(value, Mapping):
            if settings := class_settings(value, inner, panoptic):
                found[key] = settings
        elif isinstance(value, (list, tuple)) and (code := _of_list(value, inner, panoptic)):
            found[key] = code
    return found


def _weights(weights: Sequence[float], place: str) -> Code:
    """Weights of classes, of which Mask2Former's last is that of no object."""
    if len(set(weights[:-1])) != 1:
        raise ValueError(f'{place.removeprefix("_base_.")} weighs each class by itself, and the classes are others: '
                         'leave it out in the config that is the base.')
    return Code(f'[{weights[0]!r}] * num_classes + [{weights[-1]!r}]')


def _of_list(items: Sequence[Any], place: str, panoptic: bool) -> Code | list[Any] | None:
    each = [class_settings(item, f'{place}[{i}]', panoptic) if isinstance(item, Mapping) else {}
            for i, item in enumerate(items)]
    if not any(each):
        return None
    first = each[0]
    if all(settings == first for settings in each) and all(isinstance(value, Code) for value in first.values()):
        changes = ', '.join(f'{key}={value}' for key, value in first.items())
        return Code(f'[dict(each, {changes}) for each in {place}]')
    return [_merged(item, settings) for item, settings in zip(items, each)]


def _merged(item: Any, settings: Mapping[str, Any]) -> Any:
    """An item of a list as it is, with other settings."""
    if not isinstance(item, Mapping):
        return item
    return {key: _merged(value, settings[key]) if isinstance(settings.get(key), Mapping) else settings.get(key, value)
            for key, value in item.items()}


def pretrained(model: Mapping[str, Any]) -> str | None:
    """The checkpoint that a model's backbone starts from by itself, if any."""
    backbone = model.get('backbone')
    init = backbone.get('init_cfg') if isinstance(backbone, Mapping) else None
    for each in init if isinstance(init, list) else [init]:
        if isinstance(each, Mapping) and type_name(each) in ('Pretrained', 'FocalNetPretrained'):
            return each.get('checkpoint')
    return None
