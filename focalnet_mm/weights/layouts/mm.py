"""mmdet, mmseg and mmpretrain: the backbone lies under ``backbone.``, heads beside it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...backbone.archs import read_settings
from .names import backward, rename

__all__ = ['PREFIX', 'join', 'split']

#: What the names of the backbone's tensors begin with.
PREFIX = 'backbone.'
# A classifier's head (official, mmpretrain's LinearClsHead).
_CLASSIFIER = (('head.', 'head.fc.'),)


def split(heads: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors beside a backbone: a classifier's head by official names, and all others as they are."""
    if {'head.fc.weight', 'head.fc.bias'} == heads.keys():
        return {rename(name, backward(_CLASSIFIER)): tensor for name, tensor in heads.items()}, {}
    return {}, dict(heads)


def join(backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole model of a backbone by official names, a classifier's norm and head among them, and other heads."""
    last = len(read_settings(backbone)['depths']) - 1
    norm = (('norm.', f'norm{last}.'),)
    whole = {PREFIX + rename(name, norm): tensor for name, tensor in backbone.items() if not name.startswith('head.')}
    whole.update({rename(name, _CLASSIFIER): tensor for name, tensor in backbone.items() if name.startswith('head.')})
    return {**whole, **heads}
