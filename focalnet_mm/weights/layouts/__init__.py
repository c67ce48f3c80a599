"""Names in other people's FocalNet checkpoints.

Ours are the official ones, so an official file only needs the prefix of its backbone taken off. Every other layout is
a file with a table beside the official names, or beside mmdet's, read in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor

from ...backbone.archs import read_settings
from . import detrex, idea_dino, mm, mm2, official, relation_detr, timm, timm_features, transformers
from .names import rename, shorten, uncompiled

__all__ = ['LAYOUTS', 'convert', 'detect_layout', 'layout_of', 'select_backbone', 'shorten',
           'uncompiled', 'without_outer']

#: The layouts that :func:`convert` knows.
LAYOUTS = ('official', 'timm', 'timm-features', 'transformers', 'relation-detr', 'mm', 'mm2', 'detrex', 'idea-dino')
# Those of a backbone or classifier alone.
_BARE = {'official': official, 'timm': timm, 'timm-features': timm_features, 'transformers': transformers,
         'relation-detr': relation_detr}
# Those of whole detectors, and what the names of their backbone's tensors begin with.
_DETECTORS = {'mm2': (mm2, mm.PREFIX), 'detrex': (detrex, mm.PREFIX),
              'idea-dino': (idea_dino, f'{mm.PREFIX}0.')}
_OUTPUT_NORM = re.compile(r'norm(\d+)\.')
_EMA = re.compile(r'(^|[._])ema([._]|$)')


def detect_layout(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> str | None:
    """The layout of the FocalNet in a state dict.

    Args:
        state_dict: Tensors by name. A prefix such as ``module.``, ``model.`` or ``visual.`` doesn't matter.
        prefix: Prefix of the FocalNet's tensors, where there are several; with or without its last dot.

    Returns:
        One of :data:`LAYOUTS`: ``mm`` for whole models of mmdet, mmseg and mmpretrain, and others whose backbone lies
        under ``backbone.``; ``mm2`` for those of mmdet 2 that have other names; ``detrex`` and ``idea-dino`` for DINO
        of detrex and of IDEA-Research's code, which FocalNet-DINO's is; or ``None`` where there is no FocalNet, or
        several.
    """
    try:
        return layout_of(state_dict, prefix)
    except ValueError:
        return None


def layout_of(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> str:
    """What :func:`detect_layout` finds.

    Raises:
        ValueError: There is no FocalNet, or there are several; says so as part of a sentence.
    """
    return _layout(state_dict, *_find(state_dict, prefix))


def convert(state_dict: Mapping[str, Tensor], to: str, arch: str | None = None,
            backbone_only: bool = False) -> dict[str, Tensor]:
    """Rename the tensors of a model; shapes follow, values stay as they are.

    Classifiers and backbones are converted between ``official``, ``timm``, ``transformers`` and ``mm``, whose
    classifiers are mmpretrain's with ``GlobalAveragePooling`` and ``LinearClsHead``; backbones also to and from
    ``timm-features`` and ``relation-detr``; whole DINO detectors between ``mm``, ``detrex`` and ``idea-dino``, and
    Mask2Former between ``mm`` and ``mm2``. The way back gives the same tensors under the same names. ``idea-dino``
    numbers classes by the ids of their data set: 91 rows become COCO's 80 classes and 366 those of Objects365, and on
    the way back the ids without a category get rows that find nothing.

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
        left_out = [*heads, *(name for name in backbone if name.startswith('head.'))]
        left_out += _norms_without_place(backbone, to)
        backbone = {name: tensor for name, tensor in backbone.items() if name not in left_out}
        heads = {}
        if left_out:
            print_log(f'{len(left_out)} tensors are left out: {shorten(left_out)}.', logger='current')
    _check_network(backbone, to)
    if to == 'mm':
        return mm.join(backbone, heads)
    if to in _DETECTORS:
        return _to_detector(backbone, heads, to)
    if heads:
        raise ValueError(f'The layout {to} has no place for {len(heads)} tensors of the heads ({shorten(heads)}): '
                         'convert the backbone alone, with backbone_only.')
    if to != 'relation-detr':
        backbone = _with_one_norm(backbone)
    surplus = _norms_without_place(backbone, to)
    if surplus:
        norms = 'one norm, behind the last stage,' if _BARE[to].NORMS == 'last' else 'no norms'
        raise ValueError(f'The layout {to} has {norms} and no place for {shorten(surplus)}: leave them out with '
                         'backbone_only.')
    return _BARE[to].from_official(backbone, arch)


def select_backbone(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The backbone's tensors of a classifier's, detector's or segmenter's state dict, by their official names.

    Args:
        state_dict: Tensors by name, in any layout.
        prefix: Prefix of the backbone's tensors, with or without its last dot; found by itself where it is ``None``.

    Returns:
        The tensors without their prefix, a classifier's norm and head among them, and the prefix.

    Raises:
        ValueError: There is no FocalNet under the prefix, or there are several and none is named.
    """
    prefix, layout = _find(state_dict, prefix)
    inside = {name[len(prefix):]: tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
    return _BARE[layout].to_official(inside), prefix


def without_outer(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole model of mmdet, mmseg or mmpretrain without what all of its names begin with.

    Args:
        state_dict: Tensors by name.

    Returns:
        The same tensors; by the same names where there is no such prefix, or it is no such model.
    """
    try:
        prefix, layout = _find(state_dict)
    except ValueError:
        return dict(state_dict)
    outer = prefix.removesuffix(mm.PREFIX)
    if _layout(state_dict, prefix, layout) != 'mm' or not all(name.startswith(outer) for name in state_dict):
        return dict(state_dict)
    return {name.removeprefix(outer): tensor for name, tensor in state_dict.items()}


def _find(state_dict: Mapping[str, Tensor], prefix: str | None = None) -> tuple[str, str]:
    """Prefix and names (official, timm's or transformers') of the FocalNet in a state dict; averaged copies beside it
    don't count."""
    found = {}
    signs = [*((layout, module.SIGNS) for layout, module in _BARE.items() if module is not relation_detr),
             ('official', official.VARIANT_SIGNS)]
    for layout, (modulation, stem) in signs:
        for name in state_dict:
            if name.endswith(modulation):
                start = name.removesuffix(modulation)
                if start + stem in state_dict:
                    found[start.removesuffix('focalnet.') if layout == 'transformers' else start] = layout
    for start in list(found):
        outer = relation_detr.outer(state_dict, start)
        if outer is not None:
            found[outer] = 'relation-detr'
            # Who asks for the network alone gets it.
            if prefix is None:
                del found[start]
    if prefix is not None:
        # mmengine adds the dot too.
        if prefix not in found and f'{prefix}.' in found:
            prefix = f'{prefix}.'
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
    if layout != 'official':
        return layout
    for name, (module, inside) in _DETECTORS.items():
        if prefix.endswith(inside) and prefix.removesuffix(inside) + module.SIGN in state_dict:
            return name
    return 'mm' if prefix.endswith(mm.PREFIX) else layout


def _take_apart(state_dict: Mapping[str, Tensor], prefix: str,
                layout: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A backbone with a classifier's head by official names, and other heads by those of the OpenMMLab libraries."""
    backbone, _ = select_backbone(state_dict, prefix)
    whole = _layout(state_dict, prefix, layout)
    # What is wrapped around the whole model.
    inside = dict({name: inside for name, (_, inside) in _DETECTORS.items()}, mm=mm.PREFIX).get(whole)
    outer = prefix.removesuffix(inside) if inside else ''
    heads = {name.removeprefix(outer): tensor for name, tensor in state_dict.items() if not name.startswith(prefix)}
    if whole in _DETECTORS:
        heads = _DETECTORS[whole][0].to_mm(heads)
    elif whole == 'mm':
        classifier, heads = mm.split(heads)
        backbone.update(classifier)
    return backbone, heads


def _to_detector(backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor], to: str) -> dict[str, Tensor]:
    module, prefix = _DETECTORS[to]
    renamed = module.from_mm(heads)
    if module.SIGN not in renamed or any(name.startswith('head.') for name in backbone):
        others = ', '.join(name for name in LAYOUTS if name not in _DETECTORS)
        raise ValueError(f'The layout {to} is that of {module.KIND}, which these tensors are not: choose from '
                         f'{others}.')
    return {**{prefix + name: tensor for name, tensor in backbone.items()}, **renamed}


def _check_network(backbone: Mapping[str, Tensor], to: str) -> None:
    """Refuse what a layout's own FocalNet does not compute."""
    settings = read_settings(backbone)
    if settings['modulation'] not in ('focal', None) and to not in ('mm', 'official'):
        raise ValueError(f'The layout {to} has no place for modulation={settings["modulation"]!r}: only focal '
                         'modulation is known there, and official and mm take any.')
    if settings['depthwise_convs'] and to not in ('mm', 'official', 'relation-detr'):
        raise ValueError(f"These are tensors of X-Decoder's Focal-T (tiny-dw), and the FocalNet of the layout {to} "
                         'lacks their depthwise convolutions: it has no place for them.')


def _norms_without_place(backbone: Mapping[str, Tensor], to: str) -> list[str]:
    """Norms behind stages that a layout of backbones and classifiers does not have."""
    kept = _BARE[to].NORMS if to in _BARE else 'all'
    last = len(read_settings(backbone)['depths']) - 1
    return [name for name in backbone if (kept == 'none' and re.match(r'norm\d*\.', name)) or (
        kept == 'last' and (match := _OUTPUT_NORM.match(name))
        and (int(match[1]) != last or 'norm.weight' in backbone))]


def _with_one_norm(backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output norm of a model that has one behind its last stage only becomes the classifier's."""
    last = f'norm{len(read_settings(backbone)["depths"]) - 1}.'
    norms = {match[0] for name in backbone if (match := _OUTPUT_NORM.match(name))}
    table = ((last, 'norm.'),) if norms == {last} and 'norm.weight' not in backbone else ()
    return {rename(name, table): tensor for name, tensor in backbone.items()}


def _what_else(state_dict: Mapping[str, Tensor]) -> str:
    """What a state dict without a FocalNet seems to be."""
    names = '\n'.join(state_dict)
    if '.attn.qkv.' in names or '.attn.w_msa.' in names:
        return ', but a network with self-attention: give the checkpoint of a FocalNet'
    return f' in the layout {", ".join(LAYOUTS[:-1])} or {LAYOUTS[-1]}; its first tensors are {shorten(state_dict, 3)}'
