"""Pictures that tell the class of each pixel."""

from __future__ import annotations

import numpy as np

from .records import OwnData, Picture

__all__ = ['NO_CLASS', 'read_label_map']

#: What :func:`read_label_map` gives where a pixel has no class.
NO_CLASS = -1


def read_label_map(data: OwnData, picture: Picture) -> np.ndarray:
    """The class of each pixel.

    Args:
        data: The data.
        picture: A picture of it with a label map.

    Returns:
        (H, W), int32: indices into the classes, :data:`NO_CLASS` where there is none.

    Raises:
        ValueError: The map cannot be read.
    """
    raise NotImplementedError
