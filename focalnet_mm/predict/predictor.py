"""A model and how to read, draw and store what it predicts."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import VISUALIZERS

from ..backbone.focalnet import find_backbone
from ..data.pictures import to_bgr
from ..run.build import load_model, unwrap
from ..run.config import scope_of, type_name
from ..run.failures import first_line
from ..run.images import ImagePipeline, Loaded
from ..run.tasks import of_task, task_heads
from .classified import Classes, best_classes, class_lines, known_classes
from .drawing import draw_classes
from .masks import encoded

__all__ = ['Predictor']

_VISUALIZERS = dict(mmdet='DetLocalVisualizer', mmseg='SegLocalVisualizer', mmpretrain='UniversalVisualizer')


class Predictor:
    """A model and how to read, draw and store what it predicts.

    Args:
        cfg: The config, of mmdet, mmseg or mmpretrain.
        checkpoint: As :func:`~focalnet_mm.weights.read_model` takes it. Its classes win over those of the config's
            data set. Or a model with its weights and ``dataset_meta``, which is changed to evaluation mode.
        device: Where to compute, by default the GPU if there is one.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It cannot be read, or is not of this config; the config is of another library, or has no test
            pipeline; or there is no such device.
    """

    def __init__(self, cfg: Config, checkpoint: str | BaseModel, device: str | None = None) -> None:
        self._scope = scope_of(cfg)
        if self._scope not in _VISUALIZERS:
            raise ValueError(f'The model is of {self._scope!r}, expected mmdet, mmseg or mmpretrain.')
        device = device or get_device()
        if isinstance(checkpoint, BaseModel):
            checkpoint.eval()
        self._runnable = checkpoint if isinstance(checkpoint, BaseModel) else load_model(cfg, checkpoint)
        try:
            self._runnable.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f'The model could not be moved to the device {device!r}: {error}') from None
        self._model = unwrap(self._runnable)
        #: Names of the classes, by label; of several tasks for each.
        self.classes: Classes = known_classes(self._model.dataset_meta.get('classes'))
        self._pipeline = ImagePipeline(cfg)
        self._visualizer = _visualizer(cfg, self._scope)
        self._channels: int | None = None
        with contextlib.suppress(ValueError):
            self._channels = find_backbone(self._model).in_channels

    def load(self, source: str | Path | Sequence[str | Path], name: str | None = None) -> Loaded:
        """Load an image as the config's test pipeline does it.

        Args:
            source: File or URL; or the files of the channels, for a loader that takes a list.
            name: What messages call it, by default its path.

        Returns:
            The image, as it was loaded, and the batch for the model.

        Raises:
            ValueError: It could not be loaded.
        """
        return self._pipeline(source, name)

    def predict(self, image: str | Path | np.ndarray | Loaded, name: str = 'The image') -> Any:
        """What the model predicts for an image, as the library's test does it.

        Args:
            image: What :meth:`load` returned; a file; or an image as the config's test pipeline loads it, (H, W) or
                (H, W, C), in most configs BGR in uint8.
            name: What messages call it.

        Returns:
            The library's data sample, in the size of the image.

        Raises:
            ValueError: It could not be loaded, has other channels than the model takes, or the model fails on it.
        """
        loaded = image if isinstance(image, Loaded) else self._pipeline(image)
        if self._channels:
            self._pipeline.check_channels(loaded, self._channels, name)
        try:
            with torch.no_grad():
                return self._runnable.test_step(loaded.batch)[0]
        except Exception as error:
            raise ValueError(f'{name}: the model fails on this image of shape {loaded.image.shape} '
                             f'({loaded.image.dtype}): {first_line(error)}') from error

    def draw(self, image: np.ndarray, sample: Any, score_thr: float = 0.3) -> np.ndarray:
        """A picture of a prediction.

        Args:
            image: The image that was loaded, (H, W) or (H, W, C), BGR if C is 3 or more; see
                :func:`~focalnet_mm.data.pictures.to_bgr`.
            sample: What :meth:`predict` returned for it.
            score_thr: Leave out what a detector scores below this.

        Returns:
            BGR image (H, W, 3), uint8.
        """
        image = to_bgr(image)
        # mmdet's visualizer fails where there is no segment, mmseg's on a single pixel.
        if ('pred_panoptic_seg' in sample and not self._segments(sample)) or image.shape[:2] == (1, 1):
            return image.copy()
        if self._scope == 'mmpretrain' and 'pred_score' not in sample:
            # mmpretrain's visualizer knows no tasks.
            parts = self._parts(sample)
            return draw_classes(image, class_lines(self.classes, _scores(parts), {
                task: part.pred_label.tolist() for task, part in parts.items()}))
        rgb = np.ascontiguousarray(image[..., ::-1])
        meta = self._visualizer.dataset_meta = self._labels(sample)
        if self._scope == 'mmpretrain':
            drawn = self._visualizer.visualize_cls(rgb, sample, classes=meta['classes'], draw_gt=False)
        else:
            options = dict(pred_score_thr=score_thr) if self._scope == 'mmdet' else {}
            self._visualizer.add_datasample('prediction', rgb, sample, draw_gt=False, **options)
            drawn = self._visualizer.get_image()
        return np.ascontiguousarray(drawn[..., ::-1])

    def entries(self, sample: Any, image_id: int) -> list[dict[str, Any]]:
        """A prediction in the form of COCO's results.

        Args:
            sample: What :meth:`predict` returned.
            image_id: The image's number.

        Returns:
            Entries with ``image_id`` and ``category_id``, the label of the model, and, depending on the model: ``bbox``
            (x, y, width, height, in pixels), ``score``, ``segmentation`` (run-length encoded) and ``area`` (pixels). A
            panoptic segment also has ``isthing``. Classifiers give their five best classes, those of several tasks
            of each ``task``.
        """
        if 'pred_panoptic_seg' in sample:
            found = self._panoptic(sample)
        elif 'pred_instances' in sample:
            found = _instances(sample.pred_instances.cpu())
        elif 'pred_sem_seg' in sample:
            labels = sample.pred_sem_seg.data[0].cpu().numpy()
            found = [dict(category_id=int(label), **encoded(labels == label)) for label in np.unique(labels)]
        else:
            found = best_classes(_scores(self._parts(sample)))
        return [dict(image_id=image_id, **entry) for entry in found]

    def _parts(self, sample: Any) -> dict[str, Any]:
        """Task → the sample of it, for mmpretrain's classifiers; of one alone that of ``''``."""
        return {'.'.join(task): of_task(sample, task)
                for task, _ in task_heads(getattr(self._model, 'head', None))}

    def _panoptic(self, sample: Any) -> list[dict[str, Any]]:
        segments = sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()
        things = self._model.panoptic_fusion_head.num_things_classes
        return [dict(category_id=label, isthing=int(label < things), **encoded(segments == segment))
                for segment, label in self._segments(sample).items()]

    def _segments(self, sample: Any) -> dict[int, int]:
        """Number in the panoptic map → label, of each segment."""
        from mmdet.evaluation.functional import INSTANCE_OFFSET
        labels = {segment: segment % INSTANCE_OFFSET for segment in sample.pred_panoptic_seg.sem_seg.unique().tolist()}
        classes = self._model.panoptic_fusion_head.num_classes
        # The label after the last is that of no segment.
        return {segment: label for segment, label in labels.items() if label < classes}

    def _labels(self, sample: Any) -> dict[str, Any]:
        """Names and colours of all labels that a prediction may have; those that nobody gave are made up."""
        if 'pred_panoptic_seg' in sample:
            count = self._model.panoptic_fusion_head.num_classes
        elif 'pred_instances' in sample:
            count = int(max(sample.pred_instances.labels.tolist(), default=-1)) + 1
        elif 'pred_sem_seg' in sample:
            count = int(sample.pred_sem_seg.data.max()) + 1
        else:
            count = len(sample.pred_score)
        count = max(count, len(self.classes))
        names = [*self.classes, *(f'class {label}' for label in range(len(self.classes), count))]
        palette = self._model.dataset_meta.get('palette')
        colours = [] if palette is None or isinstance(palette, str) else [tuple(map(int, rgb)) for rgb in palette]
        made_up = np.random.RandomState(42).randint(256, size=(count, 3)).tolist()
        return dict(classes=names, palette=colours + [tuple(rgb) for rgb in made_up[len(colours):]])


def _scores(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {task: part.pred_score.cpu().double().numpy() for task, part in parts.items()}


def _visualizer(cfg: Config, scope: str) -> Any:
    """The config's visualizer, which neither writes nor sends anything; for classifiers always mmpretrain's."""
    settings = dict(cfg.get('visualizer') or {}) if scope != 'mmpretrain' else {}
    settings = {key: value for key, value in settings.items() if key not in ('name', 'save_dir', 'vis_backends')}
    # mmengine's own draws nothing of a prediction.
    if type_name(settings) in ('', 'Visualizer'):
        settings = dict(type=f'{scope}.{_VISUALIZERS[scope]}')
    # mmengine keeps one a name.
    return VISUALIZERS.build(dict(settings, name=f'predict-{uuid.uuid4()}'))


def _instances(instances: Any) -> list[dict[str, Any]]:
    found = []
    boxes = instances.get('bboxes')
    # Boxes of mmdet's own types hold their numbers as `tensor`.
    boxes = getattr(boxes, 'tensor', boxes)
    for i, (label, score) in enumerate(zip(instances.labels.tolist(), instances.scores.tolist())):
        entry: dict[str, Any] = dict(category_id=label)
        if boxes is not None:
            left, top, right, bottom = boxes[i].tolist()
            entry['bbox'] = [left, top, right - left, bottom - top]
        entry['score'] = score
        if 'masks' in instances:
            entry.update(encoded(np.asarray(instances.masks[i])))
        found.append(entry)
    return found
