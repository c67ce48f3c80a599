"""mmdet 2's Mask2Former beside mmdet 3's.

Of the methods that have configs here it is the only one whose names changed from mmdet 2 to 3, or from mmseg 0 to 1:
its transformers were built of mmcv's general layer, which numbers attentions and MLPs in the order of their use
(mmdet 2.28.2, models/dense_heads/mask2former_head.py and models/plugins/msdeformattn_pixel_decoder.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .names import backward, rename

__all__ = ['KIND', 'SIGN', 'from_mm', 'to_mm']

#: What models are of this layout.
KIND = "mmdet 2's Mask2Former"
_ENCODER = 'panoptic_head.pixel_decoder.encoder.layers.{layer}.'
_DECODER = 'panoptic_head.transformer_decoder.layers.{layer}.'
#: A tensor that only these have.
SIGN = 'panoptic_head.transformer_decoder.layers.0.attentions.0.attn.in_proj_weight'
# (mmdet 3's, mmdet 2's).
_TABLE = (
    (_ENCODER + 'self_attn.', _ENCODER + 'attentions.0.'),
    (_ENCODER + 'ffn.', _ENCODER + 'ffns.0.'),
    (_DECODER + 'cross_attn.', _DECODER + 'attentions.0.'),
    (_DECODER + 'self_attn.', _DECODER + 'attentions.1.'),
    (_DECODER + 'ffn.', _DECODER + 'ffns.0.'),
)


def to_mm(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors beside the backbone by mmdet 3's names."""
    return {rename(name, backward(_TABLE)): tensor for name, tensor in heads.items()}


def from_mm(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors beside the backbone by mmdet 2's names."""
    return {rename(name, _TABLE): tensor for name, tensor in heads.items()}
