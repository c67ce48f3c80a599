"""COCO's panoptic JSON, and the PNGs beside it."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...progress import track
from ..masks import decode
from ..records import OwnData, Picture
from .boxes import categories, images

__all__ = ['write']

# mmdet's metric writes predictions under the picture's name, of which it changes .jpg alone to .png.
_LOSSY = ('.jpeg', '.webp', '.gif')


def write(data: OwnData, pictures: Sequence[Picture], root: Path, folder: Path,
          split: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Write ``panoptic_SPLIT.json`` and the folder ``panoptic_SPLIT``.

    Returns:
        The file below the folder, ``data_prefix`` and further arguments of ``CocoPanopticDataset``.

    Raises:
        ValueError: mmdet's metric could not tell the pictures apart, or would write predictions with loss.
    """
    _check(pictures)
    segments = folder / f'panoptic_{split}'
    segments.mkdir()
    entries = []
    for image, picture in zip(images(pictures, root), track(pictures, 'Writing segments')):
        name = image['file_name'].replace('.jpg', '.png')
        path = segments / name
        path.parent.mkdir(parents=True, exist_ok=True)
        infos = _write_map(path, picture)
        if path.parent != segments:
            # The data set looks below the folder, the metric in it.
            _link(path, segments / path.name)
        entries.append(dict(image_id=image['id'], file_name=name, segments_info=infos))
    kinds = [dict(category, isthing=int(label not in data.stuff)) for label, category in enumerate(categories(data))]
    content = dict(images=images(pictures, root), annotations=entries, categories=kinds)
    (folder / f'panoptic_{split}.json').write_text(json.dumps(content), encoding='utf-8')
    return f'panoptic_{split}.json', dict(img='', seg=f'panoptic_{split}'), {}


def _check(pictures: Sequence[Picture]) -> None:
    for picture in pictures:
        lossy = picture.path.suffix.lower() in _LOSSY or (picture.path.suffix.lower() == '.jpg'
                                                          and picture.path.suffix != '.jpg')
        if lossy:
            raise ValueError(f"{picture.path} ends in {picture.path.suffix}, under which mmdet's panoptic metric would "
                             'write predictions with loss: rename the pictures to .jpg, or convert them to PNG.')
    name, count = Counter(picture.path.name for picture in pictures).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} pictures of a split are called {name}, and mmdet's panoptic metric tells them apart "
                         'by their names alone: rename them.')


def _write_map(path: Path, picture: Picture) -> list[dict[str, Any]]:
    """The segments of a picture as numbers from 1 in red, green and blue; later ones lie over earlier ones."""
    numbers = np.zeros((picture.height, picture.width), np.int32)
    for number, annotation in enumerate(picture.annotations, start=1):
        numbers[decode(annotation.segmentation, picture.height, picture.width)] = number
    colours = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], -1).astype(np.uint8)
    Image.fromarray(colours).save(path, format='PNG')
    areas = np.bincount(numbers.reshape(-1), minlength=len(picture.annotations) + 1)
    infos = []
    for number, annotation in enumerate(picture.annotations, start=1):
        if areas[number]:
            left, top, right, bottom = annotation.box
            infos.append(dict(id=number, category_id=annotation.label + 1, iscrowd=int(annotation.crowd),
                              area=int(areas[number]), bbox=[left, top, right - left, bottom - top]))
    return infos


def _link(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:
        shutil.copy(path, other)
