"""Pictures of what an exported file predicts, with OpenCV alone; the libraries' visualizers need PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ['draw_classes', 'draw_labels', 'draw_objects']

_OPACITY = 0.5
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Colour = Sequence[int]


def draw_objects(image: np.ndarray, boxes: np.ndarray, words: Sequence[str], masks: np.ndarray | None,
                 colours: Sequence[Colour]) -> np.ndarray:
    """Boxes and masks, each in its colour and with words at its upper left corner.

    Args:
        image: BGR picture (H, W, 3), uint8.
        boxes: (K, 4), x1, y1, x2, y2 in pixels.
        words: Of each box.
        masks: (K, H, W), or none.
        colours: RGB of each box.

    Returns:
        BGR picture (H, W, 3), uint8.
    """
    drawn = image.copy()
    for mask, colour in zip(masks if masks is not None else (), colours):
        _tint(drawn, mask != 0, colour)
    for box, text, colour in zip(boxes, words, colours):
        left, top, right, bottom = (round(float(value)) for value in box)
        cv2.rectangle(drawn, (left, top), (right, bottom), _bgr(colour), _thickness(image))
        _write(drawn, text, left, top)
    return drawn


def draw_labels(image: np.ndarray, label_map: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """A label map over a picture.

    Args:
        image: BGR picture (H, W, 3), uint8.
        label_map: (H, W); what is no label of a colour stays as it is.
        colours: RGB of each label.

    Returns:
        BGR picture (H, W, 3), uint8.
    """
    drawn = image.copy()
    for label in np.unique(label_map):
        if 0 <= label < len(colours):
            _tint(drawn, label_map == label, colours[label])
    return drawn


def draw_classes(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Lines of text on a picture.

    Args:
        image: BGR picture (H, W, 3), uint8.
        lines: What to write, from above to below.

    Returns:
        BGR picture (H, W, 3), uint8.
    """
    drawn, top = image.copy(), 0
    for line in lines:
        top += _write(drawn, line, 0, top)
    return drawn


def _tint(drawn: np.ndarray, inside: np.ndarray, colour: Colour) -> None:
    mixed = drawn[inside] * (1 - _OPACITY) + np.array(_bgr(colour)) * _OPACITY
    drawn[inside] = mixed.round().astype(np.uint8)


def _write(drawn: np.ndarray, text: str, left: int, top: int) -> int:
    """Write on a dark ground that lies inside of the picture; returns how high it is."""
    scale = max(min(drawn.shape[:2]) / 1000, 0.3)
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    high = height + below + 2
    left = max(min(left, drawn.shape[1] - width), 0)
    top = max(min(top, drawn.shape[0] - high), 0)
    ground = drawn[top:top + high, left:left + width]
    ground[:] = ground // 3
    cv2.putText(drawn, text, (left, top + height + 1), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return high


def _thickness(image: np.ndarray) -> int:
    return max(round(min(image.shape[:2]) / 400), 1)


def _bgr(colour: Colour) -> tuple[int, ...]:
    return tuple(int(value) for value in colour[::-1])
