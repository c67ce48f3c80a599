"""What mmdet's detectors themselves predict, in the form of an exported file."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..part import Agreement, Part
from .boxes import iou_key
from .frame import UNLIMITED
from .masks import paste
from .matching import agreement

__all__ = ['as_tensors', 'changed', 'data_samples', 'detections', 'detector_part']


def detections(model: Any, most: int, names: Sequence[str], images: Tensor, inside: Tensor | None = None,
               original: Tensor | None = None, img_shape: Tensor | None = None,
               resized: Tensor | None = None) -> list[Tensor]:
    """What a detector predicts for images that are normalised already.

    Args:
        model: A detector of mmdet.
        most: How many objects an image has in the result, K.
        names: Of ``boxes`` (N, K, 4), ``scores`` (N, K), ``labels`` (N, K) and ``masks`` (N, K, H, W).
        images: (N, C, H, W).
        inside: Of the shape (height, width) of the images without padding.
        original: Of the shape (height, width) of the pictures before they were resized.
        img_shape: (N or 1, 2), in the place of ``inside`` for each image, in pixels of the original pictures.
        resized: Of the shape (height, width) that the pictures were resized to, where that is not ``inside``.

    Returns:
        One tensor a name, with scores of 0, labels of -1 and zeros where an image has fewer objects.
    """
    with torch.no_grad():
        samples = model.predict(images, data_samples(images, inside, original, img_shape, resized), rescale=True)
    return as_tensors([sample.pred_instances for sample in samples], most, names)


def data_samples(images: Tensor, inside: Tensor | None = None, original: Tensor | None = None,
                 img_shape: Tensor | None = None, resized: Tensor | None = None) -> list[Any]:
    """mmdet's samples of images, which hold their sizes; the arguments are those of :func:`detections`."""
    from mmdet.structures import DetDataSample
    whole = tuple(images.shape[2:])
    shown = whole if inside is None else tuple(inside.shape)
    size = shown if original is None else tuple(original.shape)
    height, width = shown if resized is None else resized.shape
    scale = height / size[0], width / size[1]
    samples = []
    for i in range(len(images)):
        limit = shown if img_shape is None else tuple(
            min(most, int(length * by + 0.5))
            for most, length, by in zip(shown, img_shape[i % len(img_shape)].tolist(), scale))
        samples.append(DetDataSample(metainfo=dict(
            img_shape=limit, ori_shape=size, pad_shape=whole, batch_input_shape=whole, scale_factor=scale[::-1])))
    return samples


def as_tensors(found: Sequence[Any], most: int, names: Sequence[str]) -> list[Tensor]:
    """The instances of each image as :func:`detections` returns them."""
    columns = dict(boxes='bboxes', scores='scores', labels='labels', masks='masks')
    return [torch.stack([_padded(one[columns[name]], most, -1 if name == 'labels' else 0) for one in found])
            for name in names]


def _padded(values: Tensor, most: int, fill: float) -> Tensor:
    rest = values.new_full((most - len(values), *values.shape[1:]), fill)
    return torch.cat([values, rest])


def detector_part(module: Any, model: Any, cfg: Any, masks: str = 'none') -> Part:
    """A detector as a part to export.

    Args:
        module: What computes its predictions for export.
        model: The detector itself.
        cfg: The test config of what chooses its objects.
        masks: One of ``'paste'``, ``'roi'`` and ``'none'``.
    """
    names = 'boxes', 'scores', 'labels', *dict(paste=('masks',), roi=('roi_masks',), none=())[masks]
    own_names = [name.removeprefix('roi_') for name in names]
    inputs = {name: torch.tensor(float(value)) for name, value in _thresholds(cfg).items()
              if masks == 'paste' or name != 'mask_threshold'}

    def predict(images: Tensor, inside: Tensor | None = None, original: Tensor | None = None,
                img_shape: Tensor | None = None, resized: Tensor | None = None,
                **thresholds: Tensor) -> Sequence[Tensor]:
        with changed(cfg, thresholds):
            return detections(model, cfg.max_per_img, own_names, images, inside, original, img_shape, resized)

    def agree(expected: Sequence[Tensor], found: Sequence[Tensor]) -> Agreement:
        if masks == 'roi':
            pasted = paste(found[3], found[0], (expected[3].shape[2], expected[3].shape[3]))
            found = *found[:3], pasted >= cfg.mask_thr_binary
        return agreement(own_names, expected, found, (0.0, cfg.get('score_thr', 0.0)))

    trial = {name: torch.tensor(0.0) for name in inputs if name == 'score_threshold'}
    left = ('Boxes are in pixels, as left, top, right and bottom. The objects of an image stand in the order of their '
            'scores; where it has fewer than another one of the batch, scores of 0 and labels of -1 follow.')
    facts: dict[str, Any] = dict(task='detection', thresholds={name: float(value) for name, value in inputs.items()})
    if masks == 'roi':
        facts['mask_threshold'] = float(cfg.mask_thr_binary)
        left += f' A mask covers its box; it holds where it is at least {cfg.mask_thr_binary}, once it is pasted.'
    return Part(module, names, left, predict, facts, ('onnx',), {**inputs, 'img_shape': UNLIMITED},
                ('inside', 'original', 'resized'), trial, agree, chooses=True)


def _thresholds(cfg: Any) -> dict[str, float]:
    found = dict(score_threshold=cfg.get('score_thr'), mask_threshold=cfg.get('mask_thr_binary'))
    if cfg.get('nms'):
        found.update(iou_threshold=cfg.nms[iou_key(cfg.nms)])
    return {name: value for name, value in found.items() if value is not None}


@contextlib.contextmanager
def changed(cfg: Any, thresholds: Mapping[str, Tensor]) -> Iterator[None]:
    """Other thresholds in a test config for a while."""
    before = copy.deepcopy(cfg.to_dict())
    try:
        for name, value in thresholds.items():
            if name == 'iou_threshold':
                cfg.nms[iou_key(cfg.nms)] = float(value)
            else:
                cfg[dict(score_threshold='score_thr', mask_threshold='mask_thr_binary')[name]] = float(value)
        yield
    finally:
        cfg.update(before)
