"""Predictions on pictures and videos of one's own, through the inferencers of mmdet, mmseg and mmpretrain."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.config import Config
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from .data.pictures import Input, read_image, read_video
from .run.build import load_weights

__all__ = ['Predicted', 'Predictor', 'predict_inputs']

_TOP_CLASSES = 5


class Predictor:
    """A model and how to read, draw and store what it predicts.

    Args:
        cfg: The config, of mmdet, mmseg or mmpretrain.
        checkpoint: As :func:`~focalnet_mm.weights.read_model` takes it. Its classes win over those of the config's
            data set.
        device: Where to compute, by default the GPU if there is one.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It cannot be read, or is not of this config; or the config is of another library.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str | None = None) -> None:
        self._scope = cfg.get('default_scope')
        with warnings.catch_warnings():
            # Weights and classes come below, in the same way for the three.
            warnings.simplefilter('ignore')
            if self._scope == 'mmdet':
                from mmdet.apis import DetInferencer
                self._inferencer = DetInferencer(cfg, device=device, show_progress=False)
            elif self._scope == 'mmseg':
                from mmseg.apis import MMSegInferencer
                self._inferencer = MMSegInferencer(cfg, device=device)
                self._inferencer.show_progress = False
            elif self._scope == 'mmpretrain':
                from mmpretrain import ImageClassificationInferencer
                from mmpretrain.visualization import UniversalVisualizer
                self._inferencer = ImageClassificationInferencer(cfg, pretrained=False, device=device)
                self._inferencer.visualizer = UniversalVisualizer()
            else:
                raise ValueError(f"The config's default_scope is {self._scope!r}, expected mmdet, mmseg or mmpretrain.")
        model = self._inferencer.model
        load_weights(model, cfg, checkpoint)
        #: Names of the classes, by label.
        self.classes: tuple[str, ...] = tuple(model.dataset_meta.get('classes') or ())
        self._inferencer.visualizer.dataset_meta = {**model.dataset_meta, 'classes': self.classes}
        self._model = model

    def predict(self, image: np.ndarray) -> Any:
        """What the library predicts for an image.

        Args:
            image: BGR image (H, W, 3), uint8.

        Returns:
            The library's data sample, in the size of the image.
        """
        found = self._inferencer(image, return_datasamples=True)
        if isinstance(found, dict):
            found = found['predictions']
        return found[0] if isinstance(found, list) else found

    def draw(self, image: np.ndarray, sample: Any, score_thr: float = 0.3) -> np.ndarray:
        """A picture of a prediction.

        Args:
            image: BGR image (H, W, 3), uint8.
            sample: What :meth:`predict` returned for it.
            score_thr: Leave out what a detector scores below this.

        Returns:
            BGR image (H, W, 3), uint8.
        """
        # mmdet's visualizer fails where there is no segment, mmseg's on a single pixel.
        if ('pred_panoptic_seg' in sample and not self._segments(sample)) or image.shape[:2] == (1, 1):
            return image.copy()
        visualizer, rgb = self._inferencer.visualizer, np.ascontiguousarray(image[..., ::-1])
        if self._scope == 'mmpretrain':
            drawn = visualizer.visualize_cls(rgb, sample, classes=self.classes or None, draw_gt=False)
        else:
            options = dict(pred_score_thr=score_thr) if self._scope == 'mmdet' else {}
            visualizer.add_datasample('prediction', rgb, sample, draw_gt=False, **options)
            drawn = visualizer.get_image()
        return np.ascontiguousarray(drawn[..., ::-1])

    def entries(self, sample: Any, image_id: int) -> list[dict[str, Any]]:
        """A prediction in the form of COCO's results.

        Args:
            sample: What :meth:`predict` returned.
            image_id: The image's number.

        Returns:
            Entries with ``image_id`` and ``category_id``, the label of the model, and, depending on the model: ``bbox``
            (x, y, width, height, in pixels), ``score``, ``segmentation`` (run-length encoded) and ``area`` (pixels). A
            panoptic segment also has ``isthing``. Classifiers give their five best classes.
        """
        if 'pred_panoptic_seg' in sample:
            found = self._panoptic(sample)
        elif 'pred_instances' in sample:
            found = _instances(sample.pred_instances.cpu())
        elif 'pred_sem_seg' in sample:
            labels = sample.pred_sem_seg.data[0].cpu().numpy()
            found = [dict(category_id=int(label), **_encoded(labels == label)) for label in np.unique(labels)]
        else:
            scores = sample.pred_score.cpu()
            best = scores.topk(min(_TOP_CLASSES, len(scores)))
            found = [dict(category_id=label, score=score)
                     for score, label in zip(best.values.tolist(), best.indices.tolist())]
        return [dict(image_id=image_id, **entry) for entry in found]

    def _panoptic(self, sample: Any) -> list[dict[str, Any]]:
        segments = sample.pred_panoptic_seg.sem_seg[0].cpu().numpy()
        things = self._model.panoptic_head.num_things_classes
        return [dict(category_id=label, isthing=int(label < things), **_encoded(segments == segment))
                for segment, label in self._segments(sample).items()]

    def _segments(self, sample: Any) -> dict[int, int]:
        """Number in the panoptic map → label, of each segment."""
        from mmdet.evaluation.functional import INSTANCE_OFFSET
        labels = {segment: segment % INSTANCE_OFFSET for segment in sample.pred_panoptic_seg.sem_seg.unique().tolist()}
        # The label after the last is that of no segment.
        return {segment: label for segment, label in labels.items() if label < self._model.panoptic_head.num_classes}


class Predicted(NamedTuple):
    """What :func:`predict_inputs` wrote."""

    #: ``predictions.json``.
    file: Path
    #: How many images, frames of videos among them.
    images: int
    #: How many entries they have.
    predictions: int
    #: What could not be read.
    failed: list[Input]


class _Writer:
    """Predictions and pictures of inputs, as they come."""

    def __init__(self, predictor: Predictor, out: Path, score_thr: float) -> None:
        self.predictor = predictor
        self.out = out
        self.score_thr = score_thr
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def predict(self, image: np.ndarray, path: Path, **more: int) -> np.ndarray:
        """Store what is predicted for an image; returns its picture."""
        sample = self.predictor.predict(image)
        image_id = len(self.images) + 1
        height, width = image.shape[:2]
        self.images.append(dict(id=image_id, file_name=str(path), height=height, width=width, **more))
        self.annotations.extend(self.predictor.entries(sample, image_id))
        return self.predictor.draw(image, sample, self.score_thr)

    def picture(self, item: Input, image: np.ndarray) -> None:
        """Predict on a picture, and write it."""
        target = self._target(item)
        drawn = self.predict(image, item.path)
        if target.suffix.lower() not in ('.jpg', '.jpeg', '.png'):
            target = target.with_name(target.name + '.png')
        _, data = cv2.imencode(target.suffix, drawn)
        target.write_bytes(data.tobytes())

    def video(self, item: Input, video: tuple[int, float, Iterator[np.ndarray]], progress: Progress) -> None:
        """Predict on the frames of a video, and write them as another."""
        count, rate, frames = video
        target = self._target(item)
        film = target if target.suffix == '.mp4' else target.with_name(target.name + '.mp4')
        task, writer = progress.add_task('frames', total=count or None), None
        for i, frame in enumerate(frames):
            drawn = self.predict(frame, item.path, frame=i)
            if writer is None:
                size = drawn.shape[1], drawn.shape[0]
                writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*'mp4v'), rate, size)
            writer.write(drawn)
            progress.advance(task)
        if writer is not None:
            writer.release()
        progress.remove_task(task)

    def finish(self, facts: Mapping[str, str]) -> Path:
        """Write ``predictions.json``."""
        self.out.mkdir(parents=True, exist_ok=True)
        file = self.out / 'predictions.json'
        categories = [dict(id=i, name=name) for i, name in enumerate(self.predictor.classes)]
        content = dict(info=dict(facts), images=self.images, categories=categories, annotations=self.annotations)
        file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
        return file

    def _target(self, item: Input) -> Path:
        target = self.out / 'pictures' / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def predict_inputs(predictor: Predictor, inputs: Sequence[Input], out: Path, score_thr: float,
                   facts: Mapping[str, str], name: str = 'predict') -> Predicted:
    """Predict on pictures and videos, with a progress bar, and write what was found.

    Args:
        predictor: The model.
        inputs: The pictures and videos.
        out: Where to: ``pictures`` and ``predictions.json``, in the form of COCO's results.
        score_thr: Leave out of the pictures what a detector scores below this.
        facts: What the JSON says of the model.
        name: What begins the line about an input that can't be read.

    Returns:
        How much was found, and what could not be read.
    """
    writer, failed = _Writer(predictor, out, score_thr), []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task('', total=len(inputs))
        for item in inputs:
            progress.update(task, description=escape(item.name))
            try:
                found = read_video(item.path) if item.is_video else read_image(item.path)
            except (ValueError, OSError) as error:
                failed.append(item)
                progress.console.print(f'{name}: {error}', markup=False, soft_wrap=True)
                progress.advance(task)
                continue
            if isinstance(found, tuple):
                writer.video(item, found, progress)
            else:
                writer.picture(item, found)
            progress.advance(task)
    return Predicted(writer.finish(facts), len(writer.images), len(writer.annotations), failed)


def _instances(instances: Any) -> list[dict[str, Any]]:
    found = []
    for i, (label, score) in enumerate(zip(instances.labels.tolist(), instances.scores.tolist())):
        entry: dict[str, Any] = dict(category_id=label)
        if 'bboxes' in instances:
            left, top, right, bottom = instances.bboxes[i].tolist()
            entry['bbox'] = [left, top, right - left, bottom - top]
        entry['score'] = score
        if 'masks' in instances:
            entry.update(_encoded(np.asarray(instances.masks[i])))
        found.append(entry)
    return found


def _encoded(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's run-length encoding, and its area."""
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise ModuleNotFoundError('Masks are stored through pycocotools: pip install pycocotools.') from None
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(segmentation=dict(size=list(encoded['size']), counts=encoded['counts'].decode()), area=int(mask.sum()))
