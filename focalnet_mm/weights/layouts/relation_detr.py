"""Relation-DETR and Salience-DETR: the backbone is a sequence of the network and its output norms.

Names: models/backbones/focalnet.py of xiuqhou/Relation-DETR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ...backbone.archs import read_settings
from .names import backward, rename

__all__ = ['NORMS', 'from_official', 'outer', 'to_official']

#: Which output norms it has a place for.
NORMS = 'all'
_BACKBONE, _NETWORK, _NORMS = 'backbone.', '0.', '1.'
_TABLE = (('norm{stage}.', _NORMS + 'norm{stage}.'), ('', _NETWORK))


def outer(state_dict: Mapping[str, Tensor], prefix: str) -> str | None:
    """The prefix of network and norms together, where that of a network is one of theirs."""
    if not prefix.endswith(_NETWORK):
        return None
    start = prefix.removesuffix(_NETWORK)
    norms = re.compile(re.escape(start + _NORMS) + r'norm\d+\.weight$')
    return start if any(map(norms.match, state_dict)) else None


def from_official(official: Mapping[str, Tensor], arch: str | None) -> dict[str, Tensor]:
    """Official tensors by their names; the norm of a classifier becomes that of the last stage.

    Raises:
        ValueError: There is a classifier's head.
    """
    if 'head.weight' in official:
        raise ValueError('The layout relation-detr has no place for a classifier (head.weight, head.bias): convert the '
                         'backbone alone, with backbone_only.')
    last = (('norm.', f'norm{len(read_settings(official)["depths"]) - 1}.'),)
    return {_BACKBONE + rename(rename(name, last), _TABLE): tensor for name, tensor in official.items()}


def to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors by their official names."""
    return {rename(name.removeprefix(_BACKBONE), backward(_TABLE)): tensor for name, tensor in state_dict.items()}
