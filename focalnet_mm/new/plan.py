"""Everything that a config is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmengine.config import Config

from ..data.own import OwnData, Written
from ..run.config import scope_of
from .methods import Choice
from .sizing import Machine

__all__ = ['Plan']


@dataclass
class Plan:
    """What a config is written from.

    Attributes:
        choice: Method, variant and base.
        base: The base, read.
        inherited: How the config names the base: a path relative to its own folder.
        data: The data for what is learned, objects numbered before areas.
        written: The annotation files by split.
        project: The folder of the project, as it is named in the paths of ``written``.
        place: The folder that it becomes.
        machine: What is trained on.
        keep: Whether the base is somebody's own, whose sizes, augmentation and schedule are kept.
        batch: Pictures a GPU and step that were asked for.
        rate: Learning rate that was asked for.
        weights: ``'none'``, a checkpoint, or ``None`` for the best that are public.
        seed: Seed of the training.
    """

    choice: Choice
    base: Config
    inherited: str
    data: OwnData
    written: Mapping[str, Written]
    project: Path
    place: Path
    machine: Machine
    keep: bool = False
    batch: int | None = None
    rate: float | None = None
    weights: str | None = None
    seed: int = 0

    @cached_property
    def library(self) -> str:
        """mmdet, mmseg or mmpretrain."""
        return scope_of(self.base)

    @property
    def fixed_size(self) -> bool:
        """Whether a detector pads all pictures to one size, as Mask2Former does."""
        return self.library == 'mmdet' and 'panoptic_head' in self.base.model

    @property
    def pictures(self) -> int:
        """Number of training pictures."""
        return self.written['train'].pictures
