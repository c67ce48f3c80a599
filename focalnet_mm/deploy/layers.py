"""Layers of a model, for sizes that are left open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['DeformableAttention', 'PatchEmbed', 'PixelDecoder', 'centres']

#: Height and width, which may be left open.
Size = tuple[Any, Any]


def centres(size: Size, like: Tensor) -> Tensor:
    """The centres (H * W, 2) of the cells of a map, row by row, as x and y in cells.

    ``torch.linspace``, which the libraries take, makes a number of a size that is left open.
    """
    rows, columns = (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5 for length in size)
    height, width = size
    return torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), -1).flatten(0, 1)


class PatchEmbed(nn.Module):
    """The strided convolution of a FocalNet, padded by as much as the last window may need, whatever the size.

    What is padded beyond the last window is not looked at, so that the result is the same. Its height is
    (H - 1) // stride + 1, which ``torch.export`` can simplify from stage to stage. Padding to a multiple makes terms
    that grow from stage to stage until the export fails.

    Args:
        original: The module whose layers it shares.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.proj, self.norm = original.proj, original.norm

    @staticmethod
    def fits(original: Any) -> bool:
        """Whether a fixed padding gives as many windows as the module's own."""
        proj, kind = original.proj, type(original.proj)
        return kind is nn.Conv2d and all(kernel > 2 * padding for kernel, padding in zip(
            proj.kernel_size, proj.padding))

    def forward(self, x: Tensor) -> Tensor:
        proj: Any = self.proj
        bottom, right = (kernel - 2 * padding - 1 for kernel, padding in zip(
            proj.kernel_size, proj.padding))
        return self.norm(proj(F.pad(x, (0, right, 0, bottom))).permute(0, 2, 3, 1))


class DeformableAttention(nn.Module):
    """mmcv's ``MultiScaleDeformableAttention``, for the sizes of the levels as numbers instead of as a tensor.

    It sums over the points level by level, so that it never holds what was sampled of all levels at once. Source:
    equation 3 of Deformable DETR (arXiv 2010.04159).

    Args:
        original: The module whose layers it shares.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.value_proj, self.output_proj = original.value_proj, original.output_proj
        self.sampling_offsets, self.attention_weights = original.sampling_offsets, original.attention_weights
        self.shape = original.num_heads, original.num_levels, original.num_points
        self.batch_first = original.batch_first

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,
                identity: Tensor | None = None, query_pos: Tensor | None = None,
                key_padding_mask: Tensor | None = None, *, reference_points: Tensor, spatial_shapes: Sequence[Size],
                **_: Any) -> Tensor:
        """Attend to points near the references.

        Args:
            query: Queries (N, Q, C).
            key: Not used, as by mmcv's.
            value: The maps of all levels (N, the sum of H * W, C); the queries where there is none.
            identity: What is added to the result (N, Q, C); the queries where there is none.
            query_pos: What is added to the queries (N, Q, C).
            key_padding_mask: Where ``value`` is padding (N or 1, the sum of H * W), boolean.
            reference_points: Points (N or 1, Q, levels, 2) as x and y, or boxes (…, 4) as centre, width and height,
                relative to the maps.
            spatial_shapes: Height and width of each level.

        Returns:
            What was attended to (N, Q, C), with ``identity``.
        """
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0.0)
        count, length, channels = query.shape
        heads, levels, points = self.shape
        # (N * heads, channels of a head, the sum of H * W)
        value = value.transpose(1, 2).reshape(count * heads, channels // heads, -1)
        offsets = self.sampling_offsets(query).view(count, length, heads, levels, points, 2)
        weights = self.attention_weights(query).view(count, length, heads, levels * points).softmax(-1)
        weights = weights.transpose(1, 2).reshape(count * heads, 1, length, levels, points)
        maps = value.split([height * width for height, width in spatial_shapes], -1)
        attended: Any = 0
        for level, (maps_of_level, (height, width)) in enumerate(zip(maps, spatial_shapes)):
            reference = reference_points[:, :, None, level, None]
            shift = offsets[:, :, :, level]
            if reference.shape[-1] == 4:
                shift = shift / points * reference[..., 2:] * 0.5
            else:
                shift = torch.stack((shift[..., 0] / width, shift[..., 1] / height), -1)
            # In the coordinates of grid_sample, from -1 to 1.
            grid = 2 * (reference[..., :2] + shift) - 1
            sampled = F.grid_sample(maps_of_level.unflatten(-1, (height, width)), grid.transpose(1, 2).flatten(0, 1),
                                    mode='bilinear', padding_mode='zeros', align_corners=False)
            attended = attended + (sampled * weights[:, :, :, level]).sum(-1)
        attended = attended.reshape(count, channels, length).transpose(1, 2)
        return self.output_proj(attended) + identity


class PixelDecoder(nn.Module):
    """mmdet's ``MSDeformAttnPixelDecoder``, for maps whose sizes are left open.

    Args:
        original: The module whose layers it shares.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.input_convs, self.level_encoding = original.input_convs, original.level_encoding
        self.lateral_convs, self.output_convs = original.lateral_convs, original.output_convs
        self.encoder, self.mask_feature = original.encoder, original.mask_feature
        self.postional_encoding, self.num_outs = original.postional_encoding, original.num_outs

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Refine the maps of a backbone.

        Args:
            feats: Maps (N, C, H, W), the largest first.

        Returns:
            The features of the masks (N, C, H, W), and the maps that queries attend to, the smallest first.
        """
        encoded = list(feats)[::-1][:len(self.input_convs)]
        shapes = [(feat.shape[2], feat.shape[3]) for feat in encoded]
        tokens, positions, points = [], [], []
        for level, (feat, shape) in enumerate(zip(encoded, shapes)):
            unpadded = torch.zeros(1, *shape, dtype=torch.bool, device=feat.device)
            position = self.postional_encoding(unpadded).flatten(2).transpose(1, 2)
            tokens.append(self.input_convs[level](feat).flatten(2).transpose(1, 2))
            positions.append(position + self.level_encoding.weight[level])
            x, y = centres(shape, feat).unbind(-1)
            points.append(torch.stack((x / shape[1], y / shape[0]), -1))
        levels = len(shapes)
        # The encoder has no more than this loop over its layers.
        memory = self.encoder(
            query=torch.cat(tokens, 1), query_pos=torch.cat(positions, 1), key_padding_mask=None,
            reference_points=torch.cat(points)[None, :, None].expand(-1, -1, levels, -1), spatial_shapes=shapes,
            level_start_index=None, valid_ratios=None)
        maps = memory.transpose(1, 2).split([height * width for height, width in shapes], -1)
        outs = [part.unflatten(-1, shape) for part, shape in zip(maps, shapes)]
        # From the largest map that the encoder took to the largest of all, as the original counts its convolutions.
        for i in range(len(feats) - levels - 1, -1, -1):
            lateral = self.lateral_convs[i](feats[i])
            larger = F.interpolate(outs[-1], lateral.shape[2:], mode='bilinear', align_corners=False)
            outs.append(self.output_convs[i](lateral + larger))
        return self.mask_feature(outs[-1]), outs[:self.num_outs]
