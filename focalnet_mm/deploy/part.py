"""What a file for another runtime holds of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ['TOLERANCE', 'Agreement', 'Part', 'compare', 'difference', 'known_class', 'predicted']

#: Largest difference from PyTorch, relative to the greatest value of an output.
TOLERANCE = 1e-4
# By what images are changed to see how much a model's own predictions hang on rounding, and up to what share of them a
# comparison tells anything.
_ROUNDING, _UNSTABLE = 1e-6, 0.1
# How often they are changed, at least before the model's own differences count, and at most.
_LEAST_DRAWS, _DRAWS = 3, 16


class Agreement(NamedTuple):
    """How what a runtime returns agrees with what the model predicts."""

    #: The largest difference that was found between what belongs together.
    difference: float
    #: Both in words, as ``397 of 400 objects found again``.
    words: str
    #: The share of single things, such as objects, that are the same.
    share: float = 1.0
    #: What the two may be where all differences are rounding.
    limits: tuple[float, float] = (TOLERANCE, 1.0)

    @property
    def holds(self) -> bool:
        """Whether it is the same but for rounding."""
        return self.difference <= self.limits[0] and self.share >= self.limits[1]


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
    #: Whether it chooses among nearly equal scores on its way, so that rounding may change all that follows.
    chooses: bool = False


def compare(part: Part, images: Tensor, given: Mapping[str, Tensor], found: Sequence[Tensor]) -> Agreement:
    """What a file returns beside what the model predicts.

    Where a model chooses among nearly equal scores, as one does before it is trained, rounding alone makes it choose
    others, with all that follows. So where the file differs the model is asked again about images that are changed in
    their last digits: the file must return what the model predicts for one of them, or may differ by twice what the
    model itself does then.

    Args:
        part: What the file holds.
        images: (N, C, H, W), normalised.
        given: The other inputs, by their names.
        found: What the file returned of them.
    """
    agree, expected = part.agree or _differences, part.predict(images, **given)
    agreed = agree(expected, found)
    if agreed.holds or not part.chooses:
        return agreed
    generator = torch.Generator().manual_seed(0)
    spread, missed, widened = 0.0, 0.0, agreed
    # Two scores that are as good as equal change places once in a while only.
    for drawn in range(1, _DRAWS + 1):
        changed = images * (1 + _ROUNDING * torch.randn(images.shape, generator=generator))
        own = part.predict(changed, **given)
        same, again = agree(own, found), agree(expected, own)
        if same.holds:
            return same._replace(words=f'{agreed.words}, but {same.words} once the images are changed by '
                                       f'{_ROUNDING:.0e}')
        spread, missed = max(spread, again.difference), max(missed, 1 - again.share)
        if max(spread, missed) > _UNSTABLE:
            widened = agreed
            continue
        most, least = agreed.limits
        widened = agreed._replace(
            limits=(max(most, 2 * spread), min(least, 1 - 2 * missed)),
            words=f'{agreed.words}; PyTorch itself comes to {1 - missed:.1%} and {spread:.1e}, once the images are '
                  f'changed by {_ROUNDING:.0e}')
        if drawn >= _LEAST_DRAWS and widened.holds:
            break
    return widened


def _differences(expected: Sequence[Tensor], found: Sequence[Tensor]) -> Agreement:
    """Compare value by value."""
    for own, other in zip(expected, found, strict=True):
        if own.shape != other.shape:
            return Agreement(float('nan'), f'an output has the shape {tuple(other.shape)} after the export, and '
                                           f'{tuple(own.shape)} in PyTorch')
    largest = difference(expected, found)
    return Agreement(largest, f'largest relative difference {largest:.1e}')


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
