"""The tasks of mmpretrain's classifiers, whose ``MultiTaskHead`` has a head for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ['of_task', 'task_heads']


def task_heads(head: Any, task: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The heads of a classifier, by the names of their tasks where it has several.

    Args:
        head: The head of the model.
        task: The names of the tasks around it.
    """
    if not hasattr(head, 'task_heads'):
        yield task, head
        return
    for name, part in head.task_heads.items():
        yield from task_heads(part, (*task, name))


def of_task(sample: Any, task: Sequence[str]) -> Any:
    """What a sample holds of a task; of a classifier of one alone the sample itself.

    A sample keeps its tasks in a set: :func:`task_heads` gives them an order.
    """
    for name in task:
        sample = sample.get(name)
    return sample
