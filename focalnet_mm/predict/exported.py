"""An exported file and how to read, draw and store what it predicts, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.pictures import read_image
from ..deploy.pasting import pasted
from ..deploy.runtime import Runtime
from .classified import TOP_CLASSES, Classes, best_classes, class_lines, class_name
from .drawing import draw_classes, draw_labels, draw_objects
from .masks import encoded

__all__ = ['ExportedPredictor']

# What mmdet multiplies the numbers of segments by.
_INSTANCE_OFFSET = 1000
# Task → the outputs that it has, and what the file says besides.
_OUTPUTS = dict(detection=('boxes', 'scores', 'labels'), panoptic=('segments', 'num_things'),
                segmentation=('label_map',), classification=('scores',))

Found = Mapping[str, np.ndarray]


class _Loaded(NamedTuple):
    #: (H, W, 3), BGR in uint8.
    image: np.ndarray


class ExportedPredictor:
    """As :class:`~focalnet_mm.predict.Predictor`, for a file that was exported.

    Args:
        runtime: The file.

    Raises:
        ValueError: The file is of no task that is known, or lacks an output of it.
    """

    def __init__(self, runtime: Runtime) -> None:
        _check(runtime)
        self.runtime = runtime
        #: Names of the classes, by label; of several tasks for each.
        self.classes: Classes = runtime.classes
        loader = runtime.facts['preprocess'].get('loader')
        self._turned = bool(loader.get('turned', True)) if isinstance(loader, dict) else True

    def load(self, source: str | Path | Sequence[str | Path], name: str | None = None) -> _Loaded:
        """Load a picture as the config's test pipeline does it.

        Args:
            source: The file.
            name: What messages call it.

        Returns:
            The picture.

        Raises:
            ValueError: It could not be loaded, or lies on another machine.
        """
        if not isinstance(source, (str, Path)) or '://' in str(source):
            raise ValueError(f'{name or source} is no file on this disk: download it first.')
        return _Loaded(read_image(source, self._turned))

    def predict(self, image: _Loaded | np.ndarray, name: str = 'The image', **thresholds: Any) -> Found:
        """What the model predicts for a picture.

        Args:
            image: What :meth:`load` returned, or a BGR picture (H, W, 3) in uint8.
            name: What messages call it.
            thresholds: As :class:`~focalnet_mm.deploy.Runtime` takes them.

        Returns:
            What :class:`~focalnet_mm.deploy.Runtime` returns for it; of ``roi_masks`` also the ``masks``, pasted.

        Raises:
            ValueError: The model fails on it.
        """
        bgr = image.image if isinstance(image, _Loaded) else image
        try:
            found = self.runtime([bgr[..., ::-1]], **thresholds)[0]
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
        if 'roi_masks' in found:
            found['masks'] = pasted(found['roi_masks'], found['boxes'], bgr.shape[:2],
                                    self.runtime.facts['mask_threshold'])
        return found

    def entries(self, found: Found, image_id: int) -> list[dict[str, Any]]:
        """A prediction in the form of COCO's results, as :meth:`focalnet_mm.predict.Predictor.entries` gives it."""
        kinds = dict(panoptic=self._segments, detection=_objects, segmentation=_labels,
                     classification=lambda found: best_classes(_by_task(found, 'scores')))
        return [dict(image_id=image_id, **entry) for entry in kinds[self.runtime.task](found)]

    def draw(self, image: np.ndarray, found: Found, score_thr: float = 0.3) -> np.ndarray:
        """A picture of a prediction.

        Args:
            image: BGR picture (H, W, 3), uint8.
            found: What :meth:`predict` returned for it.
            score_thr: Leave out what a detector scores below this.

        Returns:
            BGR picture (H, W, 3), uint8.
        """
        task = self.runtime.task
        if task == 'panoptic':
            entries = self._segments(found)
            maps = np.full(found['segments'].shape, -1)
            for entry, segment in zip(entries, self._numbers(found)):
                maps[found['segments'] == segment] = entry['category_id']
            return draw_labels(image, maps, self._colours())
        if task == 'segmentation':
            return draw_labels(image, found['label_map'], self._colours())
        if task == 'classification':
            scores = _by_task(found, 'scores')
            return draw_classes(image, class_lines(self.classes, scores, _labels_of(found, scores)))
        shown = found['scores'] >= score_thr
        words = [f'{class_name(self.classes, label)} {score:.2f}'
                 for label, score in zip(found['labels'][shown], found['scores'][shown])]
        masks = found['masks'][shown] if 'masks' in found else None
        colours = self._colours()
        return draw_objects(image, found['boxes'][shown], words, masks,
                            [colours[label % len(colours)] for label in found['labels'][shown]])

    def _segments(self, found: Found) -> list[dict[str, Any]]:
        things = self.runtime.facts['num_things']
        labels = [number % _INSTANCE_OFFSET for number in self._numbers(found)]
        return [dict(category_id=label, isthing=int(label < things), **encoded(found['segments'] == number))
                for number, label in zip(self._numbers(found), labels)]

    def _numbers(self, found: Found) -> list[int]:
        """Numbers of the segments; the label after the last is that of none."""
        count = self.runtime.facts.get('num_classes', len(self.classes))
        return [number for number in np.unique(found['segments']).tolist() if number % _INSTANCE_OFFSET < count]

    def _colours(self) -> list[tuple[int, ...]]:
        """RGB by label; those that nobody gave are made up."""
        made_up = np.random.RandomState(42).randint(256, size=(max(len(self.classes), 256), 3)).tolist()
        palette = self.runtime.palette
        return [tuple(colour) for colour in [*palette, *made_up[len(palette):]]]


def _check(runtime: Runtime) -> None:
    if runtime.task not in _OUTPUTS:
        raise ValueError(f'{runtime.file} is of the task {runtime.task!r}, expected one of {", ".join(_OUTPUTS)}: '
                         'run it with focalnet_mm.deploy.Runtime.')
    has = {name.partition('.')[0] for name in runtime.outputs} | runtime.facts.keys()
    needed = *_OUTPUTS[runtime.task], *(['mask_threshold'] if 'roi_masks' in has else [])
    missing = [name for name in needed if name not in has]
    if missing:
        raise ValueError(f'{runtime.file} is of the task {runtime.task!r} and lacks {", ".join(missing)}: export it '
                         'anew.')


def _objects(found: Found) -> list[dict[str, Any]]:
    entries = []
    for i, (label, score) in enumerate(zip(found['labels'].tolist(), found['scores'].tolist())):
        left, top, right, bottom = found['boxes'][i].tolist()
        entry: dict[str, Any] = dict(category_id=label, bbox=[left, top, right - left, bottom - top], score=score)
        if 'masks' in found:
            entry.update(encoded(found['masks'][i]))
        entries.append(entry)
    return entries


def _labels(found: Found) -> list[dict[str, Any]]:
    label_map = found['label_map']
    return [dict(category_id=label, **encoded(label_map == label)) for label in np.unique(label_map).tolist()]


def _by_task(found: Found, output: str) -> dict[str, np.ndarray]:
    """An output of a classifier by task, of one alone by ``''``."""
    return {name[len(output) + 1:]: np.asarray(value) for name, value in found.items()
            if name.partition('.')[0] == output}


def _labels_of(found: Found, scores: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """The classes to draw of each task, by falling scores: those that hold, and of classes of which one holds the first
    few."""
    labels, held = {}, _by_task(found, 'classes')
    for task, values in scores.items():
        order = np.argsort(-values, kind='stable').tolist()
        several = task in held and held[task].ndim
        # Several tasks with all their classes would hide the picture.
        few = 1 if task else TOP_CLASSES
        labels[task] = [label for label in order if held[task][label]] if several else order[:few]
    return labels
