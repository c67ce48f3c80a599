"""A built-in synthetic data set: overlapping shapes on cluttered backgrounds.

Small enough to learn on a CPU in minutes, written in the layouts of COCO (instances and panoptic) and ADE20K, so that
a config for those data sets needs only another ``data_root`` and other classes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import Progress

from .made import files_below, read_marker, replace_made, write_marker

__all__ = ['PALETTE', 'Scene', 'STUFF_CLASSES', 'THING_CLASSES', 'draw_scene', 'write_dataset']

#: Countable classes, by form.
THING_CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')
#: Background classes, by texture.
STUFF_CLASSES = ('plain', 'stripes', 'checks', 'dots')
#: Colour of each class, RGB; a list, since mmdet takes a tuple for a single colour.
PALETTE = [(228, 26, 28), (55, 126, 184), (77, 175, 74), (152, 78, 163), (255, 127, 0),
           (190, 190, 190), (140, 160, 200), (200, 180, 140), (160, 200, 160)]

# Raised whenever the same seed would give other bytes.
_VERSION = 1
_MARKER = 'shapes.json'
_CURVE_POINTS = 64
_POLYGON_ZOOM = 4
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: RGB, (H, W, 3), uint8.
        instance_map: (H, W), int32: 0 on the background, else 1 + the index into ``instance_classes``.
        instance_classes: Index into :data:`THING_CLASSES` of each instance.
        stuff_map: (H, W), int32: index into :data:`STUFF_CLASSES`, under the instances too.
    """

    image: np.ndarray
    instance_map: np.ndarray
    instance_classes: tuple[int, ...]
    stuff_map: np.ndarray


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draw a random scene.

    Args:
        rng: Source of all randomness.
        size: Width and height in pixels, at least 32.

    Returns:
        The scene. Every instance shows at least 64 pixels and 60% of itself, and has no holes.
    """
    stuff_map, image = _background(rng, size)
    instance_map = np.zeros((size, size), np.int32)
    areas: list[int] = []
    classes: list[int] = []
    wanted = int(rng.integers(3, 8))
    for _ in range(4 * wanted):
        if len(classes) == wanted:
            break
        kind = int(rng.integers(len(THING_CLASSES)))
        polygon = _place(rng, _outline(THING_CLASSES[kind]), size)
        mask = _fill(polygon, size, zoom=1) > 0
        drawn = np.where(mask, len(classes) + 1, instance_map)
        if not _all_visible(drawn, [*areas, int(mask.sum())]):
            continue
        alpha = cv2.resize(_fill(polygon, size, zoom=4), (size, size), interpolation=cv2.INTER_AREA)
        alpha = alpha[..., None].astype(np.float32)
        kind_of_texture = rng.choice(['plain', 'shade', 'stripes', 'checks'], p=[0.35, 0.35, 0.15, 0.15])
        texture = _texture(rng, size, kind_of_texture, _colour_off(rng, image, mask))
        image = image * (1 - alpha) + texture * alpha
        instance_map = drawn
        areas.append(int(mask.sum()))
        classes.append(kind)
    image = image + rng.normal(0, rng.uniform(1, 8), image.shape)
    return Scene(np.clip(image.round(), 0, 255).astype(np.uint8), instance_map.astype(np.int32), tuple(classes),
                 stuff_map)


def write_dataset(folder: str | Path, train: int = 400, val: int = 100, size: int = 192, seed: int = 0,
                  force: bool = False) -> bool:
    """Write the data set in the layouts of COCO and ADE20K.

    ``folder/coco`` holds ``train2017``, ``val2017`` and ``annotations`` with the instances and panoptic files;
    ``folder/ade/ADEChallengeData2016`` holds the same pictures with class maps (0 is ignored and does not occur;
    things first, then stuff). The same arguments give the same bytes.

    Args:
        folder: Where to write; made whole or not at all. ``shapes.json`` in it lists the files that were made.
        train: Number of training pictures.
        val: Number of validation pictures.
        size: Width and height in pixels.
        seed: Seed; each picture depends only on it, its split and its number.
        force: Replace a data set of other settings that this function wrote earlier: the files that its list names,
            and nothing else that has come into the folder since.

    Returns:
        Whether it was written; ``False`` where the folder already holds just this data set.

    Raises:
        ValueError: A setting is out of range.
        FileExistsError: The folder holds something else, or a data set whose files no list names.
    """
    for name, value, minimum in (('train', train, 1), ('val', val, 1), ('size', size, 32), ('seed', seed, 0)):
        if value < minimum:
            raise ValueError(f'{name} must be at least {minimum}, got {value}.')
    folder = Path(folder)
    settings = dict(version=_VERSION, train=train, val=val, size=size, seed=seed)
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        found = read_marker(folder / _MARKER)
        if found is None:
            raise FileExistsError(f'{folder} exists and is no shapes data set: choose another folder.')
        if found.settings == settings:
            return False
        if not force:
            raise FileExistsError(f'{folder} holds a shapes data set with {found.settings}, not {settings}: choose '
                                  'another folder, or replace it with --force.')
        if found.files is None:
            raise FileExistsError(f'{folder / _MARKER} does not list the files of this data set, so that they cannot '
                                  'be told from yours: choose another folder, or remove the data set yourself.')

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
    try:
        with Progress() as progress:
            task = progress.add_task(f'Drawing {folder}', total=train + val)
            for split, count, first_id in (('train', train, 1), ('val', val, train + 1)):
                _write_split(partial, split, count, first_id, size, seed, lambda: progress.advance(task))
        write_marker(partial / _MARKER, settings, files_below(partial))
        partial.chmod(0o755)
        if folder.exists():
            replace_made(folder, partial, _MARKER)
        else:
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return True


def _write_split(root: Path, split: str, count: int, first_id: int, size: int, seed: int,
                 done: Callable[[], None]) -> None:
    coco, ade = root / 'coco', root / 'ade' / 'ADEChallengeData2016'
    year = f'{split}2017'
    ade_split = dict(train='training', val='validation')[split]
    panoptic_folder = coco / 'annotations' / f'panoptic_{year}'
    for path in (coco / year, panoptic_folder, ade / 'images' / ade_split, ade / 'annotations' / ade_split):
        path.mkdir(parents=True)

    images, panoptic = [], []
    instances: list[dict[str, Any]] = []
    for i in range(count):
        scene = draw_scene(np.random.default_rng([seed, ('train', 'val').index(split), i]), size)
        image_id = first_id + i
        name, ade_name = f'{image_id:012d}', f'ADE_{split}_{i + 1:08d}'
        jpeg = _encode('.jpg', scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (coco / year / f'{name}.jpg').write_bytes(jpeg)
        (ade / 'images' / ade_split / f'{ade_name}.jpg').write_bytes(jpeg)

        images.append(dict(id=image_id, file_name=f'{name}.jpg', width=size, height=size))
        class_map = (scene.stuff_map + len(THING_CLASSES) + 1).astype(np.uint8)
        segment_map = np.zeros((size, size), np.int64)
        segments = []
        for number, (category, mask, is_thing) in enumerate(_segments(scene)):
            class_map[mask] = category
            segment_id = _segment_id(number)
            segment_map[mask] = segment_id
            common = dict(category_id=category, area=int(mask.sum()), bbox=_box(mask), iscrowd=0)
            segments.append(dict(id=segment_id, **common))
            if is_thing:
                instances.append(dict(id=len(instances) + 1, image_id=image_id, segmentation=_polygons(mask),
                                      **common))
        panoptic.append(dict(image_id=image_id, file_name=f'{name}.png', segments_info=segments))
        blue_green_red = np.stack([segment_map >> 16, segment_map >> 8, segment_map], -1) & 255
        (panoptic_folder / f'{name}.png').write_bytes(_encode('.png', blue_green_red.astype(np.uint8)))
        (ade / 'annotations' / ade_split / f'{ade_name}.png').write_bytes(_encode('.png', class_map))
        done()

    info = dict(description='Synthetic shapes of focalnet-mm', version=str(_VERSION))
    things = [dict(id=i + 1, name=name, supercategory='shape') for i, name in enumerate(THING_CLASSES)]
    segment_classes = [
        dict(id=i + 1, name=name, supercategory='shape' if i < len(THING_CLASSES) else 'background',
             isthing=int(i < len(THING_CLASSES)), color=list(PALETTE[i]))
        for i, name in enumerate(THING_CLASSES + STUFF_CLASSES)]
    annotations = coco / 'annotations'
    for name, content in (
            (f'instances_{year}.json', dict(info=info, images=images, annotations=instances, categories=things)),
            (f'panoptic_{year}.json',
             dict(info=info, images=images, annotations=panoptic, categories=segment_classes))):
        (annotations / name).write_text(json.dumps(content))


def _segments(scene: Scene) -> Iterator[tuple[int, np.ndarray, bool]]:
    """(category id, mask, whether it is a thing) of each panoptic segment."""
    for i, kind in enumerate(scene.instance_classes):
        yield kind + 1, scene.instance_map == i + 1, True
    background = scene.instance_map == 0
    for kind in range(len(STUFF_CLASSES)):
        mask = background & (scene.stuff_map == kind)
        if mask.any():
            yield len(THING_CLASSES) + kind + 1, mask, False


def _segment_id(number: int) -> int:
    """Distinct ids that look different as colours: an odd factor permutes the numbers modulo 2²⁴."""
    return (number + 1) * 2654435761 % (1 << 24)


def _box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] in pixels."""
    ys, xs = np.nonzero(mask)
    return [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines as COCO wants them: [[x, y, x, y, …], …] in pixels."""
    # Contours run through the centres of border pixels; on an enlarged mask that is closer to the pixels' edges.
    zoomed = cv2.resize(mask.astype(np.uint8), None, fx=_POLYGON_ZOOM, fy=_POLYGON_ZOOM,
                        interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(zoomed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((contour.reshape(-1) + 0.5) / _POLYGON_ZOOM).round(2).tolist() for contour in contours]


def _all_visible(instance_map: np.ndarray, areas: list[int]) -> bool:
    """Whether each instance shows enough of itself, and none has a hole, which polygons can't express."""
    for i, area in enumerate(areas):
        mask = (instance_map == i + 1).astype(np.uint8)
        if mask.sum() < max(64, 0.6 * area):
            return False
        _, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if (hierarchy[0, :, 3] >= 0).any():
            return False
    return True


def _outline(kind: str) -> np.ndarray:
    """(P, 2) points of a shape about the origin, within a radius of about 1."""
    turn = np.linspace(0, 2 * np.pi, _CURVE_POINTS, endpoint=False)
    if kind == 'circle':
        return np.stack([np.cos(turn), np.sin(turn)], -1)
    if kind == 'square':
        return np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]])
    if kind == 'triangle':
        corners = np.arange(3) * 2 * np.pi / 3
        return np.stack([np.cos(corners), np.sin(corners)], -1) * 1.1
    if kind == 'star':
        corners = np.arange(10) * 2 * np.pi / 10
        radius = np.where(np.arange(10) % 2, 0.45, 1.1)
        return np.stack([np.cos(corners), np.sin(corners)], -1) * radius[:, None]
    if kind == 'cross':
        near, far = 0.3, 1.0
        return np.array([[-near, -far], [near, -far], [near, -near], [far, -near], [far, near], [near, near],
                         [near, far], [-near, far], [-near, near], [-far, near], [-far, -near], [-near, -near]])
    raise ValueError(f'Unknown shape {kind!r}: expected one of {", ".join(THING_CLASSES)}.')


def _place(rng: np.random.Generator, outline: np.ndarray, size: int) -> np.ndarray:
    """Scale, squash, rotate and move an outline into the picture."""
    angle = rng.uniform(-0.4, 0.4)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    radius = size * rng.uniform(0.1, 0.22)
    return outline * [1, rng.uniform(0.75, 1)] @ rotation.T * radius + rng.uniform(0.6 * radius, size - 0.6 * radius, 2)


def _fill(polygon: np.ndarray, size: int, zoom: int) -> np.ndarray:
    """(size · zoom, size · zoom) float32, 1 inside the polygon."""
    canvas = np.zeros((size * zoom, size * zoom), np.float32)
    shift = 8
    points = ((polygon + 0.5) * zoom - 0.5) * (1 << shift)
    cv2.fillPoly(canvas, [points.round().astype(np.int32)], 1.0, shift=shift)
    return canvas


def _background(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One or two textured regions and clutter: the class map, and the picture as (H, W, 3) float."""
    ys, xs = np.mgrid[:size, :size].astype(np.float32)
    kinds = rng.permutation(len(STUFF_CLASSES))[:rng.integers(1, 3)]
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.12) * size
    along = (xs - size / 2) * np.cos(angle) + (ys - size / 2) * np.sin(angle)
    across = (ys - size / 2) * np.cos(angle) - (xs - size / 2) * np.sin(angle)
    second = along + bend * np.sin(across * 2 * np.pi / size) > rng.uniform(-0.25, 0.25) * size
    region = second.astype(int) if len(kinds) == 2 else np.zeros((size, size), int)
    stuff_map = kinds[region].astype(np.int32)
    image = np.zeros((size, size, 3), np.float32)
    for i, kind in enumerate(kinds):
        colour = rng.uniform(30, 225, 3)
        image[region == i] = _texture(rng, size, STUFF_CLASSES[kind], colour)[region == i]
    for _ in range(int(rng.integers(5, 25))):
        start = rng.uniform(0, size, 2)
        end = start + rng.normal(0, 0.1 * size, 2)
        cv2.line(image, start.round().astype(int).tolist(), end.round().astype(int).tolist(),
                 rng.uniform(0, 255, 3).tolist(), int(rng.integers(1, 3)), cv2.LINE_AA)
    return stuff_map, image


def _colour_off(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A random colour that stands out from what it will cover."""
    covered = image[mask].mean(0)
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - covered).sum() > 180:
            return colour


def _texture(rng: np.random.Generator, size: int, kind: str, colour: np.ndarray) -> np.ndarray:
    """(size, size, 3) float32 in a colour and a shade of it."""
    ys, xs = np.mgrid[:size, :size].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), size * rng.uniform(0.03, 0.08)
    u = (xs * np.cos(angle) + ys * np.sin(angle)) / period
    v = (ys * np.cos(angle) - xs * np.sin(angle)) / period
    if kind == 'plain':
        mix = np.zeros_like(u)
    elif kind == 'shade':
        mix = (u - u.min()) / np.ptp(u)
    elif kind == 'stripes':
        mix = (u % 1 < 0.5).astype(np.float32)
    elif kind == 'checks':
        mix = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    else:
        mix = (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.28).astype(np.float32)
    return (colour + mix[..., None] * rng.uniform(-60, 60, 3)).astype(np.float32)


def _encode(ending: str, image: np.ndarray, options: list[int] | None = None) -> bytes:
    written, data = cv2.imencode(ending, np.ascontiguousarray(image), options or [])
    if not written:
        raise OSError(f'OpenCV could not encode a {ending} picture.')
    return data.tobytes()
