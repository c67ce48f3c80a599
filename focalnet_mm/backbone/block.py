"""The parts of a FocalNet: stem and downsampling, blocks, stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..releases import autocast_dtype, is_compiling, is_exporting
from .compute import BlockTensors, compute_block
from .modulation import FocalModulation
from .recording import Recording, is_as_built, remember
from .variants import Variant

__all__ = ['MLP', 'Block', 'PatchEmbed', 'Stage']


class MLP(nn.Module):
    """Two linear layers with a GELU between them, (…, C) → (…, C)."""

    def __init__(self, embed_dims: int, hidden_dims: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, embed_dims)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class PatchEmbed(nn.Module):
    """Strided convolution and normalisation: the stem, and the downsampling that ends a stage.

    (N, C_in, H, W) → (N, ⌈H/stride⌉, ⌈W/stride⌉, C_out): the input is padded with zeros at the right and at the
    bottom up to a multiple of the stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int = 0,
                 norm: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.norm = nn.LayerNorm(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
        # A trace or export that left the padding out could not be run at another size later.
        if torch.jit.is_tracing() or is_exporting() or bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Block(nn.Module):
    """Focal modulation and MLP, each in a residual branch, over maps (N, H, W, C)."""

    def __init__(self, embed_dims: int, modulation: FocalModulation | Variant, mlp_ratio: float, drop_rate: float,
                 drop_path_rate: float, post_norm: bool, layer_scale_init_value: float) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.layer_scale_init_value = layer_scale_init_value
        self.norm1 = nn.LayerNorm(embed_dims)
        self.modulation = modulation
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio), drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()
        self.gamma_1: nn.Parameter | None = None
        self.gamma_2: nn.Parameter | None = None
        if layer_scale_init_value:
            self.gamma_1 = nn.Parameter(torch.full((embed_dims,), float(layer_scale_init_value)))
            self.gamma_2 = nn.Parameter(torch.full((embed_dims,), float(layer_scale_init_value)))
        self._built = Recording(self, '_built')

    def forward(self, x: Tensor, implementation: str = 'reference', with_cp: bool = False) -> Tensor:
        """(N, H, W, C) → (N, H, W, C).

        Args:
            x: The map.
            implementation: What :func:`~focalnet_mm.backbone.compute.choose` returned. Where anything of the block is
                not as it was built, the reference computes it: the modules, as they stand.
            with_cp: Whether the backward pass computes the block once more, in place of keeping its activations.
        """
        with_cp = with_cp and torch.is_grad_enabled()
        if implementation != 'reference' and is_as_built(self._built, self) and self._can_be_computed(x):
            return self._compute(implementation, x, with_cp)
        return checkpoint(self._run_modules, x, use_reentrant=False) if with_cp else self._run_modules(x)

    def _run_modules(self, x: Tensor) -> Tensor:
        x = x + self._branch(x, self.norm1, self.modulation, self.gamma_1)
        return x + self._branch(x, self.norm2, self.mlp, self.gamma_2)

    def _branch(self, x: Tensor, norm: nn.Module, layer: nn.Module, gamma: Tensor | None) -> Tensor:
        x = norm(layer(x)) if self.post_norm else layer(norm(x))
        if gamma is not None:
            x = gamma * x
        return self.drop_path(x)

    def _can_be_computed(self, x: Tensor) -> bool:
        """Whether another implementation takes this input: a plain tensor that fits the parameters, without dropout."""
        if not is_compiling() and type(x) not in (Tensor, nn.Parameter):
            return False
        weight = self.norm1.weight
        dtype = torch.float32 if autocast_dtype(x.device.type) else x.dtype
        return (x.dim() == 4 and x.numel() > 0 and weight.dtype is dtype and weight.device == x.device
                and x.shape[3] == weight.shape[0] and self.mlp.fc1.weight.numel() > 0
                and not (self.mlp.drop.training and self.mlp.drop.p)
                and not (self.modulation.proj_drop.training and self.modulation.proj_drop.p))

    def _compute(self, implementation: str, x: Tensor, recompute: bool) -> Tensor:
        """The block by another implementation, without dropout."""
        dtype = autocast_dtype(x.device.type) or self.norm1.weight.dtype
        norms = [norm for norm in (self.norm1, self.norm2, self.modulation.ln) if isinstance(norm, nn.LayerNorm)]
        drops = []
        if self.drop_path.training and not isinstance(self.drop_path, nn.Identity):
            # In the data type of what is dropped, since the random numbers depend on it. Autocast leaves the result
            # of a norm in float32 on GPUs, and in the type of what is normalised on CPUs.
            is_raised = self.gamma_1 is not None or (self.post_norm and x.device.type != 'cpu')
            drawn = self.norm1.weight.dtype if is_raised else dtype
            drops = [self.drop_path(x.new_ones(len(x), 1, 1, 1, dtype=drawn)) for _ in range(2)]
        # Settings that equal what they were may be of another type: a tensor, a number of NumPy.
        return compute_block(
            implementation, x.contiguous(), self._tensors(), drops, [float(norm.eps) for norm in norms],
            bool(self.post_norm), bool(self.modulation.normalize_modulator), dtype, recompute)

    def _tensors(self) -> BlockTensors:
        modulation: Any = self.modulation
        mlp = self.mlp
        layers: dict[str, Any] = dict(
            f=modulation.f, h=modulation.h, proj=modulation.proj, fc1=mlp.fc1, fc2=mlp.fc2, norm1=self.norm1,
            norm2=self.norm2)
        inner_norm = modulation.ln
        return BlockTensors(
            **{name: (layer.weight, layer.bias) for name, layer in layers.items()},
            inner_norm=(inner_norm.weight, inner_norm.bias) if isinstance(inner_norm, nn.LayerNorm) else None,
            kernels=modulation.kernels(),
            scales=[] if self.gamma_1 is None or self.gamma_2 is None else [self.gamma_1, self.gamma_2])


remember(MLP, Block, FocalModulation, DropPath)


class Stage(nn.Module):
    """Blocks of one resolution, and the downsampling to the next."""

    def __init__(self, blocks: Sequence[Block], downsample: PatchEmbed | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
