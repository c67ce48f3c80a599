"""What label maps hold: a value, or a colour, for each pixel, and the class that it stands for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Set
from pathlib import Path

import numpy as np
from PIL import Image

from .headers import large_pictures
from .records import OwnData, Picture

__all__ = ['IGNORED', 'NO_CLASS', 'by_colour', 'content_of', 'labels_of', 'load_map', 'number_of', 'numbers_of',
           'read_label_map', 'value_of']

#: What :func:`read_label_map` gives where a pixel has no class.
NO_CLASS = -1
#: The value that is ignored by custom, unless a list of classes reaches it.
IGNORED = 255


def by_colour(data: OwnData) -> bool:
    """Whether colours tell the classes of label maps, where those with a palette are meant by it and not by numbers."""
    return bool(data.map_values) and not any(isinstance(value, int) for value in data.map_values)


def load_map(path: Path, colours: bool = False) -> np.ndarray:
    """The values of a label map: (H, W) numbers, or (H, W, 3) colours in RGB.

    Args:
        path: The map.
        colours: Whether a map with a palette gives its colours in place of its numbers.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        with large_pictures(), Image.open(path) as image:
            if image.mode in ('RGBA', 'LA', 'PA', 'CMYK', 'YCbCr') or (colours and image.mode == 'P'):
                image = image.convert('RGB') if image.mode != 'LA' else image.getchannel(0)
            return np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from None


def read_label_map(data: OwnData, picture: Picture) -> np.ndarray:
    """The class of each pixel.

    Args:
        data: The data.
        picture: A picture of it with a label map.

    Returns:
        (H, W), int32: indices into the classes, :data:`NO_CLASS` where there is none.

    Raises:
        ValueError: The map cannot be read, or there is none.
    """
    if picture.label_map is None:
        raise ValueError(f'{picture.path} has no label map.')
    values = _numbers(load_map(picture.label_map, by_colour(data)))
    known = {number_of(value): label for value, label in data.map_values.items()}
    found, places = np.unique(values, return_inverse=True)
    labels = np.array([known.get(value, NO_CLASS) for value in found.tolist()], np.int32)
    return labels[places].reshape(values.shape)


def _numbers(values: np.ndarray) -> np.ndarray:
    """One number for each pixel; those of colours lie beyond those of greys."""
    if values.ndim == 2:
        return values
    return (1 << 24) + (values[..., 0] << 16) + (values[..., 1] << 8) + values[..., 2]


def number_of(value: int | tuple[int, int, int]) -> int:
    """The number of a value, or of a colour in RGB, as :func:`numbers_of` gives them."""
    return value if isinstance(value, int) else (1 << 24) + (value[0] << 16) + (value[1] << 8) + value[2]


def value_of(number: int) -> int | tuple[int, int, int]:
    """The value, or the colour in RGB, that a number stands for."""
    return number if number < 1 << 24 else (number >> 16 & 255, number >> 8 & 255, number & 255)


@functools.lru_cache(maxsize=200_000)
def _content(path: Path, changed: int, colours: bool) -> tuple[tuple[int, int], dict[int, int]]:
    values = _numbers(load_map(path, colours))
    numbers, counts = np.unique(values, return_counts=True)
    return values.shape, dict(zip(numbers.tolist(), counts.tolist()))


def content_of(path: Path, colours: bool = False) -> tuple[tuple[int, int], dict[int, int]]:
    """Height and width of a label map, and how many pixels have each value, as :func:`numbers_of` gives them."""
    return _content(path, path.stat().st_mtime_ns, colours)


def numbers_of(path: Path, colours: bool = False) -> Set[int]:
    """The values in a label map; those of colours lie beyond those of greys."""
    return content_of(path, colours)[1].keys()


def labels_of(data: OwnData, picture: Picture) -> set[int]:
    """The classes that occur in a picture: as a whole, in its objects, or in its label map."""
    labels = {annotation.label for annotation in picture.annotations} | set(picture.labels)
    if picture.label_map is not None:
        known = {number_of(value): label for value, label in data.map_values.items()}
        with contextlib.suppress(OSError, ValueError):
            labels |= {known[number] for number in numbers_of(picture.label_map, by_colour(data)) if number in known}
    return labels
