"""The whole of mmdet's DINO, from images to boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ..layers import Size, centres
from ..part import Part
from .frame import frame
from .known import check_known, check_most
from .samples import detector_part

__all__ = ['DINO', 'dino']


class _Levels(NamedTuple):
    """Maps of several sizes, and what of them is no padding, of each image or, where it is the same for all, of one."""

    #: Height and width of each.
    shapes: Sequence[Size]
    #: Where each is padding, boolean (N or 1, H, W).
    masks: Sequence[Tensor]
    #: The width and the height of each without padding (N or 1, 2).
    sizes: Sequence[Tensor]
    #: How much of each is no padding, in width and height (N or 1, levels, 2).
    ratios: Tensor
    #: The masks in one row (N or 1, the sum of H * W), if there is any padding.
    padding: Tensor | None


class DINO(nn.Module):
    """Boxes of a DINO.

    The layers are the model's own; written anew is what joins them, for images of any size. Source: mmdet's ``DINO``,
    ``DeformableDETR`` and ``DETRHead``.

    Args:
        model: The detector.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, inside: Tensor | None = None,
                original: Tensor | None = None, img_shape: Tensor | None = None,
                resized: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            images: Images (N, C, H, W), normalised and padded.
            inside: Of the shape (height, width) of the images without padding; without it they have none.
            original: Of the shape (height, width) that the boxes are for; without it that of ``inside``.
            img_shape: Height and width of each image without padding (N or 1, 2), where they differ.

        Returns:
            Boxes (N, K, 4) as x1, y1, x2, y2 in pixels, scores (N, K) in descending order, and labels (N, K).
        """
        model: Any = self.model
        features = model.extract_feat(images)
        sizes = frame(images, inside, original, img_shape, resized)
        padded = inside is not None or img_shape is not None
        levels = _levels(images, features, sizes.limits if padded else None)
        memory = self._encode(features, levels)
        states, references = model.decoder(
            query=model.query_embedding.weight.expand(images.shape[0], -1, -1), value=memory,
            key_padding_mask=levels.padding, self_attn_mask=None, reference_points=self._proposals(memory, levels),
            spatial_shapes=levels.shapes, level_start_index=None, valid_ratios=levels.ratios,
            reg_branches=model.bbox_head.reg_branches)
        logits, boxes = model.bbox_head(states, references)
        found, scores, labels = self._best(logits[-1], boxes[-1])
        return found * sizes.limits[:, None] * sizes.scale, scores, labels

    def _encode(self, features: Sequence[Tensor], levels: _Levels) -> Tensor:
        """What the encoder makes of the maps (N, the sum of H * W, C)."""
        model: Any = self.model
        memory = torch.cat([feature.flatten(2).transpose(1, 2) for feature in features], 1)
        positions = torch.cat([model.positional_encoding(mask).flatten(2).transpose(1, 2) + embedding
                               for mask, embedding in zip(levels.masks, model.level_embed)], 1)
        # Of the part of the image that is no padding, then of each of the padded maps.
        points = torch.cat([_centres(shape, size, memory) for shape, size in zip(levels.shapes, levels.sizes)], 1)
        points = points[:, :, None] * levels.ratios[:, None]
        for layer in model.encoder.layers:
            memory = layer(query=memory, query_pos=positions, key_padding_mask=levels.padding, reference_points=points,
                           spatial_shapes=levels.shapes, level_start_index=None, valid_ratios=levels.ratios)
        return memory

    def _proposals(self, memory: Tensor, levels: _Levels) -> Tensor:
        """The boxes (N, queries, 4) of the best positions of the encoder, as centre, width and height."""
        model: Any = self.model
        boxes = []
        for level, (shape, size) in enumerate(zip(levels.shapes, levels.sizes)):
            centre = _centres(shape, size, memory)
            boxes.append(torch.cat((centre, torch.full_like(centre, 0.05 * 2**level)), -1))
        proposals = torch.cat(boxes, 1)
        invalid = ~((proposals > 0.01) & (proposals < 0.99)).all(-1, keepdim=True)
        if levels.padding is not None:
            invalid = invalid | levels.padding[..., None]
        proposals = (proposals / (1 - proposals)).log().masked_fill(invalid, float('inf'))
        memory = model.memory_trans_norm(model.memory_trans_fc(memory.masked_fill(invalid, 0.0)))
        head, last = model.bbox_head, model.decoder.num_layers
        best = head.cls_branches[last](memory).amax(-1).topk(model.num_queries, 1).indices
        found = head.reg_branches[last](memory) + proposals
        return found.gather(1, best[..., None].expand(-1, -1, 4)).sigmoid()

    def _best(self, logits: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best of all queries and classes, with the corners of their boxes, from 0 to 1."""
        model: Any = self.model
        head = model.bbox_head
        scores, indices = logits.sigmoid().flatten(1).topk(head.test_cfg.get('max_per_img', model.num_queries), 1)
        queries = torch.div(indices, head.num_classes, rounding_mode='floor')
        centre, extent = boxes.gather(1, queries[..., None].expand(-1, -1, 4)).split(2, -1)
        corners = torch.cat((centre - extent / 2, centre + extent / 2), -1)
        return corners.clamp(0, 1), scores, indices % head.num_classes


def dino(model: Any, masks: str) -> Part:
    """All of a DINO, as a part to export.

    Args:
        model: A ``DINO`` of mmdet in evaluation mode.
        masks: Of no consequence, since it has none.

    Raises:
        ValueError: A part of it is not known.
    """
    head = model.bbox_head
    check_known((model, 'DINO'), (head, 'DINOHead'), (model.encoder, 'DeformableDetrTransformerEncoder'),
                (model.decoder, 'DinoTransformerDecoder'), (model.positional_encoding, 'SinePositionalEncoding'))
    if not head.loss_cls.use_sigmoid:
        raise ValueError(f'The DINOHead of this model has a {type(head.loss_cls).__name__} with softmax, whose '
                         'predictions are not known: export --part features.')
    # Its predictions know no thresholds, whatever else stands in the test config.
    settings = ConfigDict(max_per_img=(head.test_cfg or {}).get('max_per_img', model.num_queries))
    check_most(settings.max_per_img, model.num_queries, head.num_classes, 'model.test_cfg.max_per_img')
    # Of the smallest image that is tried, 96×224, the largest map of stride 8 has to hold the queries.
    enlarged = math.ceil(math.sqrt(model.num_queries / (12 * 28)))
    part = detector_part(DINO(model).eval(), model, settings)
    # A graph of N padding masks does not run with the one row that is the default of img_shape.
    return part._replace(inputs={}, enlarged=enlarged)


def _levels(images: Tensor, features: Sequence[Tensor], limits: Tensor | None) -> _Levels:
    """What of maps is no padding, where images end at limits (N or 1, 4) that begin with width and height."""
    shapes = [(feature.shape[2], feature.shape[3]) for feature in features]
    if limits is None:
        masks = [torch.zeros(1, *shape, dtype=torch.bool, device=images.device) for shape in shapes]
    else:
        height, width = (torch.arange(length, device=images.device) for length in images.shape[2:])
        padded = (height[:, None] >= limits[:, 1, None, None]) | (width >= limits[:, 0, None, None])
        masks = [F.interpolate(padded[:, None].to(images), shape)[:, 0] > 0 for shape in shapes]
    sizes = [torch.stack(((~mask[:, 0]).sum(1), (~mask[:, :, 0]).sum(1)), -1) for mask in masks]
    ratios = torch.stack([torch.stack((size[:, 0] / width, size[:, 1] / height), -1)
                          for size, (height, width) in zip(sizes, shapes)], 1)
    return _Levels(shapes, masks, sizes, ratios,
                   None if limits is None else torch.cat([mask.flatten(1) for mask in masks], 1))


def _centres(shape: Size, size: Tensor, like: Tensor) -> Tensor:
    """The centres (N or 1, H * W, 2) of a map's cells as x and y, relative to its part that is no padding."""
    return centres(shape, like)[None] / size[:, None]
