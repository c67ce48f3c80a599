"""FocalNet-DINO and its parent, IDEA-Research's DINO, beside mmdet's.

Names: models/dino/dino.py and models/dino/deformable_transformer.py of IDEA-Research/DINO. Class rows there are the
data set's own category ids, which have gaps; mmdet numbers the categories one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor

from .names import backward, rename

__all__ = ['KIND', 'SIGN', 'category_ids', 'data_set', 'from_mm', 'to_mm']

#: What models are of this layout.
KIND = "the DINO detectors of IDEA-Research and FocalNet-DINO"
#: A tensor that only these detectors have.
SIGN = 'transformer.encoder.layers.0.self_attn.sampling_offsets.weight'
# The category ids from 1 to 90 that COCO's detection data have no boxes of.
_UNUSED_BY_COCO = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
# Rows of the classifiers → mmdet's class of the data set, and the ids of its categories in order.
_DATA_SETS = {
    91: ('CocoDataset', tuple(i for i in range(1, 91) if i not in _UNUSED_BY_COCO)),
    366: ('Objects365V2Dataset', tuple(range(1, 366))),
}
# What the classifier says of ids that no category has: their sigmoid is 0.
_NEVER = -100.0
_DECODER = 'transformer.decoder.'
_COPIED = ('class_embed.', 'bbox_embed.')
_CLASSIFIER = re.compile(r'bbox_head\.cls_branches\.\d+\.(weight|bias)$')
_LABELS = 'dn_query_generator.label_embedding.weight'


def category_ids(rows: int) -> Sequence[int]:
    """Which rows of a classifier belong to the categories of its data set.

    Args:
        rows: How many there are: 91 are COCO's, 366 those of Objects365, and any others belong to a class each.

    Returns:
        The rows, in the order of mmdet's classes.
    """
    return _DATA_SETS[rows][1] if rows in _DATA_SETS else range(rows)


def data_set(state_dict: Mapping[str, Tensor]) -> str | None:
    """mmdet's class of the data set that a detector in this layout was trained on, or ``None`` where it is unknown."""
    rows = next((len(tensor) for name, tensor in state_dict.items() if name.endswith('class_embed.0.bias')), 0)
    return _DATA_SETS[rows][0] if rows in _DATA_SETS else None


def to_mm(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors beside the backbone by mmdet's names, with the rows of classes that the data set has.

    Raises:
        ValueError: Copies of a tensor differ, or the rows of two classifiers.
    """
    _check_copies(heads)
    inputs = [name for name in heads if re.fullmatch(r'input_proj\.\d+\.0\.weight', name)]
    # Of the convolutions that join a feature map of the backbone, or make a smaller map, the latter have a 3×3 kernel.
    joined = sum(heads[name].shape[-1] == 1 for name in inputs)
    stages = 1 + max((int(name.split('.')[1]) for name in heads if name.startswith('class_embed.')), default=-1)
    table = backward(_table(joined, len(inputs) - joined, stages))
    renamed = {rename(name, table): tensor for name, tensor in heads.items()
               if not name.startswith(tuple(_DECODER + part for part in _COPIED))}
    rows = _rows(renamed)
    if rows is None:
        return renamed
    ids = category_ids(rows)
    if rows in _DATA_SETS:
        print_log(f'The {rows} class rows are numbered by category ids: the {len(ids)} of {_DATA_SETS[rows][0]} are '
                  'taken.', logger='current')
    # A range takes a view, which shares the memory.
    chosen = slice(ids[0], ids[-1] + 1) if isinstance(ids, range) or len(ids) == ids[-1] else torch.tensor(ids)
    return {name: tensor[chosen] if _CLASSIFIER.match(name) or name == _LABELS else tensor
            for name, tensor in renamed.items()}


def from_mm(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors beside the backbone by IDEA-Research's names; ids without a category get rows that find nothing."""
    joined, made, stages = (1 + max((int(match[1]) for name in heads if (match := re.match(pattern, name))), default=-1)
                            for pattern in (r'neck\.convs\.(\d+)\.', r'neck\.extra_convs\.(\d+)\.',
                                            r'bbox_head\.cls_branches\.(\d+)\.'))
    rows = _rows(heads)
    wide = {len(ids): rows for rows, (_, ids) in _DATA_SETS.items()}.get(rows or 0, rows)
    spread = {}
    for name, tensor in heads.items():
        if wide and _CLASSIFIER.match(name):
            tensor = _spread(tensor, wide, wide, _NEVER if name.endswith('bias') else 0.0)
        elif wide and name == _LABELS:
            # One more row, which stands for no label.
            tensor = _spread(tensor, wide, wide + 1, 0.0)
        spread[name] = tensor
    table = list(_table(joined, made, stages - 1))
    renamed = {rename(name, table): tensor for name, tensor in spread.items()}
    _tell_of_heads(renamed, stages - 1)
    return {**renamed, **{_DECODER + name: tensor for name, tensor in renamed.items() if name.startswith(_COPIED)}}


def _table(joined: int, made: int, stages: int) -> Iterator[tuple[str, str]]:
    """(mmdet's, theirs) names, of so many maps of the backbone, smaller maps and decoder layers."""
    for i in range(joined + made):
        ours = f'neck.convs.{i}.' if i < joined else f'neck.extra_convs.{i - joined}.'
        yield f'{ours}conv.', f'input_proj.{i}.0.'
        yield f'{ours}gn.', f'input_proj.{i}.1.'
    for part in ('encoder', 'decoder'):
        ours, theirs = f'{part}.layers.{{layer}}.', f'transformer.{part}.layers.{{layer}}.'
        yield f'{ours}ffn.layers.0.0.', f'{theirs}linear1.'
        yield f'{ours}ffn.layers.1.', f'{theirs}linear2.'
        # The decoder's norms come in the order self-attention, cross-attention, MLP, and are not numbered so.
        for i, number in enumerate((1, 2) if part == 'encoder' else (2, 1, 3)):
            yield f'{ours}norms.{i}.', f'{theirs}norm{number}.'
        if part == 'decoder':
            yield f'{ours}self_attn.attn.', f'{theirs}self_attn.'
    yield from (('encoder.', 'transformer.encoder.'), ('decoder.', _DECODER))
    yield from (
        ('level_embed', 'transformer.level_embed'),
        ('query_embedding.', 'transformer.tgt_embed.'),
        ('memory_trans_fc.', 'transformer.enc_output.'),
        ('memory_trans_norm.', 'transformer.enc_output_norm.'),
        ('dn_query_generator.label_embedding.', 'label_enc.'),
        (f'bbox_head.cls_branches.{stages}.', 'transformer.enc_out_class_embed.'),
        ('bbox_head.cls_branches.{layer}.', 'class_embed.{layer}.'))
    for place, layer in enumerate((0, 2, 4)):
        yield f'bbox_head.reg_branches.{stages}.{layer}.', f'transformer.enc_out_bbox_embed.layers.{place}.'
        yield f'bbox_head.reg_branches.{{layer}}.{layer}.', f'bbox_embed.{{layer}}.layers.{place}.'


def _check_copies(heads: Mapping[str, Tensor]) -> None:
    for name, tensor in heads.items():
        original = name.removeprefix(_DECODER)
        if name != original and original.startswith(_COPIED) and (
                original not in heads or not torch.equal(heads[original], tensor)):
            raise ValueError(f'{name} differs from {original}, although the decoder and the detector share them: '
                             'the checkpoint is damaged.')


def _rows(heads: Mapping[str, Tensor]) -> int | None:
    """How many rows the classifiers have."""
    found = {len(tensor) for name, tensor in heads.items() if _CLASSIFIER.match(name)}
    labels = heads.get(_LABELS)
    if len(found) > 1 or (found and labels is not None and len(labels) < max(found)):
        raise ValueError(f'The classifiers have {" and ".join(map(str, sorted(found)))} rows of classes, the label '
                         f'embedding {0 if labels is None else len(labels)}, and all should be of the same classes: '
                         'the checkpoint is damaged.')
    return next(iter(found), None)


def _spread(tensor: Tensor, rows: int, length: int, filling: float) -> Tensor:
    """Rows of classes at the places of their category ids, of so many rows in all."""
    wide = tensor.new_full((length, *tensor.shape[1:]), filling)
    wide[torch.tensor(category_ids(rows))] = tensor
    return wide


def _tell_of_heads(renamed: Mapping[str, Tensor], stages: int) -> None:
    different = [name for name, tensor in renamed.items() for part in _COPIED if name.startswith(f'{part}0.')
                 and any(not torch.equal(tensor, renamed[name.replace('.0.', f'.{i}.', 1)]) for i in range(1, stages))]
    if different:
        print_log('The decoder layers have heads of their own: their code opens these tensors with '
                  'dec_pred_class_embed_share=False and dec_pred_bbox_embed_share=False.', logger='current')
