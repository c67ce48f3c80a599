"""The command lines, run as a user runs them."""

import atexit
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.warm import Warm

ROOT = Path(__file__).parents[2]
SHAPES = 'configs/mmdet/maskrcnn_focalnet_t_shapes.py'
#: Whether every command shall run in a process of its own.
COLD = 'FOCALNET_TESTS_COLD' in os.environ
# A thinner model still, and workers that cost no start-up.
SMALL = ['model.backbone.depths=(1,1,1,1)', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
         'test_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
         'val_dataloader.persistent_workers=False', 'test_dataloader.persistent_workers=False',
         'default_hooks.logger.interval=1']


def run(*command, expect=0, cwd=ROOT, **environment):
    """Run a command that must succeed, or fail where ``expect`` is not 0; returns what it printed to both streams."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=540, check=False,
                          env={**os.environ, 'OMP_NUM_THREADS': '1', **environment})
    assert (done.returncode == 0) == (expect == 0), done.stdout[-4000:]
    return done.stdout


def tool(name, *arguments, cold=False, **kwargs):
    """Run a file of ``tools/``: in a fork of a process that has the libraries imported, or in one of its own."""
    start = [sys.executable]
    if not (cold or COLD):
        start = warm().command()
    return run(*start, ROOT / 'tools' / name, *arguments, **kwargs)


@functools.cache
def warm():
    """The process whose forks run commands; it starts with the first one."""
    process = Warm(ROOT)
    atexit.register(process.close)
    return process


def scalars(work_dir):
    """The logged values of the newest run in a work dir."""
    newest = max(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in newest.read_text().splitlines()]
