"""transformers' FocalNet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .names import BLOCK, backward, rename

__all__ = ['NORMS', 'SIGNS', 'from_official', 'to_official']

#: Two tensors that no other network and no other layout has both of: the second begins its name.
SIGNS = ('encoder.stages.0.layers.0.modulation.projection_in.weight', 'embeddings.patch_embeddings.projection.weight')
#: Which output norms it has a place for.
NORMS = 'last'
_THEIR_BLOCK = 'focalnet.encoder.stages.{stage}.layers.{block}.'
_TABLE = (
    ('patch_embed.proj.', 'focalnet.embeddings.patch_embeddings.projection.'),
    ('patch_embed.norm.', 'focalnet.embeddings.norm.'),
    ('layers.{stage}.downsample.proj.', 'focalnet.encoder.stages.{stage}.downsample.projection.'),
    ('layers.{stage}.downsample.norm.', 'focalnet.encoder.stages.{stage}.downsample.norm.'),
    (BLOCK + 'modulation.f.', _THEIR_BLOCK + 'modulation.projection_in.'),
    (BLOCK + 'modulation.h.', _THEIR_BLOCK + 'modulation.projection_context.'),
    (BLOCK + 'modulation.proj.', _THEIR_BLOCK + 'modulation.projection_out.'),
    (BLOCK + 'modulation.ln.', _THEIR_BLOCK + 'modulation.layernorm.'),
    (BLOCK, _THEIR_BLOCK),
    ('norm.', 'focalnet.layernorm.'),
    ('head.', 'classifier.'),
)


def from_official(official: Mapping[str, Tensor], arch: str | None) -> dict[str, Tensor]:
    """Official tensors by transformers' names, which are the same for all variants."""
    return {rename(name, _TABLE): tensor for name, tensor in official.items()}


def to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' tensors by their official names."""
    # FocalNetModel saves its tensors without the prefix that FocalNetForImageClassification gives them.
    bare = not any(name.startswith('focalnet.') for name in state_dict)
    return {rename(f'focalnet.{name}' if bare else name, backward(_TABLE)): tensor
            for name, tensor in state_dict.items()}
