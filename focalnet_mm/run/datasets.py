"""Data sets that were built, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ['parts']


def parts(key: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    """Each data set within those that repeat, filter or join others.

    Args:
        key: The key of the data set in the config.
        dataset: The data set, as it was built.

    Returns:
        The key and data set of each.
    """
    if hasattr(dataset, 'dataset'):
        yield from parts(f'{key}.dataset', dataset.dataset)
    elif isinstance(getattr(dataset, 'datasets', None), Sequence):
        for i, part in enumerate(dataset.datasets):
            yield from parts(f'{key}.datasets.{i}', part)
    else:
        yield key, dataset
