"""COCO's JSON: objects with boxes, polygons or run lengths, and panoptic segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..headers import large_pictures
from ..masks import encode, polygon_box, rle_box
from ..records import Picture
from .collecting import Collector
from .folder import Folder, split_of, split_of_name

__all__ = ['coco_files', 'read']


def coco_files(folder: Folder) -> list[Path]:
    """The JSON files of COCO's form."""
    return [path for path in folder.ending('.json')
            if {'images', 'annotations', 'categories'} <= folder.outline(path).lists]


def read(out: Collector) -> None:
    """Read all files of a folder; of several about the same pictures, those that tell most."""
    files = {path: {**content, **{key: out.objects(content[key], f'the {key} of {path.name}')
                                  for key in ('images', 'annotations', 'categories')}}
             for path in coco_files(out.folder) for content in [out.folder.load_json(path)]}
    chosen = _choose(files, out)
    labels = {path: _declare(content, out) for path, content in chosen.items()}
    for above in sorted({name for content in chosen.values() if (name := _project(content)) is not None}):
        out.tell(f'The category {above!r} is passed by: nothing is of it, and the others stand below it, as Roboflow '
                 'writes the name of a project.')
    for path, content in chosen.items():
        split = _split(out, path)
        pictures: dict[Any, Picture] = {}
        elsewhere: set[Any] = set()
        for image in out.track(content['images'], f'Reading the pictures of {path.name}'):
            key = _key(image.get('id'))
            pictures[key] = out.named(str(image.get('file_name', '')), path.parent, split,
                                      (image.get('height') or 0, image.get('width') or 0))
            if split not in (None, pictures[key].split):
                elsewhere.add(key)
        reader = _read_segments if _is_panoptic(content) else _read_object
        for number, entry in enumerate(out.track(content['annotations'], f'Reading the objects of {path.name}')):
            picture = pictures.get(_key(entry.get('image_id')))
            if picture is None:
                out.note('no_picture', f'annotation {entry.get("id", number)} of {path.name} belongs to the image '
                         f'{entry.get("image_id")!r}, which the file does not list', done='left out')
            elif _key(entry.get('image_id')) not in elsewhere:
                # Of two splits the first counts.
                reader(out, picture, entry, labels[path], path)


def _key(number: Any) -> Any:
    """An id: some tools write it as a text, or as a decimal, at one place and as a number at another."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return str(number) if isinstance(number, int) else number


def _is_panoptic(content: Mapping[str, Any]) -> bool:
    return any('segments_info' in entry for entry in content['annotations'][:1])


def _choose(files: dict[Path, Any], out: Collector) -> dict[Path, Any]:
    """Of files of one folder and split about the same pictures, the one that tells most."""
    def rank(path: Path) -> tuple[bool, bool, int, bool]:
        content = files[path]
        keypoints = any('keypoints' in entry for entry in content['annotations'][:1])
        return _is_panoptic(content), not keypoints, len(content['categories']), _split(out, path) is not None

    def apart(path: Path, other: Path) -> bool:
        """Whether two files tell of objects of different classes, as of tasks that were given to two people."""
        one, two = ({str(category.get('name')) for category in files[each]['categories']} for each in (path, other))
        return rank(path)[:2] == rank(other)[:2] == (False, True) and not one & two

    names = {path: {str(image.get('file_name')).rsplit('.', 1)[0] for image in content['images']}
             for path, content in files.items()}
    chosen: list[Path] = []
    for path in sorted(files, key=rank, reverse=True):
        rivals = [other for other in chosen if other.parent == path.parent
                  and (_split(out, other) == _split(out, path) or None in (_split(out, other), _split(out, path)))
                  and 2 * len(names[path] & names[other]) >= min(len(names[path]), len(names[other])) > 0]
        rival = next((other for other in rivals if not apart(path, other)), None)
        if rival is None:
            for other in rivals:
                out.tell(f'{out.folder.relative(path)} and {other.name} are about the same pictures and have no class '
                         'in common: both are read.')
            chosen.append(path)
        else:
            out.tell(f'{out.folder.relative(path)} is passed by: {rival.name} is about the same pictures and tells '
                     'more.')
    return {path: files[path] for path in sorted(chosen)}


def _split(out: Collector, path: Path) -> str | None:
    return split_of_name(path.stem) or split_of(out.folder.relative(path).parts[:-1])


def _declare(content: Mapping[str, Any], out: Collector) -> dict[Any, int]:
    """Take the categories of a file: id to label. Equal names within one file stay apart, in their order."""
    above = _project(content)
    labels: dict[Any, int] = {}
    seen: Counter[str] = Counter()
    stuff = set(out.stuff)
    for category in content['categories']:
        name = str(category.get('name', category.get('id')))
        if name == above:
            continue
        # Of an earlier file's classes of this name the one that stands at the same place among them.
        same = [label for label, known in enumerate(out.classes) if known == name]
        if seen[name] == len(same):
            out.declare([name])
            same.append(len(out.classes) - 1)
        labels[_key(category.get('id'))] = same[seen[name]]
        seen[name] += 1
        if not category.get('isthing', 1):
            stuff.add(labels[_key(category.get('id'))])
    if _is_panoptic(content):
        out.stuff = frozenset(stuff)
        colours = [category.get('color') for category in content['categories']]
        if all(colours) and len(colours) == len(out.classes):
            out.palette = [(int(red), int(green), int(blue)) for red, green, blue in colours]
    return labels


def _project(content: Mapping[str, Any]) -> str | None:
    """The category that Roboflow puts before the others: the name of the project, of which nothing is."""
    first, *others = content['categories'] or [{}]
    used = {_key(entry.get('category_id')) for entry in content['annotations']}
    if (others and first.get('supercategory') == 'none' and _key(first.get('id')) not in used
            and all(other.get('supercategory') == first.get('name') for other in others)):
        return str(first.get('name'))
    return None


def _unknown(out: Collector, picture: Picture, entry: Mapping[str, Any], path: Path) -> None:
    out.note('unknown_class', f'annotation {entry.get("id")} of {path.name} has the category '
             f'{entry.get("category_id")!r}, which the file does not list', picture.path, done='left out')


def _read_object(out: Collector, picture: Picture, entry: Mapping[str, Any], labels: Mapping[Any, int],
                 path: Path) -> None:
    label = labels.get(_key(entry.get('category_id')))
    if label is None:
        _unknown(out, picture, entry, path)
        return
    box = entry.get('bbox')
    try:
        segmentation = _segmentation(entry.get('segmentation'))
        corners: tuple[float, float, float, float]
        if box:
            x, y, width, height = map(float, box)
            corners = (x, y, x + width, y + height)
        elif segmentation:
            corners = rle_box(segmentation) if isinstance(segmentation, dict) else polygon_box(segmentation)
        else:
            raise ValueError('neither a box nor a mask')
        out.add(picture, label, corners, segmentation, bool(entry.get('iscrowd') or entry.get('ignore')))
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        out.note('malformed', f'annotation {entry.get("id")} of {path.name} is no object: {error}', picture.path,
                 done='left out')


def _segmentation(found: Any) -> Any:
    """Polygons of at least three points, or run lengths; nothing where there are none."""
    if isinstance(found, dict):
        return dict(size=[int(side) for side in found['size']], counts=found['counts']) if found.get('counts') else None
    if not isinstance(found, list) or not found:
        return None
    if not isinstance(found[0], (list, tuple)):
        found = [found]
    polygons = [[float(value) for value in polygon] for polygon in found if len(polygon) >= 6 and not len(polygon) % 2]
    return polygons or None


def _read_segments(out: Collector, picture: Picture, entry: Mapping[str, Any], labels: Mapping[Any, int],
                   path: Path) -> None:
    """Panoptic: each segment is the pixels of its number in a PNG."""
    match = out.folder.find(str(entry.get('file_name', '')), path.with_suffix(''))
    if match is None:
        out.note('no_map', f'{entry.get("file_name")}, the segments of {picture.path.name}, is not there', picture.path)
        return
    try:
        with large_pictures(), Image.open(match.path) as image:
            red, green, blue = np.moveaxis(np.asarray(image.convert('RGB')).astype(np.int32), -1, 0)
    except (OSError, ValueError) as error:
        out.note('no_map', f'{out.folder.relative(match.path)} cannot be read: {error}', picture.path)
        return
    numbers = red + 256 * green + 65536 * blue
    if picture.height and numbers.shape != (picture.height, picture.width):
        out.note('map_size', f'{out.folder.relative(match.path)} has another size than {picture.path.name}',
                 picture.path)
    for segment in entry['segments_info']:
        label = labels.get(_key(segment.get('category_id')))
        mask = numbers == segment.get('id')
        if label is None:
            _unknown(out, picture, segment, path)
        elif not mask.any():
            out.note('malformed', f'segment {segment.get("id")} of {out.folder.relative(match.path)} has no pixel',
                     picture.path, done='left out')
        else:
            rle = encode(mask)
            out.add(picture, label, rle_box(rle), rle, bool(segment.get('iscrowd')))
