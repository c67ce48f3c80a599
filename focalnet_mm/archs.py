"""The published FocalNet variants, as data.

Figures: arXiv 2203.11926v3 and the yaml files of microsoft/FocalNet.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

__all__ = ['ARCHS', 'resolve_arch']

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
