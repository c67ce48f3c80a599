"""Names in other people's FocalNet checkpoints.

Ours are the official ones, so an official file only needs the prefix of its backbone taken off. Every other layout is
a table beside the official one, or beside mmdet's, read in both directions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..archs import ARCHS, resolve_arch

__all__ = ['LAYOUTS', 'convert', 'detect_layout', 'guess_arch', 'measure', 'select_backbone', 'shorten', 'variant']

#: The layouts that :func:`convert` knows.
LAYOUTS = ('official', 'timm', 'transformers', 'mm', 'detrex')

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
# (mmdet's, detrex's) names of DINO's neck, transformer and heads.
_DETREX = (
    ('neck.convs.{level}.gn.', 'neck.convs.{level}.norm.'),
    ('neck.extra_convs.{level}.gn.', 'neck.extra_convs.{level}.norm.'),
    ('encoder.layers.{layer}.self_attn.', 'transformer.encoder.layers.{layer}.attentions.0.'),
    ('encoder.layers.{layer}.ffn.', 'transformer.encoder.layers.{layer}.ffns.0.'),
    ('decoder.layers.{layer}.self_attn.', 'transformer.decoder.layers.{layer}.attentions.0.'),
    ('decoder.layers.{layer}.cross_attn.', 'transformer.decoder.layers.{layer}.attentions.1.'),
    ('decoder.layers.{layer}.ffn.', 'transformer.decoder.layers.{layer}.ffns.0.'),
    ('encoder.', 'transformer.encoder.'),
    ('decoder.', 'transformer.decoder.'),
    ('level_embed', 'transformer.level_embeds'),
    ('query_embedding.', 'transformer.tgt_embed.'),
    ('memory_trans_fc.', 'transformer.enc_output.'),
    ('memory_trans_norm.', 'transformer.enc_output_norm.'),
    ('dn_query_generator.label_embedding.', 'label_enc.'),
    ('bbox_head.cls_branches.', 'class_embed.'),
    ('bbox_head.reg_branches.{layer}.0.', 'bbox_embed.{layer}.layers.0.'),
    ('bbox_head.reg_branches.{layer}.2.', 'bbox_embed.{layer}.layers.1.'),
    ('bbox_head.reg_branches.{layer}.4.', 'bbox_embed.{layer}.layers.2.'),
)
# detrex's decoder holds the heads a second time.
_DETREX_COPY = 'transformer.decoder.'
_DETREX_COPIED = ('class_embed.', 'bbox_embed.')
_CLASSIFIER = (('head.', 'head.fc.'),)

# timm stores these linear layers as 1×1 convolutions.
_POINTWISE = re.compile(r'\.(modulation\.(f|proj)|mlp\.fc[12])\.weight$')
_OUTPUT_NORM = re.compile(r'norm(\d+)\.')
# Two tensors of each layout that no other network and no other layout has both of: the second begins its name.
_SIGNS = {
    'official': ('layers.0.blocks.0.modulation.f.weight', 'patch_embed.proj.weight'),
    'timm': ('layers.0.blocks.0.modulation.f.weight', 'stem.proj.weight'),
    'transformers': ('encoder.stages.0.layers.0.modulation.projection_in.weight',
                     'embeddings.patch_embeddings.projection.weight'),
}
_STEM = _SIGNS['official'][1]
_DETREX_SIGN = 'transformer.encoder.layers.0.attentions.0.sampling_offsets.weight'
_EMA = re.compile(r'(^|[._])ema([._]|$)')


def detect_layout(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> str | None:
    """The layout of the FocalNet in a state dict.

    Args:
        state_dict: Tensors by name. A prefix such as ``module.``, ``model.`` or ``visual.`` doesn't matter.
        prefix: Prefix of the FocalNet's tensors, where there are several.

    Returns:
        One of :data:`LAYOUTS`: ``mm`` for whole models of mmdet, mmseg and mmpretrain, and others whose backbone lies
        under ``backbone.``; ``detrex`` for its DINO; or ``None`` where there is no FocalNet, or several.
    """
    try:
        return _layout(state_dict, *_find(state_dict, prefix))
    except ValueError:
        return None


def convert(state_dict: Mapping[str, Tensor], to: str, arch: str | None = None,
            backbone_only: bool = False) -> dict[str, Tensor]:
    """Rename the tensors of a model; shapes follow, values stay as they are.

    Classifiers and backbones are converted between ``official``, ``timm``, ``transformers`` and ``mm``, whose
    classifiers are mmpretrain's with ``GlobalAveragePooling`` and ``LinearClsHead``; whole DINO detectors between
    ``mm`` and ``detrex``. The way back gives the same tensors under the same names.

    Args:
        state_dict: Tensors in one of :data:`LAYOUTS`.
        to: Another of them.
        arch: A key of :data:`~focalnet_mm.ARCHS`, for tensors that no published variant has. Only timm's names depend
            on it: its norms are named by whether they come before or after.
        backbone_only: Leave out heads, and output norms that the other layout has no place for: a line of the log says
            which. The norm behind the last stage becomes that of the other layout.

    Returns:
        The tensors by their new names; they share memory with the old ones.

    Raises:
        ValueError: Unknown layout; no FocalNet; tensors that the other layout has no place for; or timm's layout is
            wanted and the variant is unknown, or computes something that timm's FocalNet cannot.
    """
    if to not in LAYOUTS:
        raise ValueError(f'Unknown layout {to!r}: choose from {", ".join(LAYOUTS)}.')
    try:
        prefix, layout = _find(state_dict)
    except ValueError as error:
        raise ValueError(f'These tensors cannot be converted: {error}.') from None
    backbone, heads = _take_apart(state_dict, prefix, layout)
    if backbone_only:
        left_out, heads = list(heads), {}
        left_out += [name for name in backbone if name.startswith('head.')]
        if to in ('timm', 'transformers'):
            last = len(measure(backbone)['depths']) - 1
            left_out += [name for name in backbone if (match := _OUTPUT_NORM.match(name)) and int(match[1]) != last]
        backbone = {name: tensor for name, tensor in backbone.items() if name not in left_out}
        if left_out:
            print_log(f'{len(left_out)} tensors are left out: {shorten(left_out)}.', logger='current')
    if to in ('mm', 'detrex'):
        return _put_together(backbone, heads, to)
    if heads:
        raise ValueError(f'The layout {to} has no place for {len(heads)} tensors of the heads ({shorten(heads)}): '
                         'convert the backbone alone, with backbone_only.')
    backbone = _with_one_norm(backbone)
    if to == 'official':
        return backbone
    surplus = [name for name in backbone if _OUTPUT_NORM.match(name)]
    if surplus:
        raise ValueError(f'The layout {to} has one norm, behind the last stage, and no place for {shorten(surplus)}: '
                         'leave them out with backbone_only.')
    return _to_transformers(backbone) if to == 'transformers' else _to_timm(backbone, arch)


def select_backbone(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The backbone's tensors of a classifier's, detector's or segmenter's state dict, by their official names.

    Args:
        state_dict: Tensors by name, in any layout.
        prefix: Prefix of the backbone's tensors; found by itself where it is ``None``.

    Returns:
        The tensors without their prefix, a classifier's norm and head among them, and the prefix.

    Raises:
        ValueError: There is no FocalNet under the prefix, or there are several and none is named.
    """
    prefix, layout = _find(state_dict, prefix)
    inside = {name[len(prefix):]: tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
    return _to_official(inside, layout), prefix


def _find(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> tuple[str, str]:
    """Prefix and names (official, timm's or transformers') of the FocalNet in a state dict; averaged copies beside it
    don't count."""
    found = {}
    for layout, (modulation, stem) in _SIGNS.items():
        for name in state_dict:
            if name.endswith(modulation):
                start = name.removesuffix(modulation)
                if start + stem in state_dict:
                    found[start.removesuffix('focalnet.') if layout == 'transformers' else start] = layout
    if prefix is not None:
        if prefix not in found:
            listed = ', '.join(map(repr, found)) or 'none'
            raise ValueError(f'no FocalNet under the prefix {prefix!r} (prefixes with one: {listed})')
        return prefix, found[prefix]
    found = {start: layout for start, layout in found.items() if not _EMA.search(start)} or found
    if not found:
        raise ValueError(f'it holds no FocalNet{_what_else(state_dict)}')
    if len(found) > 1:
        raise ValueError(f'it holds several FocalNets, under {", ".join(map(repr, found))}: name one with '
                         "init_cfg=dict(type='Pretrained', checkpoint=…, prefix=…)")
    return next(iter(found.items()))


def _layout(state_dict: Mapping[str, Tensor], prefix: str, layout: str) -> str:
    if layout == 'official' and prefix.endswith('backbone.'):
        return 'detrex' if prefix.removesuffix('backbone.') + _DETREX_SIGN in state_dict else 'mm'
    return layout


def _take_apart(state_dict: Mapping[str, Tensor], prefix: str,
                layout: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A backbone with a classifier's head by official names, and other heads by those of the OpenMMLab libraries."""
    backbone, _ = select_backbone(state_dict, prefix)
    whole = _layout(state_dict, prefix, layout)
    # What is wrapped around the whole model.
    outer = prefix.removesuffix('backbone.') if whole in ('mm', 'detrex') else ''
    heads = {name.removeprefix(outer): tensor for name, tensor in state_dict.items() if not name.startswith(prefix)}
    if whole == 'detrex':
        copies = {name: tensor for name, tensor in heads.items()
                  if name.startswith(tuple(_DETREX_COPY + part for part in _DETREX_COPIED))}
        for name, tensor in copies.items():
            original = heads.get(name.removeprefix(_DETREX_COPY))
            if original is None or not torch.equal(original, tensor):
                raise ValueError(f"{name} differs from {name.removeprefix(_DETREX_COPY)}, although detrex's decoder "
                                 'and heads share them: the checkpoint is damaged.')
        heads = {_rename(name, _backward(_DETREX)): tensor for name, tensor in heads.items() if name not in copies}
    elif whole == 'mm' and {'head.fc.weight', 'head.fc.bias'} == heads.keys():
        backbone.update({_rename(name, _backward(_CLASSIFIER)): tensor for name, tensor in heads.items()})
        heads = {}
    return backbone, heads


def _put_together(backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor], to: str) -> dict[str, Tensor]:
    classifier = {name: tensor for name, tensor in backbone.items() if name.startswith('head.')}
    last = len(measure(backbone)['depths']) - 1
    whole = {'backbone.' + _rename(name, (('norm.', f'norm{last}.'),)): tensor for name, tensor in backbone.items()
             if name not in classifier}
    if to == 'mm':
        whole.update({_rename(name, _CLASSIFIER): tensor for name, tensor in classifier.items()})
        return {**whole, **heads}
    renamed = {_rename(name, _DETREX): tensor for name, tensor in heads.items()}
    if _DETREX_SIGN not in renamed or classifier:
        raise ValueError("The layout detrex is that of its DINO detectors, which these tensors are not: choose from "
                         f'{", ".join(LAYOUTS[:-1])}.')
    copies = {_DETREX_COPY + name: tensor for name, tensor in renamed.items() if name.startswith(_DETREX_COPIED)}
    return {**whole, **renamed, **copies}


def _with_one_norm(backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output norm of a model that has one behind its last stage only becomes the classifier's."""
    last = f'norm{len(measure(backbone)["depths"]) - 1}.'
    norms = {_OUTPUT_NORM.match(name)[0] for name in backbone if _OUTPUT_NORM.match(name)}
    table = ((last, 'norm.'),) if norms == {last} and 'norm.weight' not in backbone else ()
    return {_rename(name, table): tensor for name, tensor in backbone.items()}


def _to_transformers(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_rename(name, _TRANSFORMERS): tensor for name, tensor in official.items()}


def _to_timm(official: Mapping[str, Tensor], arch: str | None) -> dict[str, Tensor]:
    arch, settings = variant(official, arch)
    if settings['normalize_modulator']:
        raise ValueError(f"timm's FocalNet does not normalise the modulator, which {arch} does: it would compute "
                         'something else with these tensors.')
    if settings['patch_size'] != 4:
        raise ValueError(f"timm's FocalNet has patches of 4×4 pixels, {arch} has {settings['patch_size']}×"
                         f'{settings["patch_size"]}: it has no place for these tensors.')
    table = (*_TIMM, *(_TIMM_POST_NORM if settings['post_norm'] else ()))
    return {_rename(name, table): tensor[..., None, None] if _POINTWISE.search(name) else tensor
            for name, tensor in official.items()}


def _to_official(state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    if source == 'timm':
        table = _backward((*_TIMM, *_TIMM_POST_NORM))
        renamed = ((_rename(name, table), tensor) for name, tensor in state_dict.items())
        official = {name: tensor.flatten(1) if _POINTWISE.search(name) else tensor for name, tensor in renamed}
        arch = guess_arch(official)
        if arch and resolve_arch(arch)['normalize_modulator']:
            print_log(f"These tensors in timm's layout are those of {arch}, which was trained with a normalised "
                      "modulator, as it is built here; timm's model of them leaves the normalisation out and computes "
                      'something else. For what timm computes set normalize_modulator=False.',
                      logger='current', level=logging.WARNING)
        return official
    if source == 'transformers':
        # FocalNetModel saves its tensors without the prefix that FocalNetForImageClassification gives them.
        bare = not any(name.startswith('focalnet.') for name in state_dict)
        return {_rename(f'focalnet.{name}' if bare else name, _backward(_TRANSFORMERS)): tensor
                for name, tensor in state_dict.items()}
    return dict(state_dict)


def _backward(table: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(theirs, ours) for ours, theirs in table]


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


def _what_else(state_dict: Mapping[str, Tensor]) -> str:
    """What a state dict without a FocalNet seems to be."""
    names = '\n'.join(state_dict)
    if '.attn.qkv.' in names or '.attn.w_msa.' in names:
        return ', but a network with self-attention: give the checkpoint of a FocalNet'
    return f' in the layout {", ".join(LAYOUTS[:-1])} or {LAYOUTS[-1]}; its first tensors are {shorten(state_dict, 3)}'


def shorten(names: Iterable[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    return ', '.join(names[:most]) + (f', … {len(names) - most} more' if len(names) > most else '')


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
