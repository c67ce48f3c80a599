"""Predictions on pictures and videos of one's own, through the inferencers of mmdet, mmseg and mmpretrain."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.config import Config

from .launch import load_model

__all__ = ['Input', 'Predictor', 'find_inputs', 'left_out', 'read_image', 'read_video']

IMAGE_ENDINGS = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_ENDINGS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')
_TOP_CLASSES = 5


class Input(NamedTuple):
    """A picture or video."""

    path: Path
    #: The path below the folder that was named, or the name of a file that was named itself.
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_ENDINGS


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
        load_model(model, cfg, checkpoint)
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


def find_inputs(named: Sequence[str | Path], leave_out: Path | None = None) -> tuple[list[Input], list[Path]]:
    """Pictures and videos, folders searched with all that is below them.

    Args:
        named: Files and folders. A file is taken whatever its ending, in a folder those with a known one.
        leave_out: A folder not to search.

    Returns:
        What was found, in order, each with a name of its own; and the files of folders that have another ending.

    Raises:
        FileNotFoundError: A file or folder does not exist, or there is nothing to find.
    """
    found: list[Input] = []
    other: list[Path] = []
    leave_out = leave_out.resolve() if leave_out else None
    for item in map(Path, named):
        if not item.exists():
            raise FileNotFoundError(f'{item} does not exist: name pictures, videos or folders of them.')
        if not item.is_dir():
            found.append(Input(item, item.name))
            continue
        for path in sorted(path for path in item.rglob('*') if path.is_file()):
            if leave_out and leave_out in path.resolve().parents:
                continue
            if path.suffix.lower() in (*IMAGE_ENDINGS, *VIDEO_ENDINGS):
                found.append(Input(path, str(path.relative_to(item))))
            else:
                other.append(path)
    if not found:
        raise FileNotFoundError(f'There is no picture or video in {", ".join(map(str, named))}: known endings are '
                                f'{", ".join((*IMAGE_ENDINGS, *VIDEO_ENDINGS))}.')
    taken: set[str] = set()
    for i, (path, name) in enumerate(found):
        number, unique = 2, name
        while unique in taken:
            unique, number = f'{os.path.splitext(name)[0]}_{number}{path.suffix}', number + 1
        taken.add(unique)
        found[i] = Input(path, unique)
    return found, other


def left_out(files: Sequence[Path]) -> str:
    """A line about the files of folders that are no inputs.

    Args:
        files: The second part of what :func:`find_inputs` returns.

    Returns:
        How many they are and the first of their names.
    """
    names = ', '.join(path.name for path in files[:5])
    return (f'Files of folders that are left out, since their endings are of no picture or video: {len(files)} ({names}'
            f'{" …" if len(files) > 5 else ""})')


def read_image(path: str | Path) -> np.ndarray:
    """Read an image of any depth and number of channels; of an animation the first picture.

    Args:
        path: The file.

    Returns:
        BGR image (H, W, 3), uint8, turned as its EXIF data says.

    Raises:
        ValueError: The file is no image that OpenCV can read.
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'{path} ({len(data)} bytes) is damaged or no image that OpenCV can read: save it as PNG or '
                         'JPEG.')
    return image


def read_video(path: str | Path) -> tuple[int, float, Iterator[np.ndarray]]:
    """Open a video.

    Args:
        path: The file.

    Returns:
        The number of frames that it says it has, frames a second, and the frames, BGR images (H, W, 3), uint8.

    Raises:
        ValueError: The file is no video that OpenCV can read.
    """
    capture = cv2.VideoCapture(str(path))
    read, first = capture.read()
    if not read:
        raise ValueError(f'{path} is damaged or no video that OpenCV can read: convert it to MP4.')

    def frames() -> Iterator[np.ndarray]:
        frame, more = first, True
        while more:
            yield frame
            more, frame = capture.read()
        capture.release()

    return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS) or 25.0, frames()


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
