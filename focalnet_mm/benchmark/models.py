"""FocalNet and its peers, as a benchmark builds them; a peer is imported where it is built."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..backbone import FocalNet
from ..backbone.archs import resolve_arch
from ..run.build import build_model
from ..run.config import load_config

__all__ = ['BUILDERS', 'OURS', 'build', 'default_models']


def ours(implementation: str) -> Callable[..., nn.Module]:
    def build(arch: str, window: int, with_cp: bool = False) -> nn.Module:
        return FocalNet(arch, focal_windows=window, with_cp=with_cp, implementation=implementation)
    return build


def timm_focalnet(arch: str, window: int) -> nn.Module:
    import timm

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            name = f'focalnet_{arch.replace("-", "_")}'
            self.net = timm.create_model(name, num_classes=0, focal_windows=(window,) * 4)

        def forward(self, x: Tensor) -> list[Tensor]:
            return self.net.forward_intermediates(x, intermediates_only=True)
    return Features()


def transformers_focalnet(arch: str, window: int) -> nn.Module:
    from transformers import FocalNetConfig, FocalNetModel
    settings = resolve_arch(arch)
    return FocalNetModel(FocalNetConfig(
        embed_dim=settings['embed_dims'], depths=list(settings['depths']), focal_windows=[window] * 4,
        focal_levels=[settings['focal_levels']] * 4))


def swin(arch: str, window: int) -> nn.Module:
    from mmdet.models import SwinTransformer
    scale = arch.split('-')[0]
    return SwinTransformer(
        embed_dims=128 if scale == 'base' else 96, depths=(2, 2, 6 if scale == 'tiny' else 18, 2),
        num_heads=(4, 8, 16, 32) if scale == 'base' else (3, 6, 12, 24))


def timm_swin(arch: str, window: int) -> nn.Module:
    import timm
    return timm.create_model(f'swin_{arch.split("-")[0]}_patch4_window7_224', features_only=True, strict_img_size=False)


def convnext(arch: str, window: int) -> nn.Module:
    import timm
    return timm.create_model(f'convnext_{arch.split("-")[0]}', features_only=True)


#: Ours → the implementation. Models whose name ends in ``channels-last`` are converted.
OURS = {'focalnet-mm': 'auto', 'focalnet-mm triton': 'triton', 'focalnet-mm reference': 'reference',
        'focalnet-mm reference channels-last': 'reference'}
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    **{name: ours(implementation) for name, implementation in OURS.items()},
    'timm': timm_focalnet,
    'timm channels-last': timm_focalnet,
    'transformers': transformers_focalnet,
    'Swin (mmdet)': swin,
    'Swin (timm)': timm_swin,
    'ConvNeXt (timm)': convnext,
}
_ELSEWHERE = {'cpu': ('focalnet-mm triton', 'focalnet-mm reference channels-last', 'Swin (timm)'),
              # mmdet needs mmcv, which a rented GPU has not; what auto takes there is one of the others.
              'cuda': ('focalnet-mm', 'Swin (mmdet)')}


def default_models(device: str) -> list[str]:
    """The models that are measured on a type of device where none is named."""
    return [name for name in BUILDERS if name not in _ELSEWHERE.get(device, _ELSEWHERE['cpu'])]


def build(job: Mapping[str, Any]) -> nn.Module:
    if job.get('peer'):
        file, _, name = job['peer'].rpartition(':')
        spec = importlib.util.spec_from_file_location('peer', file)
        if spec is None or spec.loader is None:
            raise ImportError(f'{file} is no Python file.')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)()
    if job['config']:
        return DetectorLoss(job['config'], OURS[job['model']])
    cp = {'with_cp': True} if job['mode'] == 'with_cp' else {}
    return BUILDERS[job['model']](job['arch'], job['window'], **cp)


class DetectorLoss(nn.Module):
    """The loss of a whole detector without pretrained weights, for images with random boxes and masks."""

    def __init__(self, config: str, implementation: str) -> None:
        super().__init__()
        cfg = load_config(config)
        cfg.model.backbone.init_cfg = None
        cfg.model.backbone.implementation = implementation
        self.model = build_model(cfg)
        self.model.init_weights()

    def forward(self, images: Tensor) -> Tensor:
        from mmdet.testing import demo_mm_inputs
        np.random.seed(0)
        count, shape = len(images), tuple(images.shape[1:])
        data = demo_mm_inputs(count, image_shapes=[shape] * count, num_items=[8] * count, num_classes=5, with_mask=True)
        # The targets lie where the preprocessor says, which only moves along with a whole model of mmengine.
        samples = self.model.data_preprocessor.to(images.device)(data, True)['data_samples']
        return self.model.parse_losses(self.model.loss(images, samples))[0]
