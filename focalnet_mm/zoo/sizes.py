"""Parameters and multiply-adds of the models of configs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from ..run.build import build_model
from .rows import Size

__all__ = ['model_size']

# As the published figures were counted: two-stage heads on this many boxes and masks.
_BOXES = 1000
_MASKS = 100


def model_size(config: str | Path | Config, input_size: tuple[int, int]) -> Size:
    """Count the parameters and multiply-adds of a model, in seconds and without memory for its backbone.

    Operations are counted by :mod:`torch.utils.flop_counter`, which counts a multiply-add as two: convolutions and
    matrix products only. The heads of two-stage detectors run on 1000 boxes and 100 masks, as in mmdet's own counter,
    by which the published figures were made.

    Args:
        config: A config or its path.
        input_size: Height and width of the image in pixels.

    Returns:
        The size of the model.
    """
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), _quiet():
        model = build_model(cfg, device='meta').eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device('meta'):
        _run(model, torch.zeros(1, 3, *input_size))
    return Size(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what data preprocessors and norm layers say while they are built."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _run(model: BaseModel, images: torch.Tensor) -> None:
    """Let a model on the meta device do what it does for an image, without what depends on the image's content."""
    kind = type(model).__name__
    if kind == 'ImageClassifier':
        model(images)
        return
    features = model.backbone(images)
    head: Any = getattr(model, 'decode_head', None) or getattr(model, 'panoptic_head', None)
    if kind == 'DINO' or type(head).__name__ == 'Mask2FormerHead':
        # Their attention reads sizes and points from tensors, which have no content on the meta device.
        with torch.device('cpu'), _WithoutContent():
            _run_transformer(model, head, [torch.zeros(feature.shape) for feature in features], images)
        return
    if model.with_neck:
        features = model.neck(features)
    if kind == 'EncoderDecoder':
        head(features)
    elif kind == 'SparseRCNN':
        boxes, channels = model.rpn_head.num_proposals, model.neck.out_channels
        for stage in model.roi_head.bbox_head:
            stage(torch.zeros(boxes, channels, 7, 7), torch.zeros(1, boxes, channels))
    elif hasattr(model, 'roi_head'):
        model.rpn_head(features)
        channels = model.neck.out_channels
        for heads, shape in ((model.roi_head.bbox_head, (_BOXES, channels, 7, 7)),
                             (model.roi_head.mask_head, (_MASKS, channels, 14, 14))):
            for stage in heads if isinstance(heads, nn.ModuleList) else [heads]:
                stage(torch.zeros(shape))
    else:
        model.bbox_head(features)


class _WithoutContent(TorchDispatchMode):
    """Operations on maps give zeros that lie in no memory: only shapes count, and they are known without computing.

    Integers and small tensors are computed, since sizes and places are read of them. Views stay views.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
        if not any(_is_map(tensor) for tensor in inputs):
            return func(*args, **kwargs)
        if func._schema.is_mutable:
            return args[0]
        if any(result.alias_info for result in func._schema.returns):
            return func(*args, **kwargs)
        args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to('meta'), (args, kwargs))
        return tree_map_only(torch.Tensor, lambda tensor: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape),
                             func(*args, **kwargs))


def _is_map(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.numel() > 10_000


def _run_transformer(model: BaseModel, head: nn.Module | None, features: list[torch.Tensor],
                     images: torch.Tensor) -> None:
    from mmdet.structures import DetDataSample
    for name, child in model.named_children():
        if name != 'backbone':
            child.to_empty(device='cpu')
            for tensor in (*child.parameters(), *child.buffers()):
                tensor.zero_()
    size = tuple(images.shape[-2:])
    samples = [DetDataSample(metainfo=dict(img_shape=size, batch_input_shape=size, pad_shape=size))]
    if head is not None:
        head(features, samples)
        return
    model.level_embed = nn.Parameter(torch.zeros(model.level_embed.shape))
    results = model.forward_transformer(model.neck(features), samples)
    model.bbox_head(results['hidden_states'], results['references'])
