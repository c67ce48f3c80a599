"""Numbering classes anew, and data as what another task needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .records import UNLABELLED, OwnData

__all__ = ['BACKGROUND', 'FOLLOWING', 'as_task', 'relabel', 'things_first']

#: Task of some data → the tasks that it can be had for, the fullest use of the annotations first.
FOLLOWING: dict[str, tuple[str, ...]] = {
    'boxes': ('boxes',),
    'instances': ('instances', 'boxes', 'semantic'),
    'panoptic': ('panoptic', 'instances', 'boxes', 'semantic'),
    'semantic': ('semantic',),
    'classes': ('classes', 'labels'),
    'labels': ('labels',),
}
#: What tools call the class of what is nothing else.
BACKGROUND = ('background', '_background_', 'bg')


def relabel(data: OwnData, becomes: Sequence[int | None]) -> None:
    """Number the classes anew, in place.

    Args:
        data: The data. No annotation is of a class that becomes none.
        becomes: The new label of each class, 0 to the number of classes that stay; several may become one, which keeps
            the name of the first.
    """
    new = {label: other for label, other in enumerate(becomes) if other is not None}
    old = {other: label for label, other in reversed(new.items())}
    for picture in data.pictures:
        picture.labels = tuple(dict.fromkeys(new[label] for label in picture.labels))
        for annotation in picture.annotations:
            annotation.label = new[annotation.label]
    data.map_values = {value: new[label] for value, label in data.map_values.items() if label in new}
    data.stuff = frozenset(new[label] for label in data.stuff if label in new)
    order = [old[label] for label in range(len(old))]
    data.classes[:] = [data.classes[label] for label in order]
    if data.palette is not None:
        data.palette = [data.palette[label] for label in order]


def things_first(data: OwnData) -> None:
    """Number objects before areas, as mmdet's panoptic heads tell them apart."""
    order = sorted(range(len(data.classes)), key=lambda label: (label in data.stuff, label))
    relabel(data, [order.index(label) for label in range(len(order))])


def as_task(data: OwnData, task: str, unlabelled: str = 'background') -> OwnData:
    """What another task needs of some data, in records of their own.

    Args:
        data: The data, which stays as it is.
        task: One of :data:`~focalnet_mm.data.own.TASKS`: that of the data; boxes, and the class of each pixel, from
            masks; objects from panoptic data too; labels from classes.
        unlabelled: Of :data:`~focalnet_mm.data.own.UNLABELLED`, for class maps of masks: whether pixels that no mask
            covers are of the class background, which is put before the others unless there is one, or of none.

    Returns:
        The data for that task. Of panoptic data, only objects and their classes are left for boxes and masks; its
        pixels without segment have no class.

    Raises:
        ValueError: The task does not follow from what is annotated, or all pixels would be of one class.
    """
    if unlabelled not in UNLABELLED:
        raise ValueError(f'unlabelled is {unlabelled!r}: choose {" or ".join(UNLABELLED)}.')
    if task not in FOLLOWING[data.task]:
        possible = ', '.join(FOLLOWING[data.task])
        raise ValueError(f'The data of {data.root} is annotated for {data.task}, from which {task} does not follow: '
                         f'choose from {possible}.')
    copy = replace(data, task=task, classes=list(data.classes), map_values=dict(data.map_values), pictures=[
        replace(picture, annotations=[replace(annotation) for annotation in picture.annotations])
        for picture in data.pictures])
    if data.task == 'instances' and task == 'semantic':
        _settle_pixels(copy, unlabelled)
    if data.task == 'panoptic' and task in ('boxes', 'instances'):
        for picture in copy.pictures:
            picture.annotations = [annotation for annotation in picture.annotations
                                   if annotation.label not in data.stuff]
        things = [label for label in range(len(data.classes)) if label not in data.stuff]
        relabel(copy, [things.index(label) if label in things else None for label in range(len(data.classes))])
    return copy


def _settle_pixels(data: OwnData, unlabelled: str) -> None:
    """Say, in place, which class the pixels without mask have."""
    if unlabelled == 'background':
        names = [name.casefold().strip() for name in data.classes]
        found = next((label for label, name in enumerate(names) if name in BACKGROUND), None)
        if found is None:
            data.classes.insert(0, 'background')
            for picture in data.pictures:
                for annotation in picture.annotations:
                    annotation.label += 1
            if data.palette is not None:
                data.palette = [(0, 0, 0), *data.palette]
        data.background = found or 0
    if len(data.classes) < 2:
        raise ValueError(f'All masks of {data.root} are of the class {data.classes[0]!r}, so nothing is learned where '
                         'other pixels are ignored: take them for background.')
