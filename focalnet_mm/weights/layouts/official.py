"""The authors' names, which are ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

__all__ = ['NORMS', 'SIGNS', 'VARIANT_SIGNS', 'from_official', 'to_official']

#: Two tensors that no other network and no other layout has both of: the second begins its name.
SIGNS = 'layers.0.blocks.0.modulation.f.weight', 'patch_embed.proj.weight'
#: Those of blocks with another modulation, which the authors published no files of: they have ours.
VARIANT_SIGNS = 'layers.0.blocks.0.modulation.proj.weight', SIGNS[1]
#: Which output norms it has a place for.
NORMS = 'all'


def from_official(official: Mapping[str, Tensor], arch: str | None) -> dict[str, Tensor]:
    """The tensors as they are."""
    return dict(official)


def to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are."""
    return dict(state_dict)
