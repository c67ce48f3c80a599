"""Whether a model learns a few pictures by heart."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import Progress

from ..report import Finding

__all__ = ['MOST_STEPS', 'first_batches', 'of_losses', 'overfit']

#: Steps where nobody says how many, as far as they take no longer than a minute.
MOST_STEPS = 100
_SECONDS = 60.0
_BATCHES = 2
# Of the steps: during which the rate rises, and over which losses are averaged.
_WARM_UP = 5
_SHARE = 10
# A loss that falls less has not been learned from.
_FALL = 0.02
_FEWEST = 10


def first_batches(settings: Mapping[str, Any], dataset: Any, most: int | None = None) -> list[Any]:
    """The first two batches of a data loader, as the runner's own would give them.

    Args:
        settings: Settings of the data loader.
        dataset: The data set, which was built.
        most: How many pictures a batch has at the most.

    Returns:
        The batches; fewer where the data set has no more.
    """
    settings = dict(copy.deepcopy({key: value for key, value in settings.items() if key != 'dataset'}), dataset=dataset,
                    num_workers=0, persistent_workers=False)
    settings.pop('prefetch_factor', None)
    size = int(settings.get('batch_size') or 1)
    settings['batch_size'] = max(1, min(size, most or size, len(dataset)))
    return list(itertools.islice(Runner.build_dataloader(settings, seed=0), _BATCHES))


def overfit(model: BaseModel, cfg: Config, batches: Sequence[Any], steps: int | None = None) -> list[float]:
    """Train a model on the same batches in turn, with the config's optimizer and a progress bar.

    The learning rate rises to the config's during the first fifth of the steps, and then stays.

    Args:
        model: The model, with its weights, on the device; changed in place.
        cfg: The config.
        batches: The batches, as the data loader gives them; left as they are.
        steps: How many steps; by default up to :data:`MOST_STEPS` within a minute.

    Returns:
        The loss of each step. The last may be no finite number, since training ends there.
    """
    settings = copy.deepcopy(cfg.optim_wrapper)
    settings.pop('accumulative_counts', None)
    optimizer = build_optim_wrapper(model, settings)
    set_rates = _rates(optimizer, max(1, (steps or MOST_STEPS) // _WARM_UP))
    model.train()
    losses: list[float] = []
    started = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for i in progress.track(range(steps or MOST_STEPS), description='two batches by heart'):
            set_rates(i)
            # Preprocessors pad annotations in place.
            log = model.train_step(copy.deepcopy(batches[i % len(batches)]), optim_wrapper=optimizer)
            losses.append(log['loss'].item())
            if not math.isfinite(losses[-1]) or (steps is None and time.monotonic() - started > _SECONDS):
                break
    return losses


def _rates(optimizer: Any, warm_up: int) -> Callable[[int], None]:
    """What sets the learning rate of a step; nothing for several optimizers, whose rates are their own."""
    if not isinstance(optimizer, OptimWrapper):
        return lambda step: None
    groups = [(group, group['lr']) for group in optimizer.optimizer.param_groups]

    def set_rates(step: int) -> None:
        for group, rate in groups:
            group['lr'] = rate * min(1.0, (step + 1) / warm_up)

    return set_rates


def of_losses(losses: Sequence[float], pictures: int) -> Iterator[Finding]:
    """What the losses of :func:`overfit` say.

    Args:
        losses: Of each step.
        pictures: How many different pictures they are of.
    """
    if not losses:
        return
    if not math.isfinite(losses[-1]):
        yield Finding('warning', f'The loss is {losses[-1]} in step {len(losses)} of training on {pictures} pictures '
                      f'alone, after {losses[0]:.4g} in the first: lower the learning rate, and look at the '
                      'annotations of these pictures.')
        return
    if not any(losses):
        yield Finding('warning', f'The loss is 0 from the first step on {pictures} pictures on: nothing is learned; '
                      'look at their annotations below, and at the number of classes.')
        return
    # A round of the batches at least, since one may be harder than the other.
    count = min(len(losses), max(_BATCHES, len(losses) // _SHARE))
    first, last = sum(losses[:count]) / count, sum(losses[-count:]) / count
    told = (f'Training on {pictures} pictures alone took the loss from {first:.4g} (the mean of the first {count} '
            f'steps) to {last:.4g} (of the last {count}) in {len(losses)} steps')
    if len(losses) < _FEWEST:
        yield Finding('note', f'{told}, which are too few to tell whether it learns.')
        return
    if last > first * (1 - _FALL):
        yield Finding('warning', f'{told}: it does not fall, although the model could learn so few by heart; look at '
                      'the learning rate, and at what the network is given below.')
    else:
        yield Finding('passed', f'{told}.')
