"""The parts of a FocalNet: stem and downsampling, blocks, stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from .compute import BlockTensors, compute_block
from .modulation import FocalModulation, LayerNorm2d, Pointwise

__all__ = ['MLP', 'Block', 'PatchEmbed', 'Stage']


class MLP(nn.Module):
    """Two pointwise layers with a GELU between them, (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, embed_dims: int, hidden_dims: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = Pointwise(embed_dims, hidden_dims)
        self.act = nn.GELU()
        self.fc2 = Pointwise(hidden_dims, embed_dims)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class PatchEmbed(nn.Module):
    """Strided convolution and normalisation: the stem, and the downsampling that ends a stage.

    (N, C_in, H, W) → (N, C_out, ⌈H/stride⌉, ⌈W/stride⌉): the input is padded with zeros at the right and at the
    bottom up to a multiple of the stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int = 0,
                 norm: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.norm = LayerNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
        # A trace or export that left the padding out could not be run at another size later.
        if torch.jit.is_tracing() or torch.compiler.is_exporting() or bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        return self.norm(self.proj(x))


class Block(nn.Module):
    """Focal modulation and MLP, each in a residual branch."""

    def __init__(self, embed_dims: int, modulation: FocalModulation, mlp_ratio: float, drop_rate: float,
                 drop_path_rate: float, post_norm: bool, layer_scale_init_value: float) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.layer_scale_init_value = layer_scale_init_value
        self.norm1 = LayerNorm2d(embed_dims)
        self.modulation = modulation
        self.norm2 = LayerNorm2d(embed_dims)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio), drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()
        self.gamma_1: nn.Parameter | None = None
        self.gamma_2: nn.Parameter | None = None
        if layer_scale_init_value:
            self.gamma_1 = nn.Parameter(torch.full((embed_dims,), float(layer_scale_init_value)))
            self.gamma_2 = nn.Parameter(torch.full((embed_dims,), float(layer_scale_init_value)))

    def forward(self, x: Tensor, implementation: str = 'reference') -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        if implementation == 'channels_last' and x.numel() and self._is_plain():
            return self._compute(x.contiguous(memory_format=torch.channels_last))
        x = x + self._branch(x, self.norm1, self.modulation, self.gamma_1)
        return x + self._branch(x, self.norm2, self.mlp, self.gamma_2)

    def _branch(self, x: Tensor, norm: nn.Module, layer: nn.Module, gamma: Tensor | None) -> Tensor:
        x = norm(layer(x)) if self.post_norm else layer(norm(x))
        if gamma is not None:
            x = gamma[:, None, None] * x
        return self.drop_path(x)

    def _compute(self, x: Tensor) -> Tensor:
        """The block by another implementation, without dropout."""
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else self.norm1.weight.dtype
        norms = [norm for norm in (self.norm1, self.norm2, self.modulation.ln) if isinstance(norm, nn.LayerNorm)]
        with torch.autocast(x.device.type, enabled=False):
            drops = []
            if self.training and not isinstance(self.drop_path, nn.Identity):
                drops = [self.drop_path(x.new_ones(len(x), 1, 1, 1, dtype=dtype)) for _ in range(2)]
            return compute_block(x, self._tensors(), drops, [norm.eps for norm in norms], self.post_norm,
                                 self.modulation.normalize_modulator, dtype)

    def _tensors(self) -> BlockTensors:
        modulation, mlp = self.modulation, self.mlp
        layers: dict[str, Any] = dict(
            f=modulation.f, h=modulation.h, proj=modulation.proj, fc1=mlp.fc1, fc2=mlp.fc2, norm1=self.norm1,
            norm2=self.norm2)
        inner_norm = modulation.ln
        return BlockTensors(
            **{name: (layer.weight, layer.bias) for name, layer in layers.items()},
            inner_norm=(inner_norm.weight, inner_norm.bias) if isinstance(inner_norm, nn.LayerNorm) else None,
            kernels=modulation.kernels(),
            scales=[] if self.gamma_1 is None or self.gamma_2 is None else [self.gamma_1, self.gamma_2])

    def _is_plain(self) -> bool:
        """Whether all parts are what the fused implementations take them for: none exchanged, hooked or dropping."""
        for module in self.modules():
            if module is self:
                continue
            if type(module) not in _PLAIN or any((
                    module._forward_hooks, module._forward_pre_hooks, module._backward_hooks,
                    module._backward_pre_hooks)):
                return False
            if isinstance(module, nn.Dropout) and module.p and module.training:
                return False
        return True


_PLAIN = (FocalModulation, MLP, Pointwise, LayerNorm2d, DropPath, nn.Conv2d, nn.Dropout, nn.GELU, nn.Identity,
          nn.ModuleList, nn.Sequential)


class Stage(nn.Module):
    """Blocks of one resolution, and the downsampling to the next."""

    def __init__(self, blocks: Sequence[Block], downsample: PatchEmbed | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
