"""The block of X-Decoder's and SEEM's Focal-T.

Source: xdecoder/backbone/focal_dw.py of microsoft/X-Decoder, which mmdet's projects/XDecoder took over.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .block import Block

__all__ = ['DepthwiseBlock']


class DepthwiseBlock(Block):
    """A block that adds a depthwise 3×3 convolution of the map to it before modulation and before the MLP.

    With post-norm it normalises the sum of map and branch, where the authors' block normalises the branch alone:
    ``x = x + dw1(x)``, ``x = norm1(x + γ1 · mod(x))``, then the same with ``dw2`` and the MLP. Maps are (N, H, W, C).

    The modules compute it, whatever implementation is asked for.

    Args:
        embed_dims: Channels C.
        arguments: The others of :class:`~focalnet_mm.backbone.block.Block`.
    """

    def __init__(self, embed_dims: int, *arguments: Any) -> None:
        super().__init__(embed_dims, *arguments)
        self.dw1, self.dw2 = (nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims) for _ in range(2))

    def _run_modules(self, x: Tensor) -> Tensor:
        x = self._add_branch(_add_convolution(x, self.dw1), self.norm1, self.modulation, self.gamma_1)
        return self._add_branch(_add_convolution(x, self.dw2), self.norm2, self.mlp, self.gamma_2)

    def _add_branch(self, x: Tensor, norm: nn.Module, layer: nn.Module, gamma: Tensor | None) -> Tensor:
        branch = layer(x if self.post_norm else norm(x))
        if gamma is not None:
            branch = gamma * branch
        x = x + self.drop_path(branch)
        return norm(x) if self.post_norm else x


def _add_convolution(x: Tensor, convolution: nn.Module) -> Tensor:
    return x + convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
