"""Label maps and lists of pictures, as mmseg reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...progress import track
from ..headers import read_header
from ..label_maps import IGNORED, NO_CLASS, numbers_of, read_label_map
from ..masks import decode, mask_area
from ..records import OwnData, Picture
from .lists import check_line

__all__ = ['write']

# mmseg's loader casts to 8 bits, of which 255 is no class.
_MOST_CLASSES = 255


class _Layout(NamedTuple):
    """How the path of a picture and that of its map follow from a line."""

    pictures: str
    maps: str
    picture_ending: str
    map_ending: str


def write(data: OwnData, pictures: Sequence[Picture], root: Path, folder: Path,
          split: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Write ``SPLIT.txt``, and label maps where the given ones are not as mmseg reads them.

    Returns:
        The list below the folder, ``data_prefix`` and further arguments of ``BaseSegDataset``.

    Raises:
        ValueError: There are more classes than mmseg can read.
    """
    if len(data.classes) > _MOST_CLASSES:
        raise ValueError(f'The data has {len(data.classes)} classes, but mmseg reads label maps in 8 bits, of at most '
                         f'{_MOST_CLASSES} classes: merge some.')
    # One layout for all splits, so that a config names it once.
    everything = [picture for picture in data.pictures if picture.split]
    layout, first = _layout(everything, root), _first_value(data, everything)
    if layout is None or first is None:
        maps = folder / 'label_maps'
        for picture in track(pictures, 'Writing label maps'):
            _write_map(data, picture, maps / f'{picture.path.relative_to(root)}.png')
        layout, first = _Layout('', 'label_maps', '', '.png'), 0
    lines = []
    for picture in pictures:
        below = picture.path.relative_to(root / layout.pictures).as_posix()
        lines.append(check_line(below, picture.path)[:len(below) - len(layout.picture_ending)])
    (folder / f'{split}.txt').write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    return f'{split}.txt', dict(img_path=layout.pictures, seg_map_path=layout.maps), dict(
        img_suffix=layout.picture_ending, seg_map_suffix=layout.map_ending, reduce_zero_label=bool(first))


def _first_value(data: OwnData, pictures: Sequence[Picture]) -> int | None:
    """The value of the first class, 0 or 1, where the given maps are as mmseg reads them; else nothing."""
    first = next((value for value in (0, 1) if data.map_values == {
        label + value: label for label in range(len(data.classes))}), None)
    if first is None or len(data.classes) + first >= IGNORED - 1:
        return None
    allowed = {*data.map_values, IGNORED, *range(first)}
    for picture in pictures:
        if picture.label_map is None or read_header(picture.label_map).mode not in ('L', 'P', '1'):
            return None
        if not numbers_of(picture.label_map) <= allowed:
            return None
    return first


def _layout(pictures: Sequence[Picture], root: Path) -> _Layout | None:
    """The layout that all pictures and maps have, if there is one."""
    found = None
    for picture in pictures:
        if picture.label_map is None or not picture.label_map.is_relative_to(root):
            return None
        ours, theirs = picture.path.relative_to(root), picture.label_map.relative_to(root)
        if found is None:
            found = _layout_of(ours, theirs)
        name = ours.as_posix()
        line = name[len(found.pictures) + 1 if found.pictures else 0:len(name) - len(found.picture_ending)]
        if line != line.strip():
            # A blank before the ending, which mmseg takes off.
            return None
        expected = '/'.join(filter(None, (found.maps, line + found.map_ending)))
        if (not name.startswith(found.pictures) or not name.endswith(found.picture_ending)
                or expected != theirs.as_posix()):
            return None
    return found


def _layout_of(ours: Path, theirs: Path) -> _Layout:
    """The layout of one pair: the folders that differ, and the endings."""
    above, other = list(ours.parent.parts), list(theirs.parent.parts)
    while above and other and above[-1] == other[-1]:
        above.pop()
        other.pop()
    same = 0
    while same < min(len(ours.stem), len(theirs.stem)) and ours.name[same] == theirs.name[same]:
        same += 1
    return _Layout('/'.join(above), '/'.join(other), ours.name[same:], theirs.name[same:])


def _write_map(data: OwnData, picture: Picture, path: Path) -> None:
    if picture.label_map is not None:
        labels = read_label_map(data, picture)
    else:
        size = picture.height, picture.width
        labels = np.full(size, NO_CLASS if data.background is None else data.background, np.int32)
        # The larger first, so that what lies on a large one is seen; of equal ones the later lies over the earlier.
        for annotation in sorted(picture.annotations, key=lambda each: -mask_area(each.segmentation, *size)):
            labels[decode(annotation.segmentation, *size)] = annotation.label
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(labels == NO_CLASS, IGNORED, labels).astype(np.uint8)).save(path, format='PNG')
