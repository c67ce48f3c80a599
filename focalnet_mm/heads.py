"""Detection heads that mmdet has, but for what they share."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import nn

__all__ = ['SharedDINOHead']


@MODELS.register_module()
def SharedDINOHead(**settings: Any) -> nn.Module:  # noqa: N802
    """mmdet's ``DINOHead`` whose decoder layers share one classifier and one box regressor.

    So is DINO in IDEA-Research's code and in FocalNet-DINO (models/dino/dino.py, ``dec_pred_class_embed_share`` and
    ``dec_pred_bbox_embed_share``), where the encoder's proposals have both of their own. mmdet's ``share_pred_layer``
    shares them with the proposals too, and its DINO turns that off.

    Args:
        settings: Those of ``DINOHead``.

    Returns:
        The head. Its ``state_dict`` is that of ``DINOHead``, with equal tensors for all decoder layers.
    """
    head = MODELS.build(dict(settings, type='mmdet.DINOHead'))
    for name in ('cls_branches', 'reg_branches'):
        first, *_, proposals = getattr(head, name)
        setattr(head, name, nn.ModuleList([first] * head.num_pred_layer))
        getattr(head, name)[-1] = proposals
    return head
