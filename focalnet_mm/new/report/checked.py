"""What a check of a config adds to the report on its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...data.pictures import printable
from .contents import Album

__all__ = ['LEVELS', 'Checked', 'Finding', 'View']

#: From the worst on: certainly wrong, probably wrong, worth knowing, and in order.
LEVELS = ('error', 'warning', 'note', 'passed')
# Of a curve, in units of its drawing.
_WIDTH, _HEIGHT = 600, 160


class Finding(NamedTuple):
    """Something that a check has found."""

    #: One of :data:`LEVELS`.
    level: str
    #: A sentence.
    text: str


class View(NamedTuple):
    """A picture with a line below it."""

    #: RGB image (H, W, 3), uint8.
    image: np.ndarray
    text: str


@dataclass
class Checked:
    """What was found of a config."""

    #: Path of the config.
    config: str
    findings: list[Finding] = field(default_factory=list)
    #: Of each training step on the same few pictures.
    losses: list[float] = field(default_factory=list)
    #: What the network is given.
    given: list[View] = field(default_factory=list)
    #: What it predicts after these steps.
    predicted: list[View] = field(default_factory=list)

    def contents(self, album: Album) -> dict[str, Any]:
        """What ``report.json`` holds of it.

        Args:
            album: Takes the pictures.
        """
        found = sorted(self.findings, key=lambda finding: LEVELS.index(finding.level))
        return dict(config=printable(self.config), losses=[loss if np.isfinite(loss) else None for loss in self.losses],
                    findings=[dict(level=finding.level, text=printable(finding.text)) for finding in found],
                    **{name: [dict(text=printable(view.text), **album.add(view.image)) for view in views]
                       for name, views in (('given', self.given), ('predicted', self.predicted))})


def curve_of(losses: Sequence[float | None]) -> list[str]:
    """The points of a curve of numbers, from 0 up, within 600 × 160; a list a stretch without gaps."""
    known = [loss for loss in losses if loss is not None]
    highest = max(known, default=0) or 1
    stretches: list[list[str]] = [[]]
    for i, loss in enumerate(losses):
        if loss is None:
            stretches.append([])
        else:
            x = _WIDTH * i / max(len(losses) - 1, 1)
            stretches[-1].append(f'{x:.1f},{_HEIGHT * (1 - max(loss, 0) / highest):.1f}')
    return [' '.join(points) for points in stretches if points]
