"""The graph of a plan beside the pipeline and the data preprocessor that it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from ...run.images import ImagePipeline
from .graph import CARRIERS, preprocess_model

__all__ = ['compare_with_pipeline']

# Height and width of pictures to compare with: odd ones, long ones, and such as are cropped, padded, reduced or
# enlarged by most steps.
_SIZES = (480, 640), (333, 251), (33, 700), (97, 41), (1500, 1400)
# OpenCV rounds cubic interpolation in an order of its own.
_MOST_LEVELS = 1.01


def compare_with_pipeline(plan: Mapping[str, Any], model: nn.Module, cfg: Config, boxes: bool = False) -> float:
    """Prepare random pictures by the graph and by the config.

    Args:
        plan: What :func:`~focalnet_mm.deploy.preprocess.make_plan` made of the config.
        model: The model with its ``data_preprocessor``.
        cfg: The config.
        boxes: Whether the model finds boxes, which come back from the sizes of images to those of pictures.

    Returns:
        The largest difference, in grey levels of 256.

    Raises:
        ValueError: It is more than one, the sizes differ, or boxes would come back otherwise than in the config.
    """
    import onnxruntime
    pipeline = ImagePipeline(cfg)
    options = onnxruntime.SessionOptions()
    # It warns of what some sizes of pictures do without.
    options.log_severity_level = 3
    graph = onnxruntime.InferenceSession(preprocess_model(plan).SerializeToString(), options,
                                         providers=['CPUExecutionProvider'])
    preprocessor: Any = model.data_preprocessor
    std = np.array(plan['prepare']['std'])[:, None, None]
    random, largest = np.random.default_rng(0), 0.0
    for size in _SIZES:
        picture = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        with torch.no_grad():
            batch = pipeline(picture).batch
            expected = preprocessor(batch, False)['inputs'].numpy()
        found, _, original, resized = graph.run(['prepared', *CARRIERS], {'pictures': picture[None, ..., ::-1]})
        if found.shape != expected.shape:
            raise ValueError(f'A picture of {size[1]} × {size[0]} pixels becomes {found.shape} in the graph and '
                             f'{expected.shape} in the config\'s pipeline: export with --no-preprocess, and please '
                             'report it.')
        if boxes:
            _check_scale(batch['data_samples'][0].metainfo, resized.shape, original.shape)
        largest = max(largest, float(np.abs((found - expected) * std).max()))
    if not largest <= _MOST_LEVELS:
        raise ValueError(f'The graph prepares pictures by up to {largest:.1f} grey levels otherwise than the pipeline '
                         'of the config: export with --no-preprocess, and please report it.')
    return largest


def _check_scale(meta: Mapping[str, Any], resized: Sequence[int], original: Sequence[int]) -> None:
    """Refuse steps after which boxes are not brought back by the sizes of what was resized and of the picture."""
    scale = meta.get('scale_factor')
    # Without it mmdet brings no boxes back at all.
    if scale is None:
        return
    (height, width), (old_height, old_width) = resized, original
    if not np.allclose(scale, (width / old_width, height / old_height), rtol=1e-6, atol=0):
        raise ValueError(f'The pipeline of the config makes an image of {width} × {height} pixels of a picture of '
                         f'{old_width} × {old_height}, and brings boxes back by the factors {tuple(scale)}, which the '
                         'graph does only where one step alone resizes: export with --no-preprocess.')
