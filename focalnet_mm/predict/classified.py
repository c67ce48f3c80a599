"""What classifiers predict, of several tasks at a time too, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ['TOP_CLASSES', 'Classes', 'best_classes', 'categories', 'class_lines', 'class_name', 'known_classes']

#: How many classes are told of a classifier.
TOP_CLASSES = 5
#: Names by label; of mmpretrain's ``MultiTaskHead`` for each task, by its name.
Classes = Sequence[str] | Mapping[str, Any]


def known_classes(noted: Any) -> Classes:
    """The names of classes that a model notes, which may be none."""
    return noted if isinstance(noted, Mapping) else tuple(noted or ())


def class_name(classes: Classes, label: int, task: str = '') -> str:
    """The name of a class.

    Args:
        classes: The names that are known.
        label: Its number.
        task: The task that it is of, ``OUTER.INNER`` where one has tasks of its own.
    """
    names: Any = classes
    for part in filter(None, task.split('.')):
        names = names.get(part) if isinstance(names, Mapping) else None
    known = isinstance(names, Sequence) and label < len(names)
    return names[label] if known else f'class {label}'


def categories(classes: Classes, task: str = '') -> Iterator[dict[str, Any]]:
    """The categories of COCO's form, with ``id`` and ``name``, and of several tasks with ``task``."""
    if isinstance(classes, Mapping):
        for name, names in classes.items():
            yield from categories(names, f'{task}.{name}'.lstrip('.'))
        return
    for label, name in enumerate(classes):
        yield dict(id=label, name=name, **(dict(task=task) if task else {}))


def best_classes(scores: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The entries of ``predictions.json``: of each task the :data:`TOP_CLASSES` with the highest scores.

    Args:
        scores: Task, or ``''`` where there is one alone → the scores (classes,).
    """
    return [dict(category_id=label, score=float(values[label]), **(dict(task=task) if task else {}))
            for task, values in scores.items() for label in np.argsort(-values, kind='stable')[:TOP_CLASSES].tolist()]


def class_lines(classes: Classes, scores: Mapping[str, np.ndarray], labels: Mapping[str, Iterable[int]]) -> list[str]:
    """What is written on a picture, a line for each class.

    Args:
        classes: The names that are known.
        scores: As for :func:`best_classes`.
        labels: Task → the classes to name.
    """
    return [(f'{task}: ' if task else '') + f'{class_name(classes, label, task)} {scores[task][label]:.2f}'
            for task, chosen in labels.items() for label in chosen]
