"""timm's FocalNet: linear layers are 1×1 convolutions, and a downsampling begins a stage; the official one ends it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor

from ...backbone.archs import guess_arch, resolve_arch, variant
from .names import BLOCK, backward, rename

__all__ = ['NORMS', 'SIGNS', 'from_official', 'to_official']

#: Two tensors that no other network and no other layout has both of: the second begins its name.
SIGNS = 'layers.0.blocks.0.modulation.f.weight', 'stem.proj.weight'
#: Which output norms it has a place for.
NORMS = 'last'
_TABLE = (
    ('patch_embed.', 'stem.'),
    ('layers.{stage}.downsample.', 'layers.{next}.downsample.'),
    (BLOCK + 'gamma_1', BLOCK + 'ls1.gamma'),
    (BLOCK + 'gamma_2', BLOCK + 'ls2.gamma'),
    (BLOCK + 'modulation.ln.', BLOCK + 'modulation.norm.'),
    ('head.', 'head.fc.'),
)
# Only in models with post-norm.
_POST_NORM = ((BLOCK + 'norm1.', BLOCK + 'norm1_post.'), (BLOCK + 'norm2.', BLOCK + 'norm2_post.'))
# timm stores these linear layers as 1×1 convolutions.
_POINTWISE = re.compile(r'\.(modulation\.(f|proj)|mlp\.fc[12])\.weight$')


def from_official(official: Mapping[str, Tensor], arch: str | None) -> dict[str, Tensor]:
    """Official tensors by timm's names; these depend on whether the variant's norms come before or after.

    Raises:
        ValueError: The variant is unknown, or computes something that timm's FocalNet cannot.
    """
    arch, settings = variant(official, arch)
    if settings['normalize_modulator']:
        raise ValueError(f"timm's FocalNet does not normalise the modulator, which {arch} does: it would compute "
                         'something else with these tensors.')
    if settings['patch_size'] != 4:
        raise ValueError(f"timm's FocalNet has patches of 4×4 pixels, {arch} has {settings['patch_size']}×"
                         f'{settings["patch_size"]}: it has no place for these tensors.')
    table = (*_TABLE, *(_POST_NORM if settings['post_norm'] else ()))
    return {rename(name, table): tensor[..., None, None] if _POINTWISE.search(name) else tensor
            for name, tensor in official.items()}


def to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's tensors by their official names; warns where timm's model computes something else with them."""
    table = backward((*_TABLE, *_POST_NORM))
    renamed = ((rename(name, table), tensor) for name, tensor in state_dict.items())
    official = {name: tensor.flatten(1) if _POINTWISE.search(name) else tensor for name, tensor in renamed}
    arch = guess_arch(official)
    if arch and resolve_arch(arch)['normalize_modulator']:
        print_log(f"These tensors in timm's layout are those of {arch}, which was trained with a normalised "
                  "modulator, as it is built here; timm's model of them leaves the normalisation out and computes "
                  'something else. For what timm computes set normalize_modulator=False.',
                  logger='current', level=logging.WARNING)
    return official
