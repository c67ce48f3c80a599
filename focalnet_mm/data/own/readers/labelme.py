"""LabelMe: a JSON file for each picture."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..masks import encode, polygon_box, rle_box
from ..records import Picture
from .collecting import Collector
from .folder import Folder, Outline, split_of
from .outlines import ellipse

__all__ = ['labelme_files', 'read']


def labelme_files(folder: Folder) -> list[Path]:
    """The JSON files of LabelMe's form."""
    return [path for path in folder.ending('.json')
            if 'shapes' in folder.outline(path).lists and 'imagePath' in folder.outline(path).keys]


def read(out: Collector) -> None:
    """Read all files of a folder. Shapes of one label and ``group_id`` are parts of one object."""
    contents = []
    for path in out.track(labelme_files(out.folder), 'Reading annotations'):
        content = out.folder.load_json(path)
        # All but the picture itself, which is not needed.
        content = {key: value for key, value in content.items() if key != 'imageData'}
        flags = content.get('flags')
        contents.append((path, {**content, 'shapes': out.objects(content['shapes'], f'the shapes of {path.name}'),
                                'flags': flags if isinstance(flags, dict) else {}}))
    for path in out.folder.ending('.json'):
        if out.folder.outline(path) == Outline():
            out.note('malformed', f'{out.folder.relative(path)} is no JSON of an object', done='left out')
    names = {str(shape.get('label')) for _, content in contents for shape in content['shapes']}
    names |= {name for _, content in contents for name, on in (content.get('flags') or {}).items() if on}
    for name in sorted(names):
        out.label(name)
    out.gathered = True
    for path, content in out.track(contents, 'Reading pictures'):
        size = (content.get('imageHeight') or 0, content.get('imageWidth') or 0)
        split = split_of(out.folder.relative(path).parts[:-1])
        picture = out.named(str(content['imagePath']), path.parent, split, size, path.stem)
        picture.labels = tuple(out.label(name) for name, on in (content.get('flags') or {}).items() if on)
        _read_shapes(out, picture, content['shapes'], out.folder.relative(path))


def _read_shapes(out: Collector, picture: Picture, shapes: list[Mapping[str, Any]], where: Path) -> None:
    groups: dict[Any, list[Any]] = {}
    for number, shape in enumerate(shapes):
        try:
            found = _shape(shape, picture)
        except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
            out.note('malformed', f'shape {number} of {where} is no object: {error}', picture.path, done='left out')
            continue
        group = shape.get('group_id')
        key = number if group is None else (str(shape.get('label')), str(group))
        groups.setdefault(key, [str(shape.get('label'))]).append(found)
    for label, *parts in groups.values():
        polygons = [polygon for _, found in parts if isinstance(found, list) for polygon in found]
        if len(parts) > 1 and len(polygons) >= len(parts):
            parts = [(None, polygons)]
        for box, segmentation in parts:
            try:
                out.add(picture, out.label(label), box, segmentation)
            except ValueError as error:
                out.note('malformed', f'a shape {label} of {where} is no object: {error}', picture.path,
                         done='left out')


def _shape(shape: Mapping[str, Any], picture: Picture) -> tuple[Any, Any]:
    """Box and segmentation of a shape."""
    kind = shape.get('shape_type') or 'polygon'
    points = [(float(x), float(y)) for x, y in shape['points']]
    flat = [value for point in points for value in point]
    if kind == 'rectangle' and len(points) in (2, 4):
        return polygon_box([flat]), None
    if kind == 'polygon' and len(points) >= 3:
        return None, [flat]
    if kind == 'circle' and len(points) == 2:
        radius = math.dist(*points)
        return None, [ellipse(*points[0], radius, radius)]
    if kind == 'mask' and shape.get('mask'):
        return _mask(shape['mask'], points[0], picture)
    raise ValueError(f'a {kind} of {len(points)} points is neither rectangle, polygon, circle nor mask')


def _mask(encoded: str, corner: tuple[float, float], picture: Picture) -> tuple[Any, Any]:
    """A PNG in base64 of the part of the picture below and right of a corner."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        part = np.asarray(image) > 0
    left, top = (round(value) for value in corner)
    whole = np.zeros((max(picture.height, top + part.shape[0]), max(picture.width, left + part.shape[1])), bool)
    whole[top:top + part.shape[0], left:left + part.shape[1]] = part
    rle = encode(whole[:picture.height or None, :picture.width or None])
    return rle_box(rle), rle
