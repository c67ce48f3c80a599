"""How far the focal levels see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..backbone.focalnet import find_backbone
from .maps import choose_blocks, inputs_of, outputs_of, stride_of

__all__ = ['ReceptiveField', 'receptive_fields']


class ReceptiveField(NamedTuple):
    """How far a focal level sees, as the side of a square in pixels of the block's feature map."""

    stage: int
    block: int
    #: 1…L.
    level: int
    #: ``rˡ = 1 + Σ (kⁱ - 1)`` over the levels ``i ≤ l``, for kernels ``kⁱ`` (paper, section 3.2).
    theoretical: int
    #: Side of the smallest square around a position that holds the share of its gradient that was asked for; ``None``
    #: without images.
    measured: int | None
    #: Pixels of the image a pixel of the feature map.
    stride: int


def receptive_fields(model: nn.Module, images: Tensor | Mapping[str, Any] | None = None,
                     stages: Sequence[int] | int | None = None, blocks: Sequence[int] | int | None = None,
                     share: float = 0.95) -> list[ReceptiveField]:
    """How far each focal level sees: as the kernels allow, and as the weights do it.

    The measured field is that of the level's value in the middle of the map: the absolute gradient with respect to the
    block's ``Z⁰``, summed over channels and images. A map smaller than the field cuts it.

    Args:
        model: A FocalNet or a model of any library with one.
        images: As for :func:`focal_maps`; without them nothing is measured.
        stages: As for :func:`focal_maps`.
        blocks: As for :func:`focal_maps`.
        share: How much of the gradient the measured square holds, in (0, 1].

    Returns:
        One field a level of each block.

    Raises:
        ValueError: ``share`` is out of range, the model has no FocalNet or several, or no block was chosen.
        IndexError: A stage or block does not exist.
        TypeError: A batch was passed, and the model has no ``data_preprocessor``.
    """
    if not 0 < share <= 1:
        raise ValueError(f'share must be in (0, 1], got {share}.')
    backbone = find_backbone(model)
    chosen = choose_blocks(backbone, stages, blocks)
    projected = {} if images is None else outputs_of(backbone, inputs_of(model, images), chosen, 'f')
    fields = []
    for stage, block in chosen:
        modulation = backbone.block(stage, block).modulation
        theoretical = 1
        context = None
        if projected:
            channels = modulation.embed_dims
            context = projected[stage, block][0][..., channels:2 * channels].permute(0, 3, 1, 2).requires_grad_()
        with torch.enable_grad():
            current = context
            for i, (layer, kernel) in enumerate(zip(modulation.focal_layers, modulation.kernels())):
                theoretical += kernel.shape[-1] - 1
                measured = None
                if context is not None:
                    current = layer(current)
                    middle = current.shape[2] // 2, current.shape[3] // 2
                    gradient, = torch.autograd.grad(
                        current[:, :, middle[0], middle[1]].sum(), context, retain_graph=True)
                    measured = _side(gradient.abs().sum((0, 1)), middle, share)
                fields.append(ReceptiveField(stage, block, i + 1, theoretical, measured, stride_of(backbone, stage)))
    return fields


def _side(gradient: Tensor, middle: tuple[int, int], share: float) -> int:
    """Side of the smallest square around the middle that holds the share of a map (h, w)."""
    y, x = (torch.arange(length, device=gradient.device) for length in gradient.shape)
    distance = torch.maximum((y - middle[0]).abs()[:, None], (x - middle[1]).abs()[None])
    held = torch.zeros(int(distance.max()) + 1, dtype=torch.float64, device=gradient.device)
    held.index_add_(0, distance.flatten(), gradient.flatten().double())
    held = held.cumsum(0)
    return 2 * int((held < share * held[-1] * (1 - 1e-9)).sum()) + 1
