"""One config exported to ONNX with random weights, and run beside PyTorch in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..benchmark.measure import resident
from ..deploy import Runtime, export_model, exportable
from ..deploy.part import compare
from ..run.build import load_model
from ..run.config import first_dataset, load_config
from ..run.images import ImagePipeline

__all__ = ['measure_export', 'spread']

# Height and width that most pictures of COCO become, in place of what FLOPs are counted at.
_DETECTION_SIZE = 800, 1216
# Within which a picture of that size stays as it is.
_SCALE = 1333, 800
# After so many turns, or so many seconds, no more are taken.
_TURNS, _SECONDS = 5, 60.0


def measure_export(config: str | Path, file: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Export a config's model as ``focalnet-mm export --to onnx`` does, and run the file and PyTorch by turns.

    Both compute with as many threads, from a picture that needs no resizing to what they predict, with thresholds of 0
    so that random weights find as many objects as trained ones may.

    Args:
        config: The config.
        file: The file to write.
        size: Height and width of the picture in pixels; mmdet's models get one of 800 × 1216, and mmseg's one of the
            size that they were trained with.

    Returns:
        ``size`` in words, ``bytes`` of the file with its weights, seconds to ``export`` it with all checks and the
        ``peak`` of this process' memory in bytes until then, median seconds a picture in ``pytorch`` and
        ``onnxruntime``, the largest ``difference``, whether the two agree (``holds``) and, in ``words``, what belongs
        together.

    Raises:
        ValueError: The model cannot be exported, or what was written differs at the sizes that the export itself tries.
    """
    cfg = load_config(str(config))
    cfg.model.backbone.init_cfg = None
    _leave_size(cfg)
    model: Any = load_model(cfg)
    spread(model)
    started = time.perf_counter()
    export_model(model, file, 'onnx', cfg=cfg)
    seconds, peak = time.perf_counter() - started, resident('VmHWM')
    part = exportable(model, 'model')
    picture = _picture(*_size(cfg, size))
    batch = ImagePipeline(cfg)(np.ascontiguousarray(picture[..., ::-1])).batch
    shapes: dict[str, Tensor] = {}
    if part.carriers:
        meta = batch['data_samples'][0].metainfo
        shapes = {name: torch.zeros(meta[key][:2], dtype=torch.uint8)
                  for name, key in (('inside', 'img_shape'), ('original', 'ori_shape'))}
    runtime = Runtime(file, threads=torch.get_num_threads())
    given = dict(images=picture[None], **{name: value.numpy() for name, value in part.trial.items()})

    def in_pytorch() -> Any:
        with torch.no_grad():
            images = model.data_preprocessor(batch, False)['inputs']
            return part.predict(images, **shapes, **part.trial)

    with torch.no_grad():
        images = model.data_preprocessor(batch, False)['inputs']

    def in_onnxruntime() -> list[Tensor]:
        return [torch.from_numpy(found) for found in runtime.session.run(None, given)]

    # The first run of each prepares what later ones have, and is compared.
    agreed = compare(part, images, {**shapes, **part.trial}, in_onnxruntime())
    pytorch, onnxruntime = _by_turns(in_pytorch, in_onnxruntime)
    height, width = images.shape[2:]
    return dict(size=f'{height}×{width}', bytes=sum(one.stat().st_size for one in file.parent.iterdir()),
                export=seconds, peak=peak, pytorch=pytorch, onnxruntime=onnxruntime, difference=agreed.difference,
                holds=agreed.holds, words=agreed.words)


def spread(model: BaseModel) -> None:
    """Give the heads of a model random weights of which no two predictions are alike, in place of those of before a
    training, whose scores all are the same but for rounding."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.startswith('backbone') or not isinstance(module, (nn.Linear, nn.Conv2d)):
                continue
            # Of large logits many probabilities are 1, and of large deltas all boxes end at the border.
            gain = 0.3 if 'reg' in name else 0.5 if 'cls' in name else 1.4
            module.weight.normal_(std=gain * module.weight[0].numel() ** -0.5, generator=generator)


def _size(cfg: Any, size: tuple[int, int]) -> tuple[int, int]:
    if cfg.default_scope == 'mmdet':
        return _DETECTION_SIZE
    if cfg.default_scope == 'mmseg':
        height, width = cfg.model.data_preprocessor.size
        return height, width
    return size


def _leave_size(cfg: Any) -> None:
    """Let no model of mmdet enlarge its picture: one of five scales takes more than 24 GB for 1200 × 2000 pixels."""
    if cfg.default_scope == 'mmdet':
        for step in first_dataset(cfg, 'test')['pipeline']:
            if step['type'] == 'Resize' and min(step['scale']) > min(_SCALE):
                step['scale'] = _SCALE


def _picture(height: int, width: int) -> np.ndarray:
    """An RGB picture (H, W, 3) of large spots in uint8, since noise looks alike everywhere."""
    spots = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC)


def _by_turns(*steps: Callable[[], Any]) -> list[float]:
    """Median seconds of each step, which take turns, so that what else the machine does hits all of them."""
    times: list[list[float]] = [[] for _ in steps]
    while len(times[0]) < _TURNS and sum(map(sum, times)) < _SECONDS:
        for step, found in zip(steps, times):
            started = time.perf_counter()
            step()
            found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in times]
