"""What a network is given, and what it predicts, as pictures."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel

from ...data.own.label_maps import IGNORED
from ...data.own.records import Annotation, OwnData, Picture
from ...explain.figures import as_picture, reads_rgb
from ...predict.predictor import Predictor
from ..report import Finding, View
from ..report.drawing import colours_of, draw, whole

__all__ = ['given', 'of_numbers', 'predicted', 'preprocessed']

_MOST = 8
_SIDE = 480
# ImageNet's mean in RGB, for values to 255, which most public weights are trained with.
_MEAN = (123.675, 116.28, 103.53)
# Of what a network is given, numbers beyond these are not those of normalised pictures.
_HIGHEST_MEAN, _HIGHEST_STD, _LEAST_STD = 4.0, 6.0, 0.05


def preprocessed(model: BaseModel, batch: Any) -> tuple[torch.Tensor | None, Sequence[Any]]:
    """A batch as the network gets it.

    Args:
        model: The model.
        batch: A batch of its data loader for training, left as it is.

    Returns:
        Inputs (N, C, H, W), or nothing where they are no such tensor, as where a model takes several views; and the
        data samples.
    """
    with torch.no_grad():
        data = model.data_preprocessor(copy.deepcopy(batch), True)
    inputs = data.get('inputs') if isinstance(data, Mapping) else None
    samples = (data.get('data_samples') if isinstance(data, Mapping) else None) or []
    if isinstance(inputs, torch.Tensor) and inputs.dim() == 4:
        return inputs.detach().cpu(), samples
    return None, []


def _turned(model: BaseModel) -> bool:
    """Whether the preprocessor turns the order of the channels."""
    # Each library's own name.
    names = '_channel_conversion', 'channel_conversion', 'to_rgb'
    return any(getattr(model.data_preprocessor, name, False) for name in names)


def _in_numbers_of_pictures(model: BaseModel, inputs: torch.Tensor) -> torch.Tensor:
    """Without what the preprocessor subtracts and divides by."""
    part = model.data_preprocessor
    mean, std = getattr(part, 'mean', None), getattr(part, 'std', None)
    if not isinstance(mean, torch.Tensor) or not isinstance(std, torch.Tensor):
        return inputs
    return inputs * std.cpu().view(1, -1, 1, 1) + mean.cpu().view(1, -1, 1, 1)


def given(model: BaseModel, cfg: Config, data: OwnData, batches: Sequence[Any]) -> list[View]:
    """Pictures as the network gets them, after augmentation, with their annotations.

    Args:
        model: The model.
        cfg: Its config.
        data: What names and colours of the classes are taken from.
        batches: Batches for training.
    """
    views: list[View] = []
    for batch in batches:
        inputs, samples = preprocessed(model, batch)
        if inputs is None:
            continue
        rgb = reads_rgb(cfg, 'train') != _turned(model)
        for i, image in enumerate(_in_numbers_of_pictures(model, inputs)):
            if len(views) < _MOST:
                picture = as_picture(image.round().clamp(0, 255) if _is_of_8_bits(image) else image, rgb)
                views.append(_view(picture, samples[i] if i < len(samples) else None, data))
    return views


def _is_of_8_bits(image: torch.Tensor) -> bool:
    return bool(image.min() > -2 and image.max() < 257 and image.max() > 2)


def _view(image: np.ndarray, sample: Any, data: OwnData) -> View:
    height, width = image.shape[:2]
    picture = Picture(Path(), height, width)
    labels, words = None, [f'{width} × {height}']
    path = getattr(sample, 'img_path', None)
    objects = getattr(sample, 'gt_instances', None)
    if objects is not None and 'labels' in objects:
        picture.annotations = list(_annotations(objects))
        words.append(f'{len(picture.annotations)} objects')
    if 'gt_sem_seg' in (sample if sample is not None else ()):
        labels = sample.gt_sem_seg.sem_seg if 'sem_seg' in sample.gt_sem_seg else sample.gt_sem_seg.data
        labels = labels.squeeze().cpu().numpy().astype(np.int32)
        labels = cv2.resize(np.where(labels == IGNORED, -1, labels), (width, height), interpolation=cv2.INTER_NEAREST)
    if 'gt_label' in (sample if sample is not None else ()):
        words.append(', '.join(data.classes[i] if i < len(data.classes) else str(i)
                               for i in np.atleast_1d(sample.gt_label.cpu().numpy()).tolist()))
    drawn = draw(picture, whole(picture), colours_of(data), lambda *_: image[..., ::-1], labels, side=_SIDE)
    named = Path(path[0] if isinstance(path, (list, tuple)) else path).name if path else ''
    return View(drawn, ' · '.join([named, *words] if named else words))


def _annotations(objects: Any) -> Iterator[Annotation]:
    boxes = objects.get('bboxes')
    boxes = getattr(boxes, 'tensor', boxes)
    masks = objects.get('masks')
    drawn = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else None
    for i, label in enumerate(objects.labels.tolist()):
        box = tuple(boxes[i].tolist()) if boxes is not None and boxes.shape[1] == 4 else (0, 0, 0, 0)
        yield Annotation(label, box, _polygons(drawn[i]) if drawn is not None else None)


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a mask, from the corners of pixels as COCO counts."""
    outlines, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [(outline.reshape(-1) + 0.5).tolist() for outline in outlines]


def predicted(model: BaseModel, cfg: Config, batches: Sequence[Any], device: str) -> list[View]:
    """What a model predicts for the pictures of some batches, as a test reads them.

    Args:
        model: The model, changed to evaluation mode.
        cfg: Its config, with test data.
        batches: Batches for training, of which the pictures' paths are taken.
        device: Where the model is.

    Returns:
        The pictures; none of those that are neither files of this machine nor URLs.

    Raises:
        ValueError: A picture cannot be read by the config's test pipeline, or the model fails on it.
    """
    predictor = Predictor(cfg, model, device)
    paths = dict.fromkeys(sample.img_path for batch in batches for sample in _samples(batch)
                          if isinstance(getattr(sample, 'img_path', None), str))
    paths = {path: None for path in paths if '://' in path or os.path.isfile(path)}
    views = []
    for path in list(paths)[:_MOST]:
        loaded = predictor.load(path)
        drawn = predictor.draw(loaded.image, predictor.predict(loaded))[..., ::-1]
        scale = min(1.0, _SIDE / max(drawn.shape[:2]))
        if scale < 1:
            drawn = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        views.append(View(np.ascontiguousarray(drawn), Path(path).name))
    return views


def _samples(batch: Any) -> Sequence[Any]:
    found = batch.get('data_samples') if isinstance(batch, Mapping) else None
    return found if isinstance(found, Sequence) else []


def of_numbers(model: BaseModel, cfg: Config, batch: Any) -> Iterator[Finding]:
    """Whether the network is given normalised numbers, in the order of channels that its mean is written for."""
    inputs, samples = preprocessed(model, batch)
    if inputs is None:
        return
    values = inputs.double()
    shapes = [getattr(sample, 'img_shape', None) or inputs.shape[2:] for sample in samples] or [
        inputs.shape[2:]] * len(inputs)
    # Without what was padded.
    flat = torch.cat([image[:, :shape[0], :shape[1]].flatten(1) for image, shape in zip(values, shapes)], 1)
    mean, std = flat.mean(1), flat.std(1)
    told = f'{_rounded(mean)} on average with a standard deviation of {_rounded(std)}'
    if mean.abs().max() > _HIGHEST_MEAN or std.max() > _HIGHEST_STD or std.max() < _LEAST_STD:
        yield Finding('warning', f'The network is given {told}, a number a channel, where about 0 and 1 were expected: '
                      "compare mean and std of the data_preprocessor with the pictures' own numbers, which mostly go "
                      'to 255, and of 16 bits to 65535.')
    else:
        yield Finding('passed', f'The network is given {told}.')
    known = getattr(model.data_preprocessor, 'mean', None)
    if isinstance(known, torch.Tensor) and known.numel() == 3:
        order = 'RGB' if reads_rgb(cfg, 'train') != _turned(model) else 'BGR'
        theirs = known.flatten().tolist()
        other, mean_in_other = ('BGR', _MEAN[::-1]) if order == 'RGB' else ('RGB', _MEAN)
        if np.allclose(theirs, mean_in_other, atol=0.1):
            yield Finding('warning', f'The network is given {order}, and the mean {_rounded(known.flatten())} of the '
                          f"data_preprocessor is ImageNet's in {other}: turn mean and std, or set bgr_to_rgb (of "
                          'mmpretrain: to_rgb) as the weights need it.')


def _rounded(values: torch.Tensor) -> str:
    return '(' + ', '.join(f'{value:.3g}' for value in values.tolist()) + ')'
