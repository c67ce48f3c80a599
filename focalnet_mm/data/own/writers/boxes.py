"""COCO's JSON of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..masks import mask_area
from ..records import Annotation, OwnData, Picture

__all__ = ['categories', 'images', 'write']


def write(data: OwnData, pictures: Sequence[Picture], root: Path, folder: Path,
          split: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Write ``instances_SPLIT.json``.

    Returns:
        The file below the folder, ``data_prefix`` and further arguments of ``CocoDataset``.
    """
    entries: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, start=1):
        for annotation in picture.annotations:
            entries.append(dict(id=len(entries) + 1, image_id=image_id, category_id=annotation.label + 1,
                                iscrowd=int(annotation.crowd), **_geometry(data, picture, annotation)))
    name = f'instances_{split}.json'
    content = dict(images=images(pictures, root), annotations=entries, categories=categories(data))
    # Escapes keep file names that are not UTF-8.
    (folder / name).write_text(json.dumps(content), encoding='utf-8')
    return name, dict(img=''), {}


def _geometry(data: OwnData, picture: Picture, annotation: Annotation) -> dict[str, Any]:
    left, top, right, bottom = annotation.box
    found = dict(bbox=[left, top, right - left, bottom - top], area=(right - left) * (bottom - top))
    if data.task == 'instances':
        segmentation = annotation.segmentation
        found['area'] = mask_area(segmentation, picture.height, picture.width)
        if isinstance(segmentation, dict) and isinstance(segmentation['counts'], bytes):
            segmentation = {**segmentation, 'counts': segmentation['counts'].decode()}
        found['segmentation'] = segmentation
    return found


def images(pictures: Sequence[Picture], root: Path) -> list[dict[str, Any]]:
    """COCO's ``images``, numbered from 1."""
    return [dict(id=number, file_name=picture.path.relative_to(root).as_posix(), height=picture.height,
                 width=picture.width) for number, picture in enumerate(pictures, start=1)]


def categories(data: OwnData) -> list[dict[str, Any]]:
    """COCO's ``categories``, numbered from 1."""
    return [dict(id=label + 1, name=name) for label, name in enumerate(data.classes)]
