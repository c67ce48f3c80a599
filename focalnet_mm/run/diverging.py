"""A training whose loss is no number any more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from .failures import StoppedRunError

__all__ = ['DivergedError', 'FiniteLosses', 'files_of', 'nonfinite_parameters']

_MOST_FILES = 16


class DivergedError(StoppedRunError):
    """A training that would only go on with NaN or infinity."""


class FiniteLosses:
    """Counts the steps in a row whose loss is NaN or infinity.

    Args:
        most: After how many of them the training stops. One alone may pass: in mixed precision a step that overflows is
            left out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: How many there were up to now.
        self.count = 0
        self._first = ''

    def look_at(self, outputs: Any, batch: Any, step: int) -> bool:
        """Look at the loss of a step.

        Args:
            outputs: What the step gave: losses by name.
            batch: The batch, as the data loader gave it.
            step: The number of the step, from 1.

        Returns:
            Whether so many steps in a row had none that is finite, that the training must stop.
        """
        loss = outputs.get('loss') if isinstance(outputs, Mapping) else None
        value = loss if isinstance(loss, (int, float)) else (
            loss.item() if isinstance(loss, torch.Tensor) and loss.numel() == 1 else 0.0)
        if math.isfinite(value):
            self.count = 0
            return False
        if not self.count:
            files = list(dict.fromkeys(files_of(batch)))
            named = f', of {", ".join(files[:_MOST_FILES])}{" and others" if len(files) > _MOST_FILES else ""}'
            self._first = f'step {step}: loss={value}{named if files else ""}'
        self.count += 1
        return self.count >= self._most

    def explain(self, before: str) -> str:
        """A sentence about them.

        Args:
            before: What is said of the checkpoint of before.
        """
        return (f'The loss was no finite number in {self.count} steps in a row, from {self._first}. {before} Look at '
                'these pictures and their annotations, lower the learning rate, or clip gradients '
                '(optim_wrapper.clip_grad).')


def nonfinite_parameters(model: nn.Module) -> Iterator[str]:
    """The names of parameters that hold NaN or infinity."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter.detach()).all()):
            yield name


def files_of(batch: Any) -> Iterator[str]:
    """The pictures of a batch of any library, as far as it names them."""
    path = getattr(batch, 'img_path', None)
    if isinstance(path, str):
        yield path
    elif isinstance(path, (list, tuple)):
        yield from map(str, path)
    elif isinstance(batch, Mapping):
        yield from _of_all(batch.values())
    elif isinstance(batch, (list, tuple)):
        yield from _of_all(batch)


def _of_all(parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        yield from files_of(part)
