"""Trainings that are killed at random moments, and resumed: ``python -m tests.helpers.random_kills`` counts them.

Noise, flips, dropout, averaged weights and accumulated gradients are on. Each run is killed with SIGKILL, once, at a
moment of chance, its start and its writing of checkpoints included; what it ends with after it was resumed is compared
bit by bit with a run without a break.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.helpers.long_runs import different, files, long_run, tensors

KINDS = {'by epochs': dict(by_epoch=True, accumulate=3), 'by iterations': dict(by_epoch=False, accumulate=2)}


def begin(work_dir, end, **settings):
    """Train in a process of its own, which writes what it ends with; returns its id."""
    child = os.fork()
    if not child:
        status = 1
        try:
            torch.set_num_threads(1)
            runner = long_run(work_dir, epochs=6, **settings)
            runner.train()
            torch.save(tensors(runner), end)
            status = 0
        finally:
            os._exit(status)
    return child


def killed(kind, folder, after):
    """A run of a kind that is killed after so many seconds and resumed, beside nothing.

    Returns:
        Whether it was at work when it was killed, and what it ended with.
    """
    child = begin(folder / 'work', folder / 'end.pth', **KINDS[kind])
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    at_work = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if at_work:
        assert os.waitpid(begin(folder / 'work', folder / 'end.pth', resume=True, **KINDS[kind]), 0)[1] == 0
    return at_work, torch.load(folder / 'end.pth')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=20, help='of each kind (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    chance, wrong = random.Random(args.seed), 0
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            folder, started = Path(folder), time.monotonic()
            assert os.waitpid(begin(folder / 'work', folder / 'end.pth', **KINDS[kind]), 0)[1] == 0
            seconds, expected = time.monotonic() - started, torch.load(folder / 'end.pth')
            kept = files(folder / 'work')
        count = equal = 0
        while count < args.kills:
            with tempfile.TemporaryDirectory() as folder:
                at_work, found = killed(kind, Path(folder), chance.uniform(0, seconds))
                count += at_work
                equal += at_work and not different(found, expected) and files(Path(folder) / 'work') == kept
        wrong += count - equal
        print(f'| {kind} | {count} kills | {equal} ended bitwise equal, with the same files |', flush=True)
    sys.exit(wrong > 0)


if __name__ == '__main__':
    main()
