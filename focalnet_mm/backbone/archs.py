"""The published FocalNet variants, as data, and the variant that tensors are of.

Figures: arXiv 2203.11926v3 and the yaml files of microsoft/FocalNet.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ['ARCHS', 'guess_arch', 'read_settings', 'resolve_arch', 'variant']

# What a variant does not name is this.
DEFAULTS: dict[str, Any] = dict(
    modulation='focal',
    patch_size=4,
    conv_stem=False,
    stem_padding=2,
    layer_scale_init_value=0.0,
    post_norm=False,
    post_norm_in_modulation=False,
    normalize_modulator=False,
    depthwise_convs=False,
)
REQUIRED = ('embed_dims', 'depths', 'focal_levels', 'focal_windows')

_SCALED_UP = dict(depths=(2, 2, 18, 2), conv_stem=True, post_norm=True, layer_scale_init_value=1e-4)

#: Name → the values of :class:`~focalnet_mm.FocalNet`'s arguments of the same names.
ARCHS: dict[str, dict[str, Any]] = {
    'tiny-srf': dict(embed_dims=96, depths=(2, 2, 6, 2), focal_levels=2, focal_windows=3),
    'tiny-lrf': dict(embed_dims=96, depths=(2, 2, 6, 2), focal_levels=3, focal_windows=3),
    # X-Decoder's and SEEM's Focal-T.
    'tiny-dw': dict(embed_dims=96, depths=(2, 2, 6, 2), focal_levels=3, focal_windows=3, conv_stem=True, stem_padding=3,
                    post_norm=True, layer_scale_init_value=1e-4, normalize_modulator=True, depthwise_convs=True),
    'small-srf': dict(embed_dims=96, depths=(2, 2, 18, 2), focal_levels=2, focal_windows=3),
    'small-lrf': dict(embed_dims=96, depths=(2, 2, 18, 2), focal_levels=3, focal_windows=3),
    'base-srf': dict(embed_dims=128, depths=(2, 2, 18, 2), focal_levels=2, focal_windows=3),
    'base-lrf': dict(embed_dims=128, depths=(2, 2, 18, 2), focal_levels=3, focal_windows=3),
    'tiny-deep': dict(embed_dims=64, depths=(3, 3, 16, 3), focal_levels=3, focal_windows=3),
    'small-deep': dict(embed_dims=64, depths=(4, 4, 28, 4), focal_levels=3, focal_windows=3),
    'base-deep': dict(embed_dims=96, depths=(4, 4, 28, 4), focal_levels=3, focal_windows=3),
    # Table 2 of the paper: patches that overlap.
    'tiny-srf-overlap': dict(embed_dims=96, depths=(2, 2, 6, 2), focal_levels=2, focal_windows=3, conv_stem=True),
    'small-srf-overlap': dict(embed_dims=96, depths=(2, 2, 18, 2), focal_levels=2, focal_windows=3, conv_stem=True),
    'base-srf-overlap': dict(embed_dims=128, depths=(2, 2, 18, 2), focal_levels=2, focal_windows=3, conv_stem=True),
    # Table 3 of the paper, whose parameters fit two levels and patches that overlap. The authors' detection files have
    # three levels and patches that do not; those are the three without srf.
    'tiny-deep-srf': dict(embed_dims=64, depths=(3, 3, 16, 3), focal_levels=2, focal_windows=3, conv_stem=True),
    'small-deep-srf': dict(embed_dims=64, depths=(4, 4, 28, 4), focal_levels=2, focal_windows=3, conv_stem=True),
    'base-deep-srf': dict(embed_dims=96, depths=(4, 4, 28, 4), focal_levels=2, focal_windows=3, conv_stem=True),
    'tiny-iso': dict(embed_dims=192, depths=(12,), focal_levels=3, focal_windows=3, patch_size=16),
    'small-iso': dict(embed_dims=384, depths=(12,), focal_levels=3, focal_windows=3, patch_size=16),
    # The authors' switch for post-norm meant a norm inside the modulation, and blocks with pre-norm, when these weights
    # were trained (commit 9253a7f); since f4fcc2f it means something else.
    'base-iso': dict(embed_dims=768, depths=(12,), focal_levels=3, focal_windows=3, patch_size=16,
                     post_norm_in_modulation=True, layer_scale_init_value=1e-4),
    'large-fl3': dict(_SCALED_UP, embed_dims=192, focal_levels=3, focal_windows=5),
    'large-fl4': dict(_SCALED_UP, embed_dims=192, focal_levels=4, focal_windows=3, normalize_modulator=True),
    'xlarge-fl3': dict(_SCALED_UP, embed_dims=256, focal_levels=3, focal_windows=5),
    # The classification yaml leaves normalize_modulator off, the authors' DINO code turns it on; the public
    # weights were trained with the yaml.
    'xlarge-fl4': dict(_SCALED_UP, embed_dims=256, focal_levels=4, focal_windows=3),
    'huge-fl3': dict(_SCALED_UP, embed_dims=352, focal_levels=3, focal_windows=3, post_norm_in_modulation=True),
    'huge-fl4': dict(_SCALED_UP, embed_dims=352, focal_levels=4, focal_windows=3, post_norm_in_modulation=True),
}


def resolve_arch(arch: str | Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings of a variant.

    Args:
        arch: A key of :data:`ARCHS`, or a mapping with ``embed_dims``, ``depths``, ``focal_levels``,
            ``focal_windows`` and any of the other settings that :data:`ARCHS` uses.

    Returns:
        A new dict that holds every setting.

    Raises:
        ValueError: Unknown name, or a mapping with unknown or missing settings.
        TypeError: Neither a name nor a mapping.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            close = difflib.get_close_matches(arch, ARCHS, n=1)
            hint = f'did you mean {close[0]!r}? ' if close else ''
            raise ValueError(f'Unknown FocalNet arch {arch!r}: {hint}Available: {", ".join(ARCHS)}; '
                             'or pass a dict of settings.')
        return {**DEFAULTS, **ARCHS[arch]}
    if not isinstance(arch, Mapping):
        raise TypeError(f'arch must be a name or a dict of settings, got {type(arch).__name__}.')
    known = (*REQUIRED, *DEFAULTS)
    unknown = [key for key in arch if key not in known]
    missing = [key for key in REQUIRED if key not in arch]
    if unknown or missing:
        wrong = [f'{word} {", ".join(keys)}' for word, keys in (('unknown', unknown), ('missing', missing)) if keys]
        raise ValueError(f'The arch dict has {" and ".join(wrong)}; it takes {", ".join(known)}, '
                         f'of which {", ".join(REQUIRED)} are required.')
    return {**DEFAULTS, **arch}


def read_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of a FocalNet, as far as they can be seen in its tensors.

    Args:
        tensors: A backbone's tensors by their official names; stages may be missing at the end.

    Returns:
        ``embed_dims``, ``depths``, ``modulation`` and ``focal_levels`` as :class:`~focalnet_mm.FocalNet` takes them,
        the kernel of the stem, and whether there are a layer scale, norms inside the modulation and depthwise
        convolutions before it; ``None`` where a tensor is missing.
    """
    depths: dict[int, int] = {}
    for name in tensors:
        if match := re.match(r'layers\.(\d+)\.blocks\.(\d+)\.', name):
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
    modulations = [_read_modulation(tensors, f'layers.{stage}.blocks.0.modulation.') for stage in sorted(depths)]
    stem = tensors.get('patch_embed.proj.weight')
    # A damaged file may hold anything by this name.
    stem = stem if stem is not None and stem.dim() == 4 else None
    return dict(
        embed_dims=None if stem is None else stem.shape[0],
        depths=tuple(depths[stage] for stage in sorted(depths)),
        modulation=modulations[0][0] if modulations else None,
        focal_levels=tuple(levels for _, levels in modulations),
        stem_kernel=None if stem is None else stem.shape[-1],
        layer_scale='layers.0.blocks.0.gamma_1' in tensors,
        post_norm_in_modulation='layers.0.blocks.0.modulation.ln.weight' in tensors,
        depthwise_convs='layers.0.blocks.0.dw1.weight' in tensors,
    )


def _read_modulation(tensors: Mapping[str, Tensor], block: str) -> tuple[str | None, int | None]:
    """A block's modulation and its number of levels, as far as its tensors show them.

    With one level ``no_global`` and ``top_only`` are the same.
    """
    if (f := tensors.get(f'{block}f.weight')) is not None:
        return 'focal', f.shape[0] - 2 * f.shape[1] - 1 if f.dim() == 2 else None
    names = {name.removeprefix(block) for name in tensors if name.startswith(block)}
    levels = len({name.split('.')[1] for name in names if name.startswith('focal_layers.')})
    for modulation, sign in (('sliding_window', 'relative_position_bias_table'),
                             ('self_attention_qkv_first', 'qkv.weight'), ('self_attention_qkv_later', 'kv.weight'),
                             ('depthwise_convnet', 'q.weight')):
        if sign in names:
            return modulation, levels
    if 'f_q.weight' not in names:
        return None, None
    gates = tensors.get(f'{block}f_g.weight')
    if gates is None:
        return 'no_gating', levels
    maps = gates.shape[0]
    if not levels:
        return 'pooling', maps - 1
    return {levels + 1: 'sum', levels: 'no_global', 1: 'top_only'}.get(maps), levels


def guess_arch(tensors: Mapping[str, Tensor]) -> str | None:
    """The published variant that a FocalNet's tensors belong to.

    Windows are not looked at, since dense models enlarge them; no two variants differ in nothing else.

    Args:
        tensors: A backbone's tensors by their official names; stages may be missing at the end.

    Returns:
        A key of :data:`~focalnet_mm.ARCHS`, or ``None``.
    """
    found = read_settings(tensors)
    for name in ARCHS:
        settings = resolve_arch(name)
        depths = tuple(settings['depths'])
        if (found['depths'] and found['depths'] == depths[:len(found['depths'])]
                and found['modulation'] == settings['modulation']
                and found['embed_dims'] == settings['embed_dims']
                and set(found['focal_levels']) == {settings['focal_levels']}
                and found['stem_kernel'] == (7 if settings['conv_stem'] else settings['patch_size'])
                and found['layer_scale'] == bool(settings['layer_scale_init_value'])
                and found['post_norm_in_modulation'] == settings['post_norm_in_modulation']
                and found['depthwise_convs'] == settings['depthwise_convs']):
            return name
    return None


def variant(official: Mapping[str, Tensor], arch: str | None) -> tuple[str, dict[str, Any]]:
    """The variant that tensors are of, the one given or else the one they show, and its settings.

    Raises:
        ValueError: None is given, and they are of no published variant.
    """
    arch = arch or guess_arch(official)
    if arch is None:
        raise ValueError('These tensors are of no published variant, so that nothing tells whether their norms come '
                         'before or after: give arch.')
    return arch, resolve_arch(arch)
