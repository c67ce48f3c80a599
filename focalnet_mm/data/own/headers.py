"""What the first bytes of a picture say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

__all__ = ['Header', 'large_pictures', 'read_header']

# OpenCV, with which the libraries load pictures, obeys the orientation in files of these formats.
_ORIENTED = ('JPEG', 'MPO', 'PNG', 'WEBP')


class Header(NamedTuple):
    """Size and form of a picture."""

    #: In pixels, as the libraries load it.
    height: int
    width: int
    #: EXIF's orientation, 1 to 8; 1 is upright.
    orientation: int
    #: Pillow's name for channels and depth, such as ``'RGB'``, ``'L'`` or ``'I;16'``.
    mode: str

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width before the orientation is applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


@contextlib.contextmanager
def large_pictures() -> Iterator[None]:
    """Let Pillow open pictures of any size: these are the user's own, and 100 megapixels are no attack."""
    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most


def read_header(path: Path) -> Header:
    """Read the size and form of a picture without decoding it.

    Args:
        path: The picture.

    Returns:
        What its header says.

    Raises:
        ValueError: It is no picture, or its header is damaged.
        OSError: It cannot be opened.
    """
    try:
        with large_pictures(), Image.open(path) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if image.format in _ORIENTED else 1
            width, height = image.size
            mode = image.mode
    except UnidentifiedImageError:
        raise ValueError(f'{path} is no picture that Pillow knows') from None
    except (SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f'{path} has a damaged header: {error}') from None
    if orientation not in range(1, 9):
        orientation = 1
    if orientation >= 5:
        width, height = height, width
    return Header(height, width, orientation, mode)
