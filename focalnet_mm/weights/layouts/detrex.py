"""detrex's DINO, beside mmdet's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .names import backward, rename

__all__ = ['KIND', 'SIGN', 'from_mm', 'to_mm']

#: What models are of this layout.
KIND = "detrex's DINO detectors"
#: A tensor that only detrex's detectors have.
SIGN = 'transformer.encoder.layers.0.attentions.0.sampling_offsets.weight'
# (mmdet's, detrex's) names of DINO's neck, transformer and heads.
_TABLE = (
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
_COPY = 'transformer.decoder.'
_COPIED = ('class_embed.', 'bbox_embed.')


def to_mm(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors beside the backbone by mmdet's names.

    Raises:
        ValueError: Copies of a tensor differ.
    """
    copied = tuple(_COPY + part for part in _COPIED)
    copies = {name: tensor for name, tensor in heads.items() if name.startswith(copied)}
    for name, tensor in copies.items():
        original = heads.get(name.removeprefix(_COPY))
        if original is None or not torch.equal(original, tensor):
            raise ValueError(f"{name} differs from {name.removeprefix(_COPY)}, although detrex's decoder and heads "
                             'share them: the checkpoint is damaged.')
    return {rename(name, backward(_TABLE)): tensor for name, tensor in heads.items() if name not in copies}


def from_mm(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors beside the backbone by detrex's names."""
    renamed = {rename(name, _TABLE): tensor for name, tensor in heads.items()}
    return {**renamed, **{_COPY + name: tensor for name, tensor in renamed.items() if name.startswith(_COPIED)}}
