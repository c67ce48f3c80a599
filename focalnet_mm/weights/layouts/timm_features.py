"""timm's FocalNet as ``features_only=True`` builds it: no classifier, no norm, and stages named in one word."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from . import timm
from .names import backward, rename

__all__ = ['NORMS', 'SIGNS', 'from_official', 'to_official']

#: Two tensors that no other network and no other layout has both of: the second begins its name.
SIGNS = 'layers_0.blocks.0.modulation.f.weight', 'stem.proj.weight'
#: Which output norms it has a place for.
NORMS = 'none'
# (timm's, here).
_TABLE = (('layers.{stage}.', 'layers_{stage}.'),)


def from_official(official: Mapping[str, Tensor], arch: str | None) -> dict[str, Tensor]:
    """Official tensors by timm's names.

    Raises:
        ValueError: As timm's own layout; or there is a classifier's head.
    """
    if 'head.weight' in official:
        raise ValueError('The layout timm-features has no place for a classifier (head.weight, head.bias): convert the '
                         'backbone alone, with backbone_only.')
    return {rename(name, _TABLE): tensor for name, tensor in timm.from_official(official, arch).items()}


def to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's tensors by their official names."""
    return timm.to_official({rename(name, backward(_TABLE)): tensor for name, tensor in state_dict.items()})
