"""Batch, learning rate, length and sizes for somebody's data on somebody's machine, each with its reason."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from ..data.own import OwnData, Picture

__all__ = ['Machine', 'Reasoned', 'batch_size', 'crop_size', 'find_machine', 'image_size', 'learning_rate', 'passes']

# The GPUs that the published recipes were trained on.
_PUBLISHED_MEMORY = 32
# Below COCO's bound of small objects, 32² pixels, detectors find little.
_SMALL = 32
# Where the data has less pictures, training passes over it more often: 36,000 are 90 passes of 400.
_SEEN = 36_000


_Value = TypeVar('_Value')


@dataclass(frozen=True)
class Reasoned(Generic[_Value]):
    """A value, and why it is so in half a line."""

    value: _Value
    why: str


@dataclass(frozen=True)
class Machine:
    """What there is to train on.

    Attributes:
        gpus: How many.
        memory: Of the smallest, in GiB.
        cpus: Processor cores that this process may use.
    """

    gpus: int
    memory: float
    cpus: int

    def __str__(self) -> str:
        cores = f'{self.cpus} CPU core{"s" if self.cpus > 1 else ""}'
        if not self.gpus:
            return f'no GPU, {cores}'
        return f'{self.gpus} GPU{"s" if self.gpus > 1 else ""} of {self.memory:.0f} GiB, {cores}'


def find_machine() -> Machine:
    """Look at the machine that this runs on."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = min((torch.cuda.get_device_properties(i).total_memory for i in range(gpus)), default=0) / 2**30
    return Machine(gpus, memory, cpus)


def batch_size(published: int, area: float, machine: Machine, pictures: int, given: int | None = None,
               on_cpu: int = 2, least: int = 1) -> Reasoned[int]:
    """Pictures a GPU and step.

    Args:
        published: That of the recipe, on GPUs of 32 GiB.
        area: Pixels of a picture as a share of the recipe's.
        machine: What there is.
        pictures: Number of training pictures.
        given: What the user asks for.
        on_cpu: The most without a GPU.
        least: What batch norms need.

    Returns:
        A power of two, no more than leaves 4 steps to a pass.
    """
    if given is not None:
        return Reasoned(given, 'as asked for')
    enough = max(least, pictures // (4 * max(1, machine.gpus)))
    if not machine.gpus:
        return Reasoned(max(least, _power_of_two(min(on_cpu, published, enough))), 'no GPU was found')
    fits = published * machine.memory / _PUBLISHED_MEMORY / area
    value = max(least, _power_of_two(min(fits, 8 * published, enough)))
    return Reasoned(value, f'a GPU; {machine}: the recipe has {published} on {_PUBLISHED_MEMORY} GiB')


def learning_rate(rate: float, published: int, batch: int, given: float | None = None) -> Reasoned[float]:
    """The learning rate for a batch, by the rule of ``auto_scale_lr``: proportional to the batch.

    Args:
        rate: That of the recipe.
        published: The batch that it was made for, over all GPUs.
        batch: The batch over all GPUs.
        given: What the user asks for.
    """
    if given is not None:
        return Reasoned(given, 'as asked for')
    return Reasoned(float(f'{rate * batch / published:.3g}'), f'{rate:g} for a batch of {published}, scaled to {batch}')


def passes(pictures: int, whole: bool = False) -> Reasoned[int]:
    """How often training passes over the data.

    Args:
        pictures: Number of training pictures.
        whole: Whether heads are trained already too, and not the backbone alone.
    """
    seen, most = (_SEEN // 3, 50) if whole else (_SEEN, 150)
    value = max(12, min(most, round(seen / max(1, pictures))))
    heads = 'trained' if whole else 'new'
    return Reasoned(value, f'{pictures} pictures for {heads} heads: fewer pictures, more passes')


def image_size(data: OwnData, least: int = 0) -> Reasoned[tuple[int, int]]:
    """The (long, short) side in pixels that pictures are resized to, so that small objects are seen.

    The short side is such that nine in ten objects have at least 32 pixels a side, from 480 to 800 as in the recipe,
    up to 1200 where objects are tiny, and at most twice that of the pictures.

    Args:
        data: The data, whose pictures have sizes.
        least: The least short side that the model takes.
    """
    pictures = [picture for picture in data.pictures if picture.height and picture.width]
    if not pictures:
        return Reasoned((1333, 800), "the recipe's")
    short = float(np.median([min(picture.height, picture.width) for picture in pictures]))
    sides = _object_sides(pictures)
    tenth = float(np.percentile(sides, 10)) if sides else short
    wanted = short * _SMALL / max(tenth, 1e-6)
    side = _round(min(max(wanted, 480), 800 if tenth * 800 / short >= _SMALL / 2 else 1200, 2 * short))
    side = max(side, least)
    ratio = float(np.percentile([max(picture.height, picture.width) / min(picture.height, picture.width)
                                 for picture in pictures], 95))
    long = max(side, int(side * min(max(ratio, 1.0), 5 / 3)))
    why = (f'short side of pictures {short:.0f} px, of the smallest tenth of objects {tenth:.0f} px' if sides
           else f'short side of pictures {short:.0f} px')
    return Reasoned((long, side), why)


def crop_size(data: OwnData, published: int) -> Reasoned[int]:
    """The side in pixels of the square that segmenters are trained on.

    Args:
        data: The data.
        published: That of the recipe.
    """
    shorts = [min(picture.height, picture.width) for picture in data.pictures if picture.height and picture.width]
    short = float(np.median(shorts)) if shorts else published
    if 2 * short >= published:
        return Reasoned(published, "the recipe's")
    return Reasoned(_round(2 * short), f'twice the short side of the pictures, {short:.0f} px')


def _object_sides(pictures: Sequence[Picture]) -> list[float]:
    """Roots of the areas of all boxes that have one, in pixels."""
    boxes = [each.box for picture in pictures for each in picture.annotations if not each.crowd]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes if right > left and bottom > top]
    return [math.sqrt(area) for area in areas if math.isfinite(area)]


def _round(side: float) -> int:
    """Down to a multiple of 32, the stride of the last stage."""
    return max(32, int(side / 32) * 32)


def _power_of_two(value: float) -> int:
    return 2 ** int(math.log2(value)) if value >= 1 else 1
