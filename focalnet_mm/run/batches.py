"""Batches that begin where a run stopped, and whose augmentation depends on where in the run they stand.

PyTorch's workers go on drawing random numbers from batch to batch. A run that is resumed would have to load all that it
has seen to draw the same ones, and has others with another number of workers. So where there are workers, the random
states are set before each item, to what the run's seed, the rank, the number of the step and the place in the batch
say. Without workers the process that trains draws them, whose random states are in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader, IterableDataset

from .randomness import same_random_states, seed_for_data

__all__ = ['Draws', 'EndlessBatches', 'SeededBatches', 'begin_anew', 'seed_batches']

_END = object()


class Draws(list):
    """The indices of a batch, at each of which the random states are set as long as its item is made."""

    def __init__(self, indices: Iterable[Any], where: tuple[int, ...]) -> None:
        super().__init__(indices)
        self._where = where

    def __iter__(self) -> Iterator[Any]:
        # Without workers this is the process that trains.
        with same_random_states(device=False):
            for place, index in enumerate(super().__iter__()):
                seed_for_data(*self._where, place)
                yield index

    def __reduce__(self) -> tuple:
        return type(self), (list(super().__iter__()), self._where)


class SeededBatches:
    """A batch sampler of the same batches, whose augmentation is set by where they stand.

    Args:
        batches: The batch sampler.
        seed: The seed of the run, from 0 up; ``None`` leaves the augmentation as it is.
        rank: The rank of the process.
        step: Gives the number of the step that the next batch is for, when an epoch begins.
    """

    def __init__(self, batches: Any, seed: int | None, rank: int, step: Callable[[], int]) -> None:
        self._batches, self._step = batches, step
        self._seed, self._rank = seed, rank
        self._begun: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        step, begun = self._step(), self._begun
        self._begun = None
        for indices in iter(self._batches) if begun is None else begun:
            yield indices if self._seed is None else Draws(indices, (self._seed, self._rank, step))
            step += 1

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        # The batch size, and the sampler, whose epoch mmengine sets.
        if name.startswith('__') or '_batches' not in vars(self):
            raise AttributeError(name)
        return getattr(self._batches, name)

    def pass_over(self, count: int, set_epoch: Callable[[int], None] = lambda _: None) -> int:
        """Let the next epoch begin after so many batches.

        Args:
            count: How many batches are over, of as many epochs as there were.
            set_epoch: Called with 1, 2 and so on where an epoch ends among them.

        Returns:
            How many epochs ended.
        """
        ended = 0
        begun = iter(self._batches)
        for _ in range(count):
            if next(begun, _END) is _END:
                ended += 1
                set_epoch(ended)
                begun = iter(self._batches)
                next(begun, None)
        self._begun = begun
        return ended


class EndlessBatches(_InfiniteDataloaderIterator):
    """What an iteration-based loop takes its batches from, after those that are over.

    mmengine's loop takes these too, and throws them away: here they are ``None``.

    Args:
        loader: The data loader.
        epoch: How often it has come to its end.
        over: How many batches are over.
    """

    def __init__(self, loader: DataLoader, epoch: int, over: int) -> None:
        super().__init__(loader)
        # The forks begin at the first batch, where a number would be drawn beside those of the run before.
        begun = vars(self)['_iterator']
        self._iterator: Any = iter(loader) if begun is None else begun
        self._epoch = epoch
        # The forks ask for them by a method of its own.
        self._over = 0 if hasattr(_InfiniteDataloaderIterator, 'skip_iter') else over

    def __next__(self) -> Any:
        if self._over:
            self._over -= 1
            return None
        return super().__next__()

    def skip_iter(self, num_iters: int) -> None:
        """They are skipped already."""


class _AsItIs:
    """A value in a config that mmengine copies, of which it gets the value itself."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __deepcopy__(self, _: Any) -> Any:
        return self._value


def begin_anew(runner: Runner) -> None:
    """Let an iteration-based loop have a data loader that has not begun, with the data set that it has.

    Args:
        runner: The runner, whose loop was built of a config.
    """
    loop, settings = runner.train_loop, dict(runner._train_dataloader.items())
    # The data set is of that many batches already.
    settings.pop('num_batch_per_epoch', None)
    # It may be large, or hold what cannot be copied, such as a database that is open.
    settings['dataset'] = _AsItIs(loop.dataloader.dataset)
    loop.dataloader = runner.build_dataloader(
        settings, seed=runner.seed, diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False))


def seed_batches(loader: DataLoader, seed: int | None, rank: int, step: Callable[[], int]) -> SeededBatches | None:
    """Let the augmentation of a data loader depend on the step alone.

    Args:
        loader: The data loader, changed in place, which begins anew.
        seed: As :class:`SeededBatches` takes them, ``rank`` and ``step`` too.

    Returns:
        Its batch sampler; ``None`` where it has none, which the log tells.
    """
    # What data sets of that kind give does not depend on the indices.
    if getattr(loader, 'batch_sampler', None) is None or isinstance(loader.dataset, IterableDataset):
        print_log('The training data comes without a batch sampler: a resumed run will see other augmentation.',
                  logger='current')
        return None
    batches = SeededBatches(loader.batch_sampler, seed, rank, step)
    # DataLoader lets nobody change it, lest its sampler had begun.
    object.__setattr__(loader, 'batch_sampler', batches)
    # Workers that stay would go on with the old one.
    loader._iterator = None
    if seed is not None:
        # It would draw the seed of its workers from the model's random numbers.
        loader.generator = torch.Generator().manual_seed(seed)
    return batches
