"""Pictures and label maps as a report reads them."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np

from ...data.own.label_maps import read_label_map
from ...data.own.records import OwnData, Picture
from ...data.pictures import to_bgr

__all__ = ['Files']

# More pixels than this are decoded at a fraction of their size, or, where the form has no such way, not at all.
_MOST_PIXELS = 200_000_000
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


class Files:
    """What lies on the disk.

    Args:
        data: The data set that pictures and label maps are of.
    """

    def __init__(self, data: OwnData) -> None:
        self._data = data

    def image(self, picture: Picture, scale: float) -> np.ndarray:
        """A picture as the libraries load it, turned as its EXIF data says, perhaps at a fraction of its size.

        Args:
            picture: The picture.
            scale: To what fraction of its size it is shrunk afterwards, so that no more need be decoded.

        Returns:
            BGR image (H, W, 3), uint8, without transparency; 16 bits are scaled from their own range.

        Raises:
            ValueError: It cannot be read, or is too large.
            OSError: The same.
        """
        content = picture.path.read_bytes()
        is_jpeg = content[:2] == b'\xff\xd8'
        factor = next((each for each in (8, 4, 2) if each * scale <= 1), 1) if is_jpeg else 1
        if picture.height * picture.width // factor**2 > _MOST_PIXELS:
            raise ValueError(f'{picture.path} has {picture.width} × {picture.height} pixels, too many to be drawn.')
        flags = _REDUCED[factor] if factor > 1 else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
        except cv2.error:
            image = None
        if image is None:
            raise ValueError(f'{picture.path} ({len(content)} bytes) is damaged or no image that OpenCV can read.')
        return to_bgr(image)

    def labels(self, picture: Picture) -> np.ndarray:
        """The class of each pixel of a picture that has a label map.

        Returns:
            (H, W), int32; negative where there is none.

        Raises:
            ValueError: The map cannot be read.
            OSError: The same.
        """
        return read_label_map(self._data, picture)

    def pixels(self, picture: Picture) -> Counter[int]:
        """Number of pixels of each class in a label map; nothing where it cannot be read."""
        try:
            labels, counts = np.unique(self.labels(picture), return_counts=True)
        except (OSError, ValueError):
            return Counter()
        return Counter({label: count for label, count in zip(labels.tolist(), counts.tolist()) if label >= 0})
