"""Names in other people's FocalNet checkpoints.

Ours are the official ones, so an official file only needs the prefix of its backbone taken off. Every other layout is
a table beside the official one, read in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ..archs import ARCHS, resolve_arch

__all__ = ['LAYOUTS', 'convert', 'detect_layout', 'guess_arch', 'measure', 'select_backbone']

# Every FocalNet has both. Other networks share the name of the first, timm's layout that of the second.
_STEM = 'patch_embed.proj.weight'
_MODULATION = 'layers.0.blocks.0.modulation.f.weight'


_BLOCK = 'layers.{stage}.blocks.{block}.'
_HF_BLOCK = 'focalnet.encoder.stages.{stage}.layers.{block}.'
# Beginnings of names: (official, theirs); of several that fit a name the first holds, the rest of the name stays.
# {next} is {stage} + 1: timm's downsampling begins a stage, the official one ends it.
_TIMM = (
    ('patch_embed.', 'stem.'),
    ('layers.{stage}.downsample.', 'layers.{next}.downsample.'),
    (_BLOCK + 'gamma_1', _BLOCK + 'ls1.gamma'),
    (_BLOCK + 'gamma_2', _BLOCK + 'ls2.gamma'),
    (_BLOCK + 'modulation.ln.', _BLOCK + 'modulation.norm.'),
    ('head.', 'head.fc.'),
)
# Only in models with post-norm.
_TIMM_POST_NORM = ((_BLOCK + 'norm1.', _BLOCK + 'norm1_post.'), (_BLOCK + 'norm2.', _BLOCK + 'norm2_post.'))
_TRANSFORMERS = (
    ('patch_embed.proj.', 'focalnet.embeddings.patch_embeddings.projection.'),
    ('patch_embed.norm.', 'focalnet.embeddings.norm.'),
    ('layers.{stage}.downsample.proj.', 'focalnet.encoder.stages.{stage}.downsample.projection.'),
    ('layers.{stage}.downsample.norm.', 'focalnet.encoder.stages.{stage}.downsample.norm.'),
    (_BLOCK + 'modulation.f.', _HF_BLOCK + 'modulation.projection_in.'),
    (_BLOCK + 'modulation.h.', _HF_BLOCK + 'modulation.projection_context.'),
    (_BLOCK + 'modulation.proj.', _HF_BLOCK + 'modulation.projection_out.'),
    (_BLOCK + 'modulation.ln.', _HF_BLOCK + 'modulation.layernorm.'),
    (_BLOCK, _HF_BLOCK),
    ('norm.', 'focalnet.layernorm.'),
    ('head.', 'classifier.'),
)
#: The layouts that :func:`convert` knows.
LAYOUTS = ('official', 'timm', 'transformers')
# timm stores these linear layers as 1×1 convolutions.
_POINTWISE = re.compile(r'\.(modulation\.(f|proj)|mlp\.fc[12])\.weight$')


def detect_layout(state_dict: Mapping[str, Tensor]) -> str | None:
    """The layout of a classifier's or backbone's tensors.

    Args:
        state_dict: Tensors by name, without the prefix of a detector.

    Returns:
        ``official``, ``timm`` or ``transformers``, or ``None`` where they are no FocalNet without a prefix.
    """
    if _STEM in state_dict and _MODULATION in state_dict:
        return 'official'
    if 'stem.proj.weight' in state_dict and _MODULATION in state_dict:
        return 'timm'
    modulation = _rename(_MODULATION, _TRANSFORMERS)
    if modulation in state_dict or modulation.removeprefix('focalnet.') in state_dict:
        return 'transformers'
    return None


def convert(state_dict: Mapping[str, Tensor], to: str, arch: str | None = None) -> dict[str, Tensor]:
    """Rename the tensors of a classifier or backbone; shapes follow, values stay as they are.

    Args:
        state_dict: Tensors in one of :data:`LAYOUTS`.
        to: Another of them.
        arch: A key of :data:`~focalnet_mm.ARCHS`, for tensors that no published variant has. Only timm's names depend
            on it: its norms are named by whether they come before or after.

    Returns:
        The tensors by their new names; they share memory with the old ones.

    Raises:
        ValueError: Unknown layout; or timm's is wanted and the variant is unknown, or computes something that timm's
            FocalNet cannot.
    """
    source = detect_layout(state_dict)
    if source is None:
        raise ValueError(f'These tensors are no FocalNet in the layout {" or ".join(LAYOUTS)}'
                         f'{_what_else(state_dict)}.')
    if to not in LAYOUTS:
        raise ValueError(f'Unknown layout {to!r}: choose from {", ".join(LAYOUTS)}.')
    official = _to_official(state_dict, source)
    if to == 'official':
        return official
    if to == 'transformers':
        return {_rename(name, _TRANSFORMERS): tensor for name, tensor in official.items()}
    arch = arch or guess_arch(official)
    if arch is None:
        raise ValueError('These tensors are of no published variant, so that nothing tells whether their norms come '
                         'before or after: give arch.')
    settings = resolve_arch(arch)
    if settings['normalize_modulator']:
        raise ValueError(f"timm's FocalNet does not normalise the modulator, which {arch} does: it would compute "
                         'something else with these tensors.')
    table = (*_TIMM, *(_TIMM_POST_NORM if settings['post_norm'] else ()))
    return {_rename(name, table): tensor[..., None, None] if _POINTWISE.search(name) else tensor
            for name, tensor in official.items()}


def _to_official(state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    if source == 'timm':
        table = [(theirs, ours) for ours, theirs in (*_TIMM, *_TIMM_POST_NORM)]
        renamed = ((_rename(name, table), tensor) for name, tensor in state_dict.items())
        return {name: tensor.flatten(1) if _POINTWISE.search(name) else tensor for name, tensor in renamed}
    if source == 'transformers':
        # FocalNetModel saves its tensors without the prefix that FocalNetForImageClassification gives them.
        bare = not any(name.startswith('focalnet.') for name in state_dict)
        table = [(theirs, ours) for ours, theirs in _TRANSFORMERS]
        return {_rename(f'focalnet.{name}' if bare else name, table): tensor for name, tensor in state_dict.items()}
    return dict(state_dict)


def _rename(name: str, table: Iterable[tuple[str, str]]) -> str:
    for old, new in table:
        pattern = re.sub(r'\\{(\w+)\\}', r'(?P<\1>\\d+)', re.escape(old))
        if match := re.match(pattern, name):
            numbers = {key: int(value) for key, value in match.groupdict().items()}
            if 'next' in numbers:
                numbers['stage'] = numbers['next'] - 1
            elif 'stage' in numbers:
                numbers['next'] = numbers['stage'] + 1
            return new.format(**numbers) + name[match.end():]
    return name


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
    if re.search(r'\.stem\.proj\.weight$', names, re.M) and '.modulation.f.weight' in names:
        return ", but one in timm's layout under a prefix, which is not read"
    if 'modulation.projection_in.weight' in names:
        return ", but one in transformers' layout under a prefix, which is not read"
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
