"""What a file for another runtime holds of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

__all__ = ['TOLERANCE', 'Agreement', 'Part', 'difference', 'known_class', 'predicted']

#: Largest difference from PyTorch, relative to the greatest value of an output.
TOLERANCE = 1e-4


class Agreement(NamedTuple):
    """How what a runtime returns agrees with what the model predicts."""

    #: Whether it is the same but for rounding.
    holds: bool
    #: The largest difference that was found between what belongs together.
    difference: float
    #: Both in words, as ``397 of 400 objects found again``.
    words: str


class Part(NamedTuple):
    """A part of a model, or all of it."""

    #: Takes ``images`` (N, C, H, W), normalised as the model's ``data_preprocessor`` does, and by their names
    #: ``carriers`` and ``inputs``; returns a tuple.
    module: nn.Module
    #: The names of what it returns.
    names: tuple[str, ...]
    #: What is left to do with that, in sentences.
    left: str
    #: What the model itself predicts for such images, by the same names; takes what ``module`` takes.
    predict: Callable[..., Sequence[Tensor]]
    #: What whoever reads the output needs to know.
    facts: dict[str, Any]
    #: The formats that can hold it; nothing where it is not known that one cannot.
    formats: tuple[str, ...] = ()
    #: Other inputs that ``module`` takes, such as thresholds, with the values that hold where none are given. The first
    #: dimension of one that is not a single number is open.
    inputs: Mapping[str, Tensor] = {}
    #: Of ``inside``, ``original`` and ``resized`` those that ``module`` takes, tensors of which the shape alone counts:
    #: (height, width) of the images without the padding of a batch; of the pictures before they were resized, in whose
    #: pixels it answers; and of what these were resized to, where that is not ``inside``.
    carriers: tuple[str, ...] = ()
    #: Values of ``inputs`` to compare with the model itself, beside those that hold where none are given.
    trial: Mapping[str, Tensor] = {}
    #: Compares what ``predict`` and the file return; where there is none, values are compared one by one.
    agree: Callable[[Sequence[Tensor], Sequence[Tensor]], Agreement] | None = None
    #: By what the images are enlarged that it is written with and compared at, for models that need large ones.
    enlarged: int = 1


def difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest difference of tensors of equal shapes, relative to the greatest value of each; nan if one is nan."""
    # Unlike max(), this does not pass over nan.
    return float(np.max([float((own - other).abs().max() / own.abs().max().clamp(min=1e-12))
                         for own, other in zip(expected, found, strict=True)]))


def known_class(part: Any, *names: str) -> bool:
    """Whether a part of a model is exactly of one of a library's classes, with its methods as they stand there."""
    kind = type(part)
    own = [name for name, value in vars(part).items() if callable(value) and hasattr(kind, name)]
    return kind.__name__ in names and kind.__module__.split('.')[0] in ('mmdet', 'mmseg', 'mmpretrain', 'mmcv',
                                                                        'focalnet_mm') and not own


def predicted(model: nn.Module, predict: Callable[[], Any], way_out: str) -> Any:
    """What a model predicts, or a sentence about why it cannot."""
    try:
        return predict()
    # Any layer of anybody's may fail.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [''])[0]
        raise ValueError(f'The {type(model).__name__} itself does not predict in PyTorch ({type(error).__name__}: '
                         f'{reason}): {way_out}.') from error
