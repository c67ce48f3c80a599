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
    patch_size=4,
    conv_stem=False,
    layer_scale_init_value=0.0,
    post_norm=False,
    post_norm_in_modulation=False,
    normalize_modulator=False,
)
REQUIRED = ('embed_dims', 'depths', 'focal_levels', 'focal_windows')

_SCALED_UP = dict(depths=(2, 2, 18, 2), conv_stem=True, post_norm=True, layer_scale_init_value=1e-4)

#: Name → the values of :class:`~focalnet_mm.FocalNet`'s arguments of the same names.
ARCHS: dict[str, dict[str, Any]] = {
    'tiny-srf': dict(embed_dims=96, depths=(2, 2, 6, 2), focal_levels=2, focal_windows=3),
    'tiny-lrf': dict(embed_dims=96, depths=(2, 2, 6, 2), focal_levels=3, focal_windows=3),
    'small-srf': dict(embed_dims=96, depths=(2, 2, 18, 2), focal_levels=2, focal_windows=3),
    'small-lrf': dict(embed_dims=96, depths=(2, 2, 18, 2), focal_levels=3, focal_windows=3),
    'base-srf': dict(embed_dims=128, depths=(2, 2, 18, 2), focal_levels=2, focal_windows=3),
    'base-lrf': dict(embed_dims=128, depths=(2, 2, 18, 2), focal_levels=3, focal_windows=3),
    'tiny-deep': dict(embed_dims=64, depths=(3, 3, 16, 3), focal_levels=3, focal_windows=3),
    'small-deep': dict(embed_dims=64, depths=(4, 4, 28, 4), focal_levels=3, focal_windows=3),
    'base-deep': dict(embed_dims=96, depths=(4, 4, 28, 4), focal_levels=3, focal_windows=3),
    'tiny-iso': dict(embed_dims=192, depths=(12,), focal_levels=3, focal_windows=3, patch_size=16),
    'small-iso': dict(embed_dims=384, depths=(12,), focal_levels=3, focal_windows=3, patch_size=16),
    'base-iso': dict(embed_dims=768, depths=(12,), focal_levels=3, focal_windows=3, patch_size=16,
                     post_norm=True, layer_scale_init_value=1e-4),
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
        levels.append(f.shape[0] - 2 * f.shape[1] - 1 if f is not None and f.dim() == 2 else None)
    stem = tensors.get('patch_embed.proj.weight')
    # A damaged file may hold anything by this name.
    stem = stem if stem is not None and stem.dim() == 4 else None
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
    found = read_settings(tensors)
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
