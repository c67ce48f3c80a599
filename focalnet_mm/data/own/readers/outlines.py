"""Shapes of annotation tools as polygons."""

from __future__ import annotations

import numpy as np

__all__ = ['ellipse', 'turned_box']

_POINTS = 72


def turned_box(left: float, top: float, right: float, bottom: float, degrees: float,
               centred: bool = False) -> list[float]:
    """The corners ``[x, y, …]`` of a box that is turned clockwise, about its centre or else its left upper corner."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return _turn(corners, corners.mean(0) if centred else corners[0], degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> list[float]:
    """The outline ``[x, y, …]`` of an ellipse that is turned clockwise about its centre."""
    angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    points = np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], -1)
    return _turn(points, np.array([x, y]), degrees)


def _turn(points: np.ndarray, centre: np.ndarray, degrees: float) -> list[float]:
    # With y downwards, this turns clockwise.
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return ((points - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre).reshape(-1).tolist()
