"""Several processes: what they draw, and what becomes of the others when one dies."""

import os
import random
import resource
import signal

import numpy as np
import pytest
import torch
from mmengine.runner import FlexibleRunner
from torch.distributed.fsdp import FullyShardedDataParallel

from focalnet_mm.cli.options import Parser, in_one_sentence
from focalnet_mm.weights import read_model
from tests.helpers import rank_parity
from tests.helpers.forked import two_ranks
from tests.helpers.long_runs import STEPS, Kill, long_run
from tests.helpers.training import tiny_runner

WRAPPED = dict(launcher='pytorch', wrapper=dict(type='MMDistributedDataParallel', device_ids=None,
                                                broadcast_buffers=False))


def train(work_dir, step, do, rank, **settings):
    """A training as the command runs it, in which one of two processes does something after a step."""
    with in_one_sentence(Parser(prog='train'), (Exception,), None, lambda: True):
        long_run(work_dir, kill=Kill(step=step, do=do if rank == 1 else lambda: None), **WRAPPED, **settings).train()


def fail():
    raise RuntimeError('the hook of one process has failed')


@pytest.mark.slow
@pytest.mark.parametrize(('do', 'status', 'told'), [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL, ''),
    (fail, 1, 'train, rank 1 of 2: RuntimeError: the hook of one process has failed')])
def test_a_rank_that_dies_ends_the_other(do, status, told, tmp_path):
    """Within a minute, and each says who it is and why."""
    (first, survivor), (found, victim) = two_ranks(lambda rank: train(tmp_path / 'work', 3, do, rank), tmp_path)
    assert (first, found) == (1, status)
    assert 'train, rank 0 of 2: another process has ended, whose own message tells why (' in survivor
    assert 'Traceback' not in survivor
    assert told in victim


@pytest.mark.slow
def test_a_disk_that_is_full_for_one_rank(tmp_path):
    """The one that writes cannot: both go on, and end with the sentence."""
    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def work(rank):
        # The first step of the last epoch: two processes share its steps.
        train(tmp_path / 'work', STEPS + 1, full, 1 - rank)

    for rank, (status, told) in enumerate(two_ranks(work, tmp_path)):
        assert status == 1, told
        assert f'train, rank {rank} of 2: The training ended, and its last checkpoint is missing:' in told


@pytest.mark.slow
def test_ranks_draw_differently(tmp_path):
    """Augmentation, stochastic depth and the noise of denoising queries draw of these."""
    def work(rank):
        drawn = []
        train(tmp_path / 'work', 3, lambda: None, rank, epochs=1)
        drawn += [random.random(), np.random.rand(), torch.rand(1).item(), torch.randint(1 << 30, (1,)).item()]
        (tmp_path / f'drawn_{rank}').write_text('\n'.join(map(repr, drawn)))

    assert [status for status, _ in two_ranks(work, tmp_path)] == [0, 0]
    first, second = ((tmp_path / f'drawn_{rank}').read_text().split() for rank in range(2))
    assert len(first) == 4
    assert all(one != other for one, other in zip(first, second, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(('method', 'differing'), [('ATSS', set()), ('Mask R-CNN', {'loss_mask'})])
def test_two_ranks_are_one_with_twice_the_batch(method, differing, monkeypatch):
    """But for losses that each process divides by a count of its own; `tests.helpers.rank_parity` runs all methods."""
    rank_parity.alike(monkeypatch.setattr)
    apart, far, rounding = rank_parity.both(rank_parity.METHODS[method], steps=2)
    assert set(apart) == differing
    assert rounding < 1e-5
    assert (far < 1e-5) == (not differing)


POLICY = 'torch.distributed.fsdp.wrap.size_based_auto_wrap_policy'
FULL = dict(state_dict_type='FULL_STATE_DICT', state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),
            optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True))


@pytest.mark.slow
def test_sharded_parameters(tmp_path):
    """mmengine's FSDPStrategy: what it saves is a checkpoint like any other, with the parameters put together."""
    def work(rank):
        wrapper = dict(type='MMFullyShardedDataParallel', use_orig_params=True, device_id=torch.device('cpu'),
                       auto_wrap_policy=dict(type=POLICY, min_num_params=1000))
        runner = tiny_runner(
            tmp_path / 'work', epochs=1, kind=FlexibleRunner, launcher='pytorch',
            strategy=dict(type='FSDPStrategy', model_wrapper=wrapper, state_dict_cfg=FULL),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
            default_hooks=dict(checkpoint=dict(type='LongRunHook')))
        runner.train()
        assert not all(parameter.numel() for parameter in runner.model.parameters())
        with FullyShardedDataParallel.summon_full_params(runner.model, writeback=False):
            torch.save({name: parameter.detach().clone() for name, parameter in runner.model.named_parameters()},
                       tmp_path / f'{rank}.pth')

    assert [status for status, _ in two_ranks(work, tmp_path)] == [0, 0]
    saved, parameters = (read_model(str(path))['state_dict'] for path in (
        tmp_path / 'work' / 'epoch_1.pth', tmp_path / '0.pth'))
    whole = tiny_runner(tmp_path / 'whole').model
    whole.load_state_dict(saved, strict=True)
    assert set(parameters) == {name for name, _ in whole.named_parameters()}
    assert all(torch.equal(saved[name], parameter) for name, parameter in parameters.items())
