"""The graph of a plan beside the pipeline and the data preprocessor that it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from ...run.images import ImagePipeline
from .graph import preprocess_model

__all__ = ['compare_with_pipeline']

# Height and width of pictures to compare with, one of them odd.
_SIZES = (480, 640), (333, 251)
# OpenCV rounds cubic interpolation in an order of its own.
_MOST_LEVELS = 1.01


def compare_with_pipeline(plan: Mapping[str, Any], model: nn.Module, cfg: Config) -> float:
    """Prepare random pictures by the graph and by the config.

    Args:
        plan: What :func:`~focalnet_mm.deploy.preprocess.make_plan` made of the config.
        model: The model with its ``data_preprocessor``.
        cfg: The config.

    Returns:
        The largest difference, in grey levels of 256.

    Raises:
        ValueError: It is more than one, or the sizes differ.
    """
    import onnxruntime
    pipeline = ImagePipeline(cfg)
    graph = onnxruntime.InferenceSession(preprocess_model(plan).SerializeToString(),
                                         providers=['CPUExecutionProvider'])
    preprocessor: Any = model.data_preprocessor
    std = np.array(plan['prepare']['std'])[:, None, None]
    random, largest = np.random.default_rng(0), 0.0
    for size in _SIZES:
        picture = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        with torch.no_grad():
            expected = preprocessor(pipeline(picture).batch, False)['inputs'].numpy()
        found, = graph.run(['prepared'], {'pictures': picture[None, ..., ::-1]})
        if found.shape != expected.shape:
            raise ValueError(f'A picture of {size[1]} × {size[0]} pixels becomes {found.shape} in the graph and '
                             f'{expected.shape} in the config\'s pipeline: export with --no-preprocess, and please '
                             'report it.')
        largest = max(largest, float(np.abs((found - expected) * std).max()))
    if not largest <= _MOST_LEVELS:
        raise ValueError(f'The graph prepares pictures by up to {largest:.1f} grey levels otherwise than the pipeline '
                         'of the config: export with --no-preprocess, and please report it.')
    return largest
