"""CVAT's "CVAT for images 1.1": one XML file for all pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from ..masks import encode, rle_box
from ..records import Picture
from .collecting import Collector
from .folder import Folder, split_of_name
from .outlines import ellipse, turned_box
from .xml_files import load_xml, root_tag

__all__ = ['cvat_files', 'read']

# Kinds of labels that nothing here learns.
_WITHOUT_AREA = ('cuboid', 'points', 'polyline', 'skeleton')
_LEARNED = ('box', 'polygon', 'ellipse', 'mask', 'tag')


def cvat_files(folder: Folder) -> list[Path]:
    """The XML files of CVAT's form."""
    return [path for path in folder.ending('.xml') if root_tag(path) == 'annotations']


def read(out: Collector) -> None:
    """Read all files of a folder."""
    roots = [(path, load_xml(path)) for path in cvat_files(out.folder)]
    without_area = _labels_without_area([root for _, root in roots])
    passed_by: set[str] = set()
    for path, root in roots:
        if root.find('track') is not None:
            raise ValueError(f'{path} is in the form "CVAT for video": export the task as "CVAT for images 1.1".')
        meta = root.find('meta')
        for element in meta.iter('label') if meta is not None else ():
            name = (element.findtext('name') or '').strip()
            if element.find('parent') is not None or element.findtext('type') in _WITHOUT_AREA:
                continue
            if name in without_area:
                passed_by.add(name)
            else:
                out.label(name)
    if passed_by:
        out.tell(f'{", ".join(sorted(passed_by))}: no classes, since they are of points, lines and the like alone.')
    for path, root in roots:
        for image in out.track(root.findall('image'), f'Reading {path.name}'):
            size = (image.get('height'), image.get('width'))
            subset = image.get('subset')
            split = split_of_name(subset) if subset else split_of_name(path.stem)
            picture = out.named(image.get('name', ''), path.parent, split, size)
            for number, element in enumerate(image):
                _read_shape(out, picture, element, f'{element.tag} {number} of {image.get("name")} in {path.name}')


def _labels_without_area(roots: Sequence[Element]) -> set[str]:
    """The labels of points, lines and the like alone: one of the type "any" does not tell what it is of."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for root in roots:
        for element in (shape for image in root.findall('image') for shape in image):
            found[element.tag in _LEARNED].add(element.get('label', '').strip())
    return found[False] - found[True]


def _read_shape(out: Collector, picture: Picture, element: Element, where: str) -> None:
    if element.tag == 'tag':
        picture.labels = (*picture.labels, out.label(element.get('label', '')))
        out.several = True
        return
    try:
        shape = _SHAPES.get(element.tag)
        if shape is None:
            raise ValueError(f'a {element.tag} is neither box, polygon, ellipse nor mask')
        box, segmentation = shape(element.attrib, picture)
        out.add(picture, out.label(element.get('label', '')), box, segmentation)
    except (KeyError, ValueError) as error:
        out.note('malformed', f'{where} is no object: {error}', picture.path, done='left out')


def _box(at: Mapping[str, str], picture: Picture) -> tuple[Any, Any]:
    left, top, right, bottom = (float(at[side]) for side in ('xtl', 'ytl', 'xbr', 'ybr'))
    turn = float(at.get('rotation', 0))
    if turn:
        return None, [turned_box(left, top, right, bottom, turn, centred=True)]
    return (left, top, right, bottom), None


def _polygon(at: Mapping[str, str], picture: Picture) -> tuple[Any, Any]:
    values = [float(value) for point in at['points'].split(';') for value in point.split(',')]
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f'{len(values) // 2} points')
    return None, [values]


def _ellipse(at: Mapping[str, str], picture: Picture) -> tuple[Any, Any]:
    x, y, radius_x, radius_y = (float(at[name]) for name in ('cx', 'cy', 'rx', 'ry'))
    return None, [ellipse(x, y, radius_x, radius_y, float(at.get('rotation', 0)))]


def _mask(at: Mapping[str, str], picture: Picture) -> tuple[Any, Any]:
    """Run lengths row by row within a box, beginning with zeros."""
    left, top, width, height = (int(at[name]) for name in ('left', 'top', 'width', 'height'))
    runs = [int(count) for count in at['rle'].split(',')]
    if sum(runs) != width * height or min(left, top) < 0:
        raise ValueError(f'run lengths of {sum(runs)} pixels for a box of {width} × {height}')
    values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    whole = np.zeros((max(picture.height, top + height), max(picture.width, left + width)), np.uint8)
    whole[top:top + height, left:left + width] = values
    rle = encode(whole[:picture.height or None, :picture.width or None])
    box = rle_box(rle)
    return (box if box[2] > box[0] else (math.nan,) * 4), rle


_SHAPES = dict(box=_box, polygon=_polygon, ellipse=_ellipse, mask=_mask)
