"""A long run in two processes, which are stopped after a step and resumed; the argument is a folder."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.helpers.long_runs import Kill, different, long_run, tensors


def run(work_dir, **settings):
    """A run of them, as far as it comes."""
    runner = long_run(work_dir, launcher='pytorch', epochs=6, wrapper=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False), **settings)
    try:
        runner.train()
    except SystemExit as ended:
        print(f'rank {runner.rank} ended with {ended.code} after step {runner.iter + 1}', flush=True)
    return runner


def main(folder):
    dist.init_process_group('gloo')
    torch.set_num_threads(1)
    folder, rank = Path(folder), dist.get_rank()
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
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main(*sys.argv[1:])
