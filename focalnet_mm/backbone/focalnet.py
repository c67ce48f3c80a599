"""The FocalNet backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule, initialize
from mmengine.model.weight_init import PretrainedInit
from mmengine.registry import MODELS
from torch import Tensor, nn

from . import compute
from .block import Block, PatchEmbed, Stage
from .depthwise import DepthwiseBlock
from .modulation import FocalModulation
from .parts import named_parts, plain_name, unregistered_parts
from .settings import check_choices, resolve_settings, stages_to_return
from .variants import SlidingWindowAttention, build_modulation

__all__ = ['FocalNet', 'find_backbone']


@MODELS.register_module()
class FocalNet(BaseModule):
    """Focal Modulation Network (`arXiv 2203.11926 <https://arxiv.org/abs/2203.11926>`_).

    Image (N, in_channels, H, W) → one feature map (N, C_i, ⌈H/s_i⌉, ⌈W/s_i⌉) for each stage i of ``out_indices``,
    with channels ``C_i = embed_dims · 2^i`` and strides ``s_i = patch_size · 2^i``, that is 4, 8, 16, 32. Any image
    size from one pixel on will do.

    The names in the ``state_dict`` are those of the authors' code. Settings that are ``None`` come from ``arch``.
    Where a sequence is said, a scalar stands for all stages.

    Args:
        arch (str | dict): Name of a published variant (a key of :data:`~focalnet_mm.ARCHS`) or a dict with
            ``embed_dims``, ``depths``, ``focal_levels``, ``focal_windows`` and any of the other settings below that
            default to ``None``. Defaults to ``'tiny-lrf'``.
        embed_dims (int, optional): Channels of the first stage; they double at each stage.
        depths (Sequence[int], optional): Number of blocks of each stage.
        focal_levels (int | Sequence[int], optional): Number of focal levels of each stage, the global context not
            counted. 0 leaves the global context alone (paper, section 3.4).
        focal_windows (int | Sequence[int], optional): Kernel of the first focal level of each stage, in pixels of
            the feature map, odd.
        focal_factor (int | Sequence[int]): By how much the kernel grows from level to level, even. Defaults to 2.
        modulation (str, optional): What each block mixes positions by: ``'focal'`` unless the variant says otherwise,
            or one of the others that the paper compares it with, a key of
            :data:`~focalnet_mm.backbone.variants.MODULATIONS`.
        patch_size (int, optional): Stride of the stem; without ``conv_stem`` its kernel too.
        conv_stem (bool, optional): Overlapping convolutions, 7×7 in the stem and 3×3 in the downsampling, in place of
            patches that do not overlap.
        stem_padding (int, optional): Padding of the 7×7 stem. The public checkpoints were trained with 2, those of
            ``tiny-dw`` with 3; the authors' detection code says 3.
        patch_norm (bool): Normalise the output of the stem. Defaults to True.
        layer_scale_init_value (float, optional): Initial value of the layer scale; 0 means no layer scale.
        post_norm (bool, optional): Normalise the outputs of modulation and MLP in place of their inputs.
        post_norm_in_modulation (bool, optional): Normalise inside the modulation, before its last projection.
        normalize_modulator (bool, optional): Divide the aggregated context by the number of levels + 1.
        depthwise_convs (bool, optional): Blocks as X-Decoder's Focal-T has them, see
            :class:`~focalnet_mm.backbone.depthwise.DepthwiseBlock`.
        in_channels (int): Channels of the image. Defaults to 3.
        mlp_ratio (float): Hidden channels of the MLP by its input channels. Defaults to 4.
        drop_rate (float): Dropout after the stem, in the modulation and in the MLP. Defaults to 0.
        drop_path_rate (float): Stochastic depth of the last block; it rises linearly from 0 over all blocks.
            Defaults to 0.
        out_indices (int | Sequence[int], optional): Stages to return, in the order given. What comes behind the last
            of them is not built, so that no parameter goes unused. ``None``, the default, means all.
        frozen_stages (int): k freezes the stem and the first k stages, each with the downsampling that ends it: no
            gradients, and eval mode even under :meth:`train`. 0 freezes the stem, -1 nothing. The output norms,
            which have no pretrained weights, always learn. Defaults to -1.
        implementation (str): How to compute: ``'auto'`` takes the fastest for device and data type,
            ``'reference'`` is the plain form that the others are tested against, ``'channels_last'`` the one for
            CPUs, ``'triton'`` kernels for GPUs, which ``'auto'`` takes where they were measured to be faster, see
            :mod:`focalnet_mm.backbone.compute`. Defaults to ``'auto'``.
        with_cp (bool): Recompute each block in the backward pass in place of keeping its activations. Defaults to
            False.
        init_cfg (dict | list[dict], optional): mmengine's initialisation. ``dict(type='Pretrained',
            checkpoint=PATH_OR_URL)`` is read by :func:`focalnet_mm.weights.load_into`, which fits kernels and
            levels and raises where a tensor does not fit; an optional key ``prefix`` names the prefix of the
            backbone's tensors in the file.

    Raises:
        ValueError: A setting is out of range, has the wrong length, or leads to an even kernel.
        TypeError: A setting is of the wrong type.

    Example:
        >>> net = FocalNet(arch='base-lrf', focal_windows=9)
        >>> net.out_channels
        (128, 256, 512, 1024)
        >>> [tuple(feature.shape) for feature in net(torch.rand(1, 3, 64, 80))]
        [(1, 128, 16, 20), (1, 256, 8, 10), (1, 512, 4, 5), (1, 1024, 2, 3)]
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny-lrf',
        *,
        embed_dims: int | None = None,
        depths: Sequence[int] | None = None,
        focal_levels: int | Sequence[int] | None = None,
        focal_windows: int | Sequence[int] | None = None,
        focal_factor: int | Sequence[int] = 2,
        modulation: str | None = None,
        patch_size: int | None = None,
        conv_stem: bool | None = None,
        stem_padding: int | None = None,
        patch_norm: bool = True,
        layer_scale_init_value: float | None = None,
        post_norm: bool | None = None,
        post_norm_in_modulation: bool | None = None,
        normalize_modulator: bool | None = None,
        depthwise_convs: bool | None = None,
        in_channels: int = 3,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] | None = None,
        frozen_stages: int = -1,
        implementation: str = 'auto',
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        settings = resolve_settings(
            arch, embed_dims=embed_dims, depths=depths, focal_levels=focal_levels, focal_windows=focal_windows,
            focal_factor=focal_factor, modulation=modulation, patch_size=patch_size, conv_stem=conv_stem,
            layer_scale_init_value=layer_scale_init_value, post_norm=post_norm, mlp_ratio=mlp_ratio,
            post_norm_in_modulation=post_norm_in_modulation, normalize_modulator=normalize_modulator,
            in_channels=in_channels, drop_rate=drop_rate, drop_path_rate=drop_path_rate, stem_padding=stem_padding,
            depthwise_convs=depthwise_convs)
        num_stages = len(settings['depths'])
        check_choices(frozen_stages, implementation, num_stages)
        self.out_indices = stages_to_return(out_indices, num_stages)
        self.in_channels, self.frozen_stages, self.modulation = in_channels, frozen_stages, settings['modulation']
        self.implementation, self.with_cp = implementation, with_cp
        channels = tuple(settings['embed_dims'] * 2**i for i in range(num_stages))
        built = max(self.out_indices) + 1
        #: Number of blocks of each stage that is built.
        self.depths = settings['depths'][:built]
        #: Channels of each returned feature map.
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        #: Stride of each returned feature map, in pixels of the image.
        self.out_strides = tuple(settings['patch_size'] * 2**i for i in self.out_indices)

        self.patch_embed = _build_stem(settings, patch_norm)
        self.pos_drop = nn.Dropout(drop_rate)
        drop_path_rates = iter(np.linspace(0, drop_path_rate, sum(settings['depths'])).tolist())
        self.layers = nn.ModuleList(
            _build_stage(settings, i, channels[i:built][:2], drop_path_rates) for i in range(built))
        for i in self.out_indices:
            self.add_module(f'norm{i}', nn.LayerNorm(channels[i]))
        nn.ModuleList(self._frozen_modules()).requires_grad_(False)
        self._kernel = _largest_kernel(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the stages in ``out_indices``, each through its output norm.

        Args:
            x: Images (N, in_channels, H, W), H and W ≥ 1.

        Returns:
            Feature maps (N, C_i, ⌈H/s_i⌉, ⌈W/s_i⌉), contiguous as the images are: NCHW, or channels-last.

        Raises:
            ValueError: ``x`` has another number of dimensions or channels.
        """
        if not torch.jit.is_tracing() and (x.dim() != 4 or x.shape[1] != self.in_channels):
            raise ValueError(
                f'FocalNet takes images of shape (N, {self.in_channels}, H, W), got {tuple(x.shape)}: convert them, '
                'or build the backbone with in_channels.')
        channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format

        implementation = compute.choose(self.implementation, x, self._kernel)
        if implementation != 'reference':
            x = x.contiguous(memory_format=torch.channels_last)

        # Inside, maps are (N, H, W, C).
        x = self.pos_drop(self.patch_embed(x))
        features = {}
        for i, stage in enumerate(self._stages()):
            for block in stage.blocks:
                x = block(x, implementation, self.with_cp)
            if i in self.out_indices:
                feature = getattr(self, f'norm{i}')(x).permute(0, 3, 1, 2)
                features[i] = feature.contiguous(memory_format=memory_format)
            if stage.downsample is not None:
                x = stage.downsample(x.permute(0, 3, 1, 2))
        return tuple(features[i] for i in self.out_indices)

    def block(self, stage: int, block: int) -> Block:
        """A block of the network.

        Args:
            stage: The stage, from 0 on.
            block: The block of the stage, likewise.

        Returns:
            The block.

        Raises:
            IndexError: There is no such stage or block.
        """
        blocks: Any = self.layers[stage].blocks
        return blocks[block]

    def train(self, mode: bool = True) -> FocalNet:
        """Set training or evaluation mode; frozen parts stay in evaluation mode.

        Returns:
            This module.
        """
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Initialise as the paper does, then as ``init_cfg`` says.

        Weights of linear layers are drawn from a normal distribution with standard deviation 0.02, truncated at ±2;
        biases are 0, norms 1 and 0; convolutions keep PyTorch's default; layer scales start at
        ``layer_scale_init_value``. The biases of relative positions of sliding windows are drawn as weights are.

        Raises:
            FileNotFoundError: The pretrained checkpoint is missing.
            ValueError: It cannot be read, or does not fit; see :func:`focalnet_mm.weights.load_into`.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.Conv2d, nn.LayerNorm, SlidingWindowAttention)):
                module.reset_parameters()
            elif isinstance(module, Block):
                for gamma in (module.gamma_1, module.gamma_2):
                    if gamma is not None:
                        nn.init.constant_(gamma, module.layer_scale_init_value)

        initialize(self, [cfg for cfg in self._init_cfgs() if cfg not in self.pretrained])
        for cfg in self.pretrained:
            # It fits kernels and levels, which mmengine's own does not.
            initialize(self, {**cfg, 'type': 'FocalNetPretrained'})
        self.is_init = True

    @property
    def pretrained(self) -> list[dict[str, Any]]:
        """What of ``init_cfg`` loads a checkpoint."""
        return [cfg for cfg in self._init_cfgs() if cfg['type'] is PretrainedInit
                or (isinstance(cfg['type'], str) and cfg['type'].rpartition('.')[2] == 'Pretrained')]

    def _init_cfgs(self) -> list[dict[str, Any]]:
        return [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning-rate decay.

        The stem has depth 0 and the blocks 1, 2, …; a downsampling counts with the block before it. The output norms
        and all that is outside the backbone have the greatest depth.

        Args:
            param_name: Name of the parameter in the whole model.
            prefix: Prefix of the backbone's parameters, such as ``'backbone.'``.

        Returns:
            The depth, and the number of depths.
        """
        num_layers = sum(self.depths) + 2
        if param_name.startswith(prefix):
            part, *rest = param_name[len(prefix):].split('.')
            if part == 'patch_embed':
                return 0, num_layers
            if part == 'layers':
                stage = int(rest[0])
                block = int(rest[2]) if rest[1] == 'blocks' else self.depths[stage] - 1
                return sum(self.depths[:stage]) + block + 1, num_layers
        return num_layers - 1, num_layers

    def _stages(self) -> Iterable[Stage]:
        # All that a ModuleList tells of its members is that they are modules.
        layers: Any = self.layers
        return layers

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.patch_embed, self.pos_drop, *self.layers[:self.frozen_stages]]


def find_backbone(model: nn.Module, name: str | None = None) -> FocalNet:
    """The FocalNet of a model.

    Args:
        model: A FocalNet, or any module that has one, however it is wrapped.
        name: Which one, where there are several: its name in the model without what wrappers add, such as
            ``'student.backbone'``, or that of a part with just this one, such as ``'student'``.

    Returns:
        The backbone.

    Raises:
        ValueError: The model has no FocalNet, or several; or none, or several, of this name.
    """
    found = [(path, part) for path, part in named_parts(model) if isinstance(part, FocalNet)]
    if name is not None or not found:
        found += [(path, part) for path, part in unregistered_parts(model) if isinstance(part, FocalNet)]
    names = ', '.join(path or 'the model itself' for path, _ in found)
    if name is not None:
        found = [(path, part) for path, part in found if f'{path}.'.startswith(f'{plain_name(name)}.')]
        if len(found) != 1:
            raise ValueError(f'The backbone {name!r} was asked for, but {len(found)} FocalNets of the '
                             f'{type(model).__name__} are called so, which has: {names or "none"}.')
    elif not found:
        raise ValueError(f'One FocalNet was expected in the model, but the {type(model).__name__} has none.')
    elif len(found) > 1:
        raise ValueError(f'One FocalNet was expected in the model, but the {type(model).__name__} has {len(found)}: '
                         f'{names}. Name one of them as the backbone, or pass the part that has it.')
    return found[0][1]


def _largest_kernel(net: nn.Module) -> int:
    """The size of the largest depthwise kernel."""
    modulations = (module for module in net.modules() if isinstance(module, FocalModulation))
    return max((kernel.shape[-1] for modulation in modulations for kernel in modulation.kernels()), default=0)


def _build_stem(settings: Mapping[str, Any], norm: bool) -> PatchEmbed:
    stride = settings['patch_size']
    kernel, padding = (7, settings['stem_padding']) if settings['conv_stem'] else (stride, 0)
    return PatchEmbed(settings['in_channels'], settings['embed_dims'], kernel, stride, padding, norm)


def _build_stage(settings: Mapping[str, Any], stage: int, channels: Sequence[int],
                 drop_path_rates: Iterator[float]) -> Stage:
    """A stage, and the downsampling to the next one where ``channels`` are those of both."""
    kind = DepthwiseBlock if settings['depthwise_convs'] else Block
    blocks = [
        kind(
            channels[0],
            build_modulation(
                settings['modulation'], channels[0], settings['focal_levels'][stage], settings['focal_windows'][stage],
                settings['focal_factor'][stage], post_norm=settings['post_norm_in_modulation'],
                normalize_modulator=settings['normalize_modulator'], drop_rate=settings['drop_rate']),
            settings['mlp_ratio'], settings['drop_rate'], next(drop_path_rates), settings['post_norm'],
            settings['layer_scale_init_value'])
        for _ in range(settings['depths'][stage])]
    kernel, padding = (3, 1) if settings['conv_stem'] else (2, 0)
    downsample = PatchEmbed(channels[0], channels[1], kernel, 2, padding) if len(channels) > 1 else None
    return Stage(blocks, downsample)
