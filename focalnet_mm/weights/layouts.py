"""Names in other people's FocalNet checkpoints.

Ours are the official ones, so an official file only needs the prefix of its backbone taken off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..archs import ARCHS, resolve_arch

__all__ = ['guess_arch', 'measure', 'select_backbone']

# Every FocalNet has both. Other networks share the name of the first, timm's layout that of the second.
_STEM = 'patch_embed.proj.weight'
_MODULATION = 'layers.0.blocks.0.modulation.f.weight'


def select_backbone(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The backbone's tensors of a classifier's, detector's or segmenter's state dict, without their prefix.

    Args:
        state_dict: Tensors by name.
        prefix: Prefix of the backbone's tensors; found by itself where it is ``None``.

    Returns:
        The tensors by their official names, and the prefix that was taken off.

    Raises:
        ValueError: There is no FocalNet under the prefix, or there are several and none is named.
    """
    ends = [name.removesuffix(_MODULATION) for name in state_dict if name.endswith(_MODULATION)]
    prefixes = [end for end in ends if end + _STEM in state_dict]
    if prefix is not None:
        if prefix not in prefixes:
            found = ', '.join(map(repr, prefixes)) or 'none'
            raise ValueError(f'no FocalNet under the prefix {prefix!r} (prefixes with one: {found})')
        prefixes = [prefix]
    if not prefixes:
        raise ValueError(f'it holds no FocalNet in the official layout{_what_else(state_dict)}')
    if len(prefixes) > 1:
        raise ValueError(f'it holds several FocalNets, under {", ".join(map(repr, prefixes))}: name one with '
                         "init_cfg=dict(type='Pretrained', checkpoint=…, prefix=…)")
    prefix = prefixes[0]
    return {name[len(prefix):]: tensor for name, tensor in state_dict.items() if name.startswith(prefix)}, prefix


def _what_else(state_dict: Mapping[str, Tensor]) -> str:
    """What a state dict without an official FocalNet seems to be."""
    names = '\n'.join(state_dict)
    if re.search(r'(^|\.)stem\.proj\.weight$', names, re.M) and '.modulation.f.weight' in names:
        return ", but one in timm's layout, which is not read yet"
    if 'modulation.projection_in.weight' in names:
        return ", but one in transformers' layout, which is not read yet"
    if '.attn.qkv.' in names or '.attn.w_msa.' in names:
        return ', but a network with self-attention'
    return f'; its first tensors are {", ".join(list(state_dict)[:3])}'


def measure(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of a FocalNet, as far as they can be seen in its tensors.

    Args:
        tensors: A backbone's tensors by their official names; stages may be missing at the end.

    Returns:
        ``embed_dims``, ``depths`` and ``focal_levels`` as :class:`~focalnet_mm.FocalNet` takes them, the kernel of the
        stem, and whether there are a layer scale and norms inside the modulation; ``None`` where a tensor is missing.
    """
    depths: dict[int, int] = {}
    for name in tensors:
        if match := re.match(r'layers\.(\d+)\.blocks\.(\d+)\.', name):
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
    levels = []
    for stage in sorted(depths):
        f = tensors.get(f'layers.{stage}.blocks.0.modulation.f.weight')
        levels.append(None if f is None else f.shape[0] - 2 * f.shape[1] - 1)
    stem = tensors.get(_STEM)
    return dict(
        embed_dims=None if stem is None else stem.shape[0],
        depths=tuple(depths[stage] for stage in sorted(depths)),
        focal_levels=tuple(levels),
        stem_kernel=None if stem is None else stem.shape[-1],
        layer_scale='layers.0.blocks.0.gamma_1' in tensors,
        post_norm_in_modulation='layers.0.blocks.0.modulation.ln.weight' in tensors,
    )


def guess_arch(tensors: Mapping[str, Tensor]) -> str | None:
    """The published variant that a FocalNet's tensors belong to.

    Windows are not looked at, since dense models enlarge them; no two variants differ in nothing else.

    Args:
        tensors: A backbone's tensors by their official names; stages may be missing at the end.

    Returns:
        A key of :data:`~focalnet_mm.ARCHS`, or ``None``.
    """
    found = measure(tensors)
    for name in ARCHS:
        settings = resolve_arch(name)
        depths = tuple(settings['depths'])
        if (found['depths'] and found['depths'] == depths[:len(found['depths'])]
                and found['embed_dims'] == settings['embed_dims']
                and set(found['focal_levels']) == {settings['focal_levels']}
                and found['stem_kernel'] == (7 if settings['conv_stem'] else settings['patch_size'])
                and found['layer_scale'] == bool(settings['layer_scale_init_value'])
                and found['post_norm_in_modulation'] == settings['post_norm_in_modulation']):
            return name
    return None
