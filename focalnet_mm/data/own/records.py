"""What is known of somebody's pictures and annotations, however they were written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ['SPLITS', 'TASKS', 'UNLABELLED', 'Annotation', 'OwnData', 'Picture', 'Problem']

#: What annotations may hold: boxes, masks of objects, all of a picture as objects and areas, a class for each pixel, a
#: class for each picture, several classes for each picture.
TASKS = ('boxes', 'instances', 'panoptic', 'semantic', 'classes', 'labels')
SPLITS = ('train', 'val', 'test')
#: What pixels that no polygon covers may be: of a class of their own, or of none, over which training passes.
UNLABELLED = ('background', 'ignored')


@dataclass
class Annotation:
    """An object, or in panoptic data an area, of a picture."""

    #: Which of the classes.
    label: int
    #: Left, top, right and bottom in pixels of the picture as the libraries load it: its EXIF orientation applied.
    box: tuple[float, float, float, float]
    #: COCO's polygons or RLE in the same pixels; nothing where only the box is known.
    segmentation: Any = None
    #: Whether it is a crowd of objects, which training passes over.
    crowd: bool = False


@dataclass
class Picture:
    """A picture and what is annotated in it."""

    path: Path
    #: In pixels, as the libraries load it; 0 where it cannot be read or is not there.
    height: int
    width: int
    annotations: list[Annotation] = field(default_factory=list)
    #: The classes of the picture as a whole.
    labels: tuple[int, ...] = ()
    #: A picture of the same size that tells the class of each pixel: by what :attr:`OwnData.map_values` says.
    label_map: Path | None = None
    #: One of :data:`SPLITS`, where the data has it or it was drawn.
    split: str | None = None
    #: Pictures of one group stay on one side of a split.
    group: str | None = None


@dataclass
class Problem:
    """Something suspicious."""

    #: A word such as ``'outside'``, by which it can be mended.
    kind: str
    #: A sentence.
    text: str
    picture: Path | None = None
    #: Number of the annotation in the picture.
    annotation: int | None = None
    #: What became of it: ``'kept'``, ``'left out'`` or ``'mended'``.
    done: str = 'kept'
    #: Height and width of the picture as its annotations name them, where these are wrong.
    said: tuple[int, int] | None = None


@dataclass
class OwnData:
    """A data set as it was found."""

    root: Path
    #: Name of the form that it was read from, such as ``'coco'`` or ``'voc'``.
    format: str
    #: One of :data:`TASKS`, the richest that all of it supports.
    task: str
    classes: list[str]
    pictures: list[Picture] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    #: Of panoptic data, which classes are areas and not objects.
    stuff: frozenset[int] = frozenset()
    #: What the values of label maps stand for: value, or colour in RGB, to class. Other values have no class.
    map_values: dict[int | tuple[int, int, int], int] = field(default_factory=dict)
    #: Colour of each class in RGB, where the data names them.
    palette: list[tuple[int, int, int]] | None = None
    #: Class of the pixels that no object covers, where class maps are drawn; without one they have none.
    background: int | None = None
