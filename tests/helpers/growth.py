"""Whether memory, open files and threads grow: ``python -m tests.helpers.growth`` trains and predicts, and prints them.

Three hundred steps of a classifier with a checkpoint every third, and five hundred predictions of a detector.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.hooks import Hook

from focalnet_mm.predict import Predictor
from focalnet_mm.run.build import build_model
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import mmdet
from tests.helpers.training import tiny_runner

STEPS, PREDICTIONS = 300, 500
#: What is looked at when caches are full.
_WARM = 5
_PAGE = os.sysconf('SC_PAGE_SIZE')


def now():
    """MiB of memory, open files, and threads of this process."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return round(pages * _PAGE / 2**20), len(os.listdir('/proc/self/fd')), threading.active_count()


class Watch(Hook):
    """Notes them after each epoch."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def after_train_epoch(self, runner):
        self.seen.append(now())


def of_training(folder):
    """What is seen after each of a hundred epochs."""
    runner = tiny_runner(folder, epochs=STEPS // 3, default_hooks=dict(checkpoint=dict(
        type='LongRunHook', max_keep_ckpts=1)))
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    assert runner.iter == STEPS
    return watch.seen


def of_predictions(folder):
    """What is seen after every fifth prediction."""
    (folder / 'config.py').write_text(mmdet.coco(folder / 'data'))
    model = build_model(load_config(str(folder / 'config.py')))
    torch.save(dict(state_dict=model.state_dict()), folder / 'x.pth')
    cv2.imwrite(str(folder / 'x.png'), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    predictor, seen = Predictor(load_config(str(folder / 'config.py')), str(folder / 'x.pth'), 'cpu'), []
    for i in range(PREDICTIONS):
        predictor.predict(folder / 'x.png')
        if i % _WARM == 0:
            seen.append(now())
    return seen


def main():
    grown = False
    for name, work in ((f'{STEPS} steps', of_training), (f'{PREDICTIONS} predictions', of_predictions)):
        with tempfile.TemporaryDirectory() as folder:
            seen = work(Path(folder))[_WARM:]
        columns = [f'{min(values)} to {max(values)}, {values[0]} first and {values[-1]} last' for values in zip(*seen)]
        print(f'| {name} | MiB: {columns[0]} | files: {columns[1]} | threads: {columns[2]} |', flush=True)
        grown |= seen[-1][0] > seen[0][0] * 1.05 or seen[-1][1] > seen[0][1] + 1 or seen[-1][2] > seen[0][2]
    sys.exit(grown)


if __name__ == '__main__':
    main()
