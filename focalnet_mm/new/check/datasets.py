"""What data sets that were built hold, as the report takes it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...data.own.headers import read_header
from ...data.own.label_maps import IGNORED
from ...data.own.records import Annotation, OwnData, Picture
from ...data.pictures import to_bgr
from ...data.progress import track
from ..report import Files

__all__ = ['Items', 'OfDatasets', 'items_of', 'own_data', 'steps_of']


class Items(NamedTuple):
    """A data set that was built, without what repeats or joins it."""

    split: str
    #: Its key in the config.
    key: str
    dataset: Any

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, where it says them as those of the libraries do."""
        found = _meta(self.dataset).get('classes')
        return tuple(map(str, found)) if isinstance(found, (list, tuple)) else ()

    def infos(self) -> Iterator[Mapping[str, Any]]:
        """What it says of each item; nothing where it has no way to."""
        if hasattr(self.dataset, 'get_data_info'):
            yield from (self.dataset.get_data_info(i) for i in range(len(self.dataset)))


def items_of(split: str, key: str, dataset: Any) -> list[Items]:
    """The data sets within those that repeat, filter or join others.

    Args:
        split: What they are used for.
        key: The key of the outermost in the config.
        dataset: The outermost.
    """
    if getattr(dataset, 'dataset', None) is not None:
        return items_of(split, f'{key}.dataset', dataset.dataset)
    if isinstance(getattr(dataset, 'datasets', None), Sequence):
        return [items for i, part in enumerate(dataset.datasets)
                for items in items_of(split, f'{key}.datasets.{i}', part)]
    return [Items(split, key, dataset)]


def steps_of(dataset: Any) -> list[Any]:
    """The steps of a data set's pipeline."""
    return list(getattr(getattr(dataset, 'pipeline', None), 'transforms', ()))


def own_data(parts: Sequence[Items], root: Path) -> tuple[OwnData, OfDatasets]:
    """All that data sets say of their items, through their own ``get_data_info``, with a progress bar.

    Args:
        parts: The data sets.
        root: What the report calls the data.

    Returns:
        The data, and what reads its pictures as the data sets do.
    """
    classes = next((part.classes for part in parts if part.classes), ())
    files = OfDatasets()
    tasks: set[str] = set()
    things = next((_meta(part.dataset)['thing_classes'] for part in parts if _meta(part.dataset).get('thing_classes')),
                  None)
    data = OwnData(root, ', '.join(dict.fromkeys(type(part.dataset).__name__ for part in parts)), 'classes',
                   list(classes))
    for part in parts:
        for index, info in enumerate(track(part.infos(), part.key, len(part.dataset))):
            picture, task = _picture(info, part)
            tasks.add(task)
            files.add(picture, part.dataset, index)
            if not (picture.height and picture.width):
                picture.height, picture.width = files.size(picture)
            data.pictures.append(picture)
    order = ('panoptic', 'instances', 'semantic', 'boxes', 'labels', 'classes')
    data.task = next((task for task in order if task in tasks), 'classes')
    palette = next((_meta(part.dataset).get('palette') for part in parts), None)
    if isinstance(palette, (list, tuple)):
        data.palette = [tuple(map(int, colour)) for colour in palette]  # type: ignore[misc]
    if things and data.task == 'panoptic':
        data.stuff = frozenset(range(len(things), len(data.classes)))
    return data, files


def _meta(dataset: Any) -> Mapping[str, Any]:
    found = getattr(dataset, 'metainfo', None)
    return found if isinstance(found, Mapping) else {}


def _picture(info: Mapping[str, Any], part: Items) -> tuple[Picture, str]:
    """An item of a data set, and what its annotations are."""
    path = info.get('img_path') or info.get('filename') or ''
    picture = Picture(Path(path[0] if isinstance(path, (list, tuple)) else str(path)), int(info.get('height') or 0),
                      int(info.get('width') or 0), split=part.split)
    if 'instances' in info:
        picture.annotations = [_annotation(instance) for instance in info['instances']]
        if info.get('segments_info') and info.get('seg_map_path'):
            picture.label_map = Path(info['seg_map_path'])
            return picture, 'panoptic'
        return picture, 'instances' if any(each.segmentation for each in picture.annotations) else 'boxes'
    if info.get('seg_map_path'):
        picture.label_map = Path(info['seg_map_path'])
        return picture, 'semantic'
    label = info.get('gt_label')
    if isinstance(label, (int, np.integer)):
        picture.labels = int(label),
    elif isinstance(label, (list, tuple, np.ndarray)):
        picture.labels = tuple(int(each) for each in label)
        return picture, 'labels'
    # Of several tasks each has classes of its own.
    return picture, 'classes'


def _annotation(instance: Mapping[str, Any]) -> Annotation:
    box = _box(instance.get('bbox'))
    return Annotation(int(instance.get('bbox_label', -1)), box, instance.get('mask'),
                      bool(instance.get('ignore_flag')))


def _box(box: Any) -> tuple[float, float, float, float]:
    values = [float(value) for value in np.asarray(box, np.float64).reshape(-1)] if box is not None else []
    return tuple(values) if len(values) == 4 else (0.0, 0.0, 0.0, 0.0)  # type: ignore[return-value]


class OfDatasets(Files):
    """Pictures and label maps as the loading steps of data sets read them."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[Any, int]] = {}
        self._pixels: dict[int, Counter[int]] = {}

    def add(self, picture: Picture, dataset: Any, index: int) -> None:
        """Say which item of which data set a picture is."""
        self._places[id(picture)] = dataset, index

    def image(self, picture: Picture, scale: float) -> np.ndarray:
        """A picture, in BGR (H, W, 3), uint8; see :func:`~focalnet_mm.data.pictures.to_bgr`."""
        return to_bgr(np.asarray(self._loaded(picture, 'img')))

    def labels(self, picture: Picture) -> np.ndarray:
        """The class of each pixel (H, W), int32, as the model is trained on it; negative where it is passed over."""
        labels = np.asarray(self._loaded(picture, 'gt_seg_map')).astype(np.int32)
        return np.where(labels == IGNORED, -1, labels)

    def pixels(self, picture: Picture) -> Counter[int]:
        """See :meth:`~focalnet_mm.new.report.Files.pixels`; each map is read once."""
        if id(picture) not in self._pixels:
            self._pixels[id(picture)] = super().pixels(picture)
        return self._pixels[id(picture)]

    def size(self, picture: Picture) -> tuple[int, int]:
        """Height and width of a picture as it is loaded, of its header alone if possible; 0 where it cannot be read."""
        if os.path.isfile(picture.path):
            with contextlib.suppress(Exception):
                header = read_header(picture.path)
                return header.height, header.width
        with contextlib.suppress(Exception):
            height, width = np.asarray(self._loaded(picture, 'img')).shape[:2]
            return height, width
        return 0, 0

    def _loaded(self, picture: Picture, key: str) -> Any:
        dataset, index = self._places[id(picture)]
        steps = [step for step in steps_of(dataset) if type(step).__name__.startswith('Load')]
        annotations = [step for step in steps if 'Image' not in type(step).__name__]
        # Most of those that load annotations do without the picture.
        for chosen in ([annotations, steps] if key != 'img' else [steps]):
            with contextlib.suppress(KeyError):
                found = dataset.get_data_info(index)
                for step in chosen:
                    if key not in found:
                        found = step(found)
                return found[key]
        raise ValueError(f'{picture.path}: the steps that load give no {key!r}.')
