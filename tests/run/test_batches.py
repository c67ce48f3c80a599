"""Batches that depend on their place in the run alone."""

import copy
import random
import threading

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from focalnet_mm.run.batches import Draws, begin_anew, seed_batches
from focalnet_mm.run.randomness import random_states, seed_everything, set_random_states
from focalnet_mm.weights.pickles import load_pickle
from tests.helpers.long_runs import long_run


class Noise(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(1).item()], dtype=torch.float64)


class Stream(IterableDataset):
    """What comes next, whatever index is asked for."""

    def __iter__(self):
        return iter(range(6))


def draw():
    return [random.random(), random.gauss(0, 1), *np.random.rand(2), np.random.randn(), *torch.rand(2).tolist()]


def batches(count, over=0, workers=0, seed=1, rank=0, sampler=DefaultSampler, first=0):
    """So many batches after those that are over."""
    step = [first]
    loader = DataLoader(Noise(), 2, sampler=sampler(Noise(), seed=3), num_workers=workers)
    seeded = seed_batches(loader, seed, rank, lambda: step[0])
    seeded.pass_over(over, loader.sampler.set_epoch)
    step[0] += over
    found = []
    while len(found) < count:
        for batch in loader:
            found.append(batch)
            step[0] += 1
            if len(found) == count:
                break
        loader.sampler.set_epoch(loader.sampler.epoch + 1 if sampler is DefaultSampler else 0)
    return torch.stack(found)


class TestSeededBatches:

    def test_indices_are_the_sampler_s(self):
        expected = [index for epoch in range(2) for index in _of_epoch(epoch)]
        assert batches(6)[..., 0].flatten().tolist() == expected

    @pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
    @pytest.mark.parametrize('over', [1, 3, 4])
    def test_what_is_over_changes_nothing(self, sampler, over):
        assert torch.equal(batches(6, sampler=sampler)[over:], batches(6 - over, over, sampler=sampler))

    def test_nothing_is_drawn_twice(self):
        found = batches(6)[..., 1:].flatten(0, 1)
        others = batches(6, rank=1)[..., 1:].flatten(0, 1), batches(6, seed=2)[..., 1:].flatten(0, 1)
        drawn = torch.cat([found, *others])
        assert all(len(column.unique()) == len(drawn) for column in drawn.T)

    @pytest.mark.slow
    def test_workers_change_nothing(self):
        assert torch.equal(batches(5, workers=2), batches(5))

    def test_the_model_s_random_numbers_stay(self):
        seed_everything(1)
        expected = draw()
        seed_everything(1)
        batches(3)
        assert draw() == expected

    def test_a_batch_is_sent_to_a_worker(self):
        batch = copy.copy(Draws([3, 1], (1, 2)))
        assert (list(batch), batch._where) == ([3, 1], (1, 2))

    def test_the_sampler_is_found_through_it(self):
        loader = DataLoader(Noise(), batch_sampler=BatchSampler(DefaultSampler(Noise()), 2, False))
        seeded = seed_batches(loader, 0, 0, int)
        assert isinstance(seeded.sampler, DefaultSampler)
        assert (seeded.batch_size, len(seeded), len(loader)) == (2, 3, 3)
        with pytest.raises(AttributeError):
            seeded.nothing  # noqa: B018

    @pytest.mark.slow
    def test_workers_that_stay_and_have_begun(self):
        loader = DataLoader(Noise(), 2, num_workers=1, persistent_workers=True)
        next(iter(loader))
        seed_batches(loader, 0, 0, int).pass_over(1)
        seeded = [batch.tolist() for batch in loader]
        assert [batch[0][0] for batch in seeded] == [2, 4]
        fresh = DataLoader(Noise(), 2)
        seed_batches(fresh, 0, 0, int).pass_over(1)
        assert seeded == [batch.tolist() for batch in fresh]

    @pytest.mark.parametrize('loader', [DataLoader(Noise(), batch_size=None), DataLoader(Stream(), 2)])
    def test_no_batches(self, loader, log):
        assert seed_batches(loader, 0, 0, int) is None
        assert 'a resumed run will see other augmentation' in log[-1]


@pytest.mark.parametrize('batches_of_epoch', [None, 2])
def test_a_new_loader_has_the_same_data_set(batches_of_epoch, tmp_path):
    """mmengine copies what is in a config, and some data sets cannot be copied."""
    runner = long_run(tmp_path, by_epoch=False)
    if batches_of_epoch:
        runner._train_dataloader['num_batch_per_epoch'] = batches_of_epoch
    before = runner.train_loop.dataloader
    before.dataset.database = threading.Lock()
    with pytest.raises((TypeError, RecursionError)):
        copy.deepcopy(before.dataset)
    begin_anew(runner)
    after = runner.train_dataloader
    assert after is not before
    assert after.dataset is before.dataset
    assert len(after) == len(before)
    assert list(map(list, zip(range(3), after.batch_sampler))) == list(map(list, zip(range(3), before.batch_sampler)))


def _of_epoch(epoch):
    sampler = DefaultSampler(Noise(), seed=3)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_random_states_in_a_file(tmp_path):
    """They go into a checkpoint and come back through the reader of checkpoints."""
    random.gauss(0, 1), np.random.randn()
    torch.save(random_states(), tmp_path / 'x.pth')
    expected = draw()
    seed_everything(4)
    assert draw() != expected
    set_random_states(load_pickle(tmp_path / 'x.pth'))
    assert draw() == expected
