"""Small pictures with what is annotated in them."""

from __future__ import annotations

import colorsys
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from ...data.own.records import Annotation, OwnData, Picture
from .statistics import is_drawable

__all__ = ['Window', 'colours_of', 'draw', 'scale_of', 'whole', 'window_around']

# Sides of a small picture in pixels: of most, and what a smaller one is enlarged to.
_SIDE = 360
_LEAST = 120
_FILL = 0.45
# An object is shown in a window of so many times its size at most.
_AROUND = 5


class Window(NamedTuple):
    """A part of a picture, in its pixels; right and bottom are not in it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


def whole(picture: Picture) -> Window:
    """All of a picture."""
    return Window(0, 0, picture.width, picture.height)


def window_around(picture: Picture, annotation: Annotation) -> Window:
    """The part of a picture in which an object can be made out.

    Args:
        picture: The picture.
        annotation: The object; one whose box is empty or outside is shown in the whole picture.

    Returns:
        A window within the picture, of its shape.
    """
    if not is_drawable(annotation):
        return whole(picture)
    left, top, right, bottom = annotation.box
    share = _AROUND * max((right - left) / picture.width, (bottom - top) / picture.height)
    middle = (left + right) / 2, (top + bottom) / 2
    if share >= 1 or not (0 <= middle[0] <= picture.width and 0 <= middle[1] <= picture.height):
        return whole(picture)
    spans = []
    for centre, length in zip(middle, (picture.width, picture.height)):
        side = min(length, max(round(share * length), 16))
        first = min(max(round(centre - side / 2), 0), length - side)
        spans.append((first, first + side))
    return Window(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def scale_of(window: Window, side: int = _SIDE) -> float:
    """By how much a window is shrunk, or, where it is tiny, enlarged."""
    longest = max(window.width, window.height)
    return side / longest if longest > side else max(1.0, min(_LEAST, side) / longest)


def colours_of(data: OwnData) -> list[tuple[int, int, int]]:
    """A colour in RGB for each class: the data's own, or else such as can be told apart."""
    made_up = [tuple(round(255 * part) for part in colorsys.hls_to_rgb(i * 0.618 % 1, (0.52, 0.62, 0.44)[i % 3], 0.85))
               for i in range(len(data.classes) + 1)]
    own = [tuple(map(int, colour)) for colour in data.palette or ()]
    # Black is the background's in most palettes, and cannot be seen on dark pictures.
    return [own[i] if i < len(own) and any(own[i]) else colour for i, colour in enumerate(made_up)]  # type: ignore[misc]


def draw(picture: Picture, window: Window, colours: Sequence[tuple[int, int, int]],
         read: Callable[[Picture, float], np.ndarray], labels: np.ndarray | None = None,
         chosen: int | None = None, side: int = _SIDE, areas: Collection[int] = ()) -> np.ndarray:
    """A window of a picture with its annotations.

    Args:
        picture: The picture.
        window: Which part of it.
        colours: RGB of each class; of a class beyond them the last.
        read: What reads it, see :meth:`.sources.Files.image`.
        labels: The class of each pixel (H, W), negative where there is none.
        chosen: A class of which alone masks are filled, and boxes drawn broadly.
        side: Longest side of what is drawn, in pixels.
        areas: Classes of areas, which have no box to draw where they have a mask.

    Returns:
        RGB image (H, W, 3), uint8.

    Raises:
        ValueError: The picture cannot be read.
        OSError: The same.
    """
    scale = scale_of(window, side)
    shape = max(1, round(window.height * scale)), max(1, round(window.width * scale))
    image = read(picture, min(scale, 1))
    small = np.ascontiguousarray(_cut(image, picture, window, shape, cv2.INTER_AREA if scale < 1 else
                                      cv2.INTER_NEAREST)[..., ::-1])
    if labels is not None:
        _paint_labels(small, _cut(labels.astype(np.int32), picture, window, shape, cv2.INTER_NEAREST), colours, chosen)
    for annotation in sorted(picture.annotations, key=lambda each: each.label == chosen):
        strong = chosen is None or annotation.label == chosen
        colour = _colour(colours, annotation.label)
        if annotation.segmentation:
            _fill(small, _mask(annotation, picture, window, shape), colour, _FILL if strong else 0.15)
        if is_drawable(annotation) and not (annotation.segmentation and annotation.label in areas):
            _frame(small, annotation.box, window, shape, colour, 2 if strong else 1)
    return small


def _colour(colours: Sequence[tuple[int, int, int]], label: int) -> tuple[int, int, int]:
    return colours[label] if 0 <= label < len(colours) else colours[-1]


def _cut(image: np.ndarray, picture: Picture, window: Window, shape: tuple[int, int], interpolation: int) -> np.ndarray:
    """A window of an image that may have been decoded at a fraction of the picture's size, in another size."""
    down, across = image.shape[0] / picture.height, image.shape[1] / picture.width
    top, left = int(window.top * down), int(window.left * across)
    bottom, right = max(round(window.bottom * down), top + 1), max(round(window.right * across), left + 1)
    return cv2.resize(image[top:bottom, left:right], shape[::-1], interpolation=interpolation)


def _mask(annotation: Annotation, picture: Picture, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Where in a small picture an object is, by COCO's polygons or run lengths; nowhere if they make no sense."""
    mask = np.zeros(shape, np.uint8)
    segmentation = annotation.segmentation
    with contextlib.suppress(KeyError, TypeError, ValueError, IndexError, cv2.error):
        if not isinstance(segmentation, Mapping):
            scale = np.array([shape[1] / window.width, shape[0] / window.height])
            for polygon in segmentation:
                points = (np.asarray(polygon, np.float64).reshape(-1, 2) - window[:2]) * scale
                # COCO counts from the corner of a pixel, OpenCV from its middle.
                cv2.fillPoly(mask, [np.round(points - 0.5).astype(np.int32)], 1)
        else:
            mask = _cut(_decoded(segmentation), picture, window, shape, cv2.INTER_NEAREST)
    return mask > 0


def _decoded(encoded: Mapping[str, Any]) -> np.ndarray:
    """Run lengths, compressed or not, as pixels (H, W), uint8."""
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise ModuleNotFoundError('Masks are drawn through pycocotools: pip install pycocotools.') from None
    if isinstance(encoded['counts'], (list, tuple)):
        encoded = coco.frPyObjects(dict(encoded), *encoded['size'])
    return coco.decode(encoded)


def _paint_labels(small: np.ndarray, labels: np.ndarray, colours: Sequence[tuple[int, int, int]],
                  chosen: int | None) -> None:
    for label in np.unique(labels[labels >= 0]).tolist():
        _fill(small, labels == label, _colour(colours, label), _FILL if chosen in (None, label) else 0.12)


def _fill(small: np.ndarray, where: np.ndarray, colour: tuple[int, int, int], strength: float) -> None:
    small[where] = np.round((1 - strength) * small[where] + strength * np.asarray(colour)).astype(np.uint8)


def _frame(small: np.ndarray, box: Sequence[float], window: Window, shape: tuple[int, int],
           colour: tuple[int, int, int], width: int) -> None:
    """Draw the edges of a box, just within it."""
    down, across = shape[0] / window.height, shape[1] / window.width
    limit = 4 * max(shape)
    left, top, right, bottom = (int(np.clip(round((value - first) * factor), -limit, limit)) for value, first, factor in
                                zip(box, (window.left, window.top) * 2, (across, down) * 2))
    right, bottom = max(right - 1, left), max(bottom - 1, top)
    for i in range(width):
        if right - left >= 2 * i and bottom - top >= 2 * i:
            cv2.rectangle(small, (left + i, top + i), (right - i, bottom - i), colour, 1)
