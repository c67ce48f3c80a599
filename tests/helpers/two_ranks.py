"""A long run in two processes, which are stopped after a step and resumed."""

import json
import logging
import os
import resource
import signal
from types import SimpleNamespace

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from torch.nn.parallel import DistributedDataParallel

from focalnet_mm.run import long_run as long_runs
from focalnet_mm.run.states import collect_state
from tests.helpers.long_runs import Kill, Scores, different, long_run, tensors


def run(work_dir, **settings):
    """A run of them, as far as it comes."""
    runner = long_run(work_dir, launcher='pytorch', epochs=6, wrapper=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False), **settings)
    try:
        runner.train()
    except SystemExit as ended:
        print(f'rank {runner.rank} ended with {ended.code} after step {runner.iter + 1}', flush=True)
    return runner


class Odd(Kill):
    """What one process alone meets: a disk that is full in the second epoch, and a loss in the fourth."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if dist.get_rank() == 0:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            full = runner.epoch == 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if full else limits[1], limits[1]))
            if runner.iter == 7:
                outputs['loss'] = torch.tensor(float('nan'))


def odd_run(work_dir):
    """One whose processes meet what others do not, with seven pictures to validate on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    scores = iter([1., 3., 2., 2., 2., 2.])
    Scores.compute_metrics = lambda *_: dict(acc=next(scores))
    long_runs._AGREE = 2
    val = dict(batch_size=1, dataset=dict(indices=7, noise=False, type='Points'))
    runner = run(work_dir, kill=Odd(), val=val)
    print(f'rank {dist.get_rank()} went on to step {runner.iter}', flush=True)


def gradients_of_both():
    """Of parameters that only one process has used."""
    model = torch.nn.ParameterList([torch.zeros(1), torch.zeros(1)])
    model[dist.get_rank()].grad = torch.ones(1)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 1.), accumulative_counts=2)
    wrapper._inner_count = 1
    runner = SimpleNamespace(model=DistributedDataParallel(model), optim_wrapper=wrapper, train_dataloader=None,
                             hooks=[], logger=logging.getLogger('parts'))
    assert collect_state(runner, 'x', 0, False)['gradients'] == {'0': torch.tensor([0.5]), '1': torch.tensor([0.5])}
    # As where each process has a part of it.
    runner.model = model
    assert collect_state(runner, 'x', 0, False)['gradients'] == {}


def main(folder, rank):
    """What each of them does."""
    undisturbed = run(folder / 'a')
    (folder / f'masks_{rank}.json').write_text(json.dumps(undisturbed.model.module.masks))

    def stop():
        # Only one of them gets the signal.
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    run(folder / 'b', kill=Kill(step=3, do=stop))
    resumed = run(folder / 'b', resume=True)
    # Each has statistics of its own, of which checkpoints hold those of the first.
    found = [name for name in different(tensors(resumed), tensors(undisturbed)) if '.running_' not in name]
    print(f'rank {rank}: {len(found)} differ', flush=True)
    gradients_of_both()
    odd_run(folder / 'c')
