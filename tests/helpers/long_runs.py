"""Trainings of a linear model in which everything draws random numbers, in a tenth of a second."""

import os
import random
import signal
import sys

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner

import focalnet_mm  # noqa: F401

#: Steps of an epoch.
STEPS = 4


@DATASETS.register_module(force=True)
class Points(BaseDataset):
    """Points, flipped and with noise of Python, NumPy and PyTorch; the named ones cannot be read."""

    METAINFO = dict(classes=('a', 'b'))  # noqa: RUF012

    def __init__(self, noise=True, damaged=(), **settings):
        self.noise, self.damaged = noise, damaged
        super().__init__(serialize_data=False, **settings)

    def load_data_list(self):
        return [dict(img_path=f'/pictures/{i}.jpg', number=i) for i in range(2 * STEPS)]

    def prepare_data(self, idx):
        number = self.get_data_info(idx)['number']
        LoadPoints()(number, self.damaged)
        point = torch.arange(8.) + number
        if self.noise:
            point = (point.flip(0) if random.random() < 0.5 else point) + np.random.rand() + torch.rand(8)
        return dict(inputs=point / 8, data_samples=Sample(self.get_data_info(idx)['img_path'], number % 2))


class LoadPoints:
    """The step of a pipeline that reads a file."""

    def __call__(self, number, damaged):
        assert number not in damaged, f'failed to load image: {number}'


class Sample:
    def __init__(self, img_path, label):
        self.img_path, self.label = img_path, label


@MODELS.register_module(force=True)
class Linear(BaseModel):
    """A norm, dropout and a layer; ``half`` computes in bfloat16, ``diverges`` is a step from which the loss is NaN."""

    def __init__(self, dropout=0.5, half=False, diverges=None, width=2, **settings):
        super().__init__(**settings)
        self.norm, self.layer = torch.nn.BatchNorm1d(8), torch.nn.Linear(8, width)
        self.dropout, self.half_, self.diverges = torch.nn.Dropout(dropout), half, diverges
        self.steps, self.masks = 0, []

    def forward(self, inputs, data_samples, mode='tensor'):
        dropped = self.dropout(self.norm(torch.stack(list(inputs))))
        with torch.autocast('cpu', torch.bfloat16, enabled=self.half_):
            scores = self.layer(dropped)
        if mode == 'predict':
            # As test-time augmentation may.
            torch.rand(1), random.random(), np.random.rand()
            return [dict(score=float(each)) for each in scores[:, 0]]
        self.steps += 1
        self.masks.append((dropped == 0).tolist())
        loss = torch.nn.functional.cross_entropy(scores.float(), torch.tensor([each.label for each in data_samples]))
        return dict(loss=loss * float('nan') if self.diverges and self.steps >= self.diverges else loss)


@METRICS.register_module(force=True)
class Scores(BaseMetric):
    """A metric that each validation moves."""

    def process(self, data_batch, data_samples):
        self.results += [sample['score'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(acc=abs(sum(results)))


class KilledError(BaseException):
    """In place of SIGKILL: nothing of ours may catch it for good."""


def killed_at_file(number, work_dir, **settings):
    """Train in a process that is killed at its so-manyth change of a file in the work dir; whether it came to that.

    A file that is opened for writing is left empty then, and one that is to be moved or removed stays.
    """
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = [number]

    def watch(event, arguments):
        changes = event in ('os.rename', 'os.remove') or (
            event == 'open' and isinstance(arguments[1], str) and 'r' not in arguments[1])
        if changes and any(name in str(arguments[0]) for name in ('.pth', 'last_checkpoint')):
            left[0] -= 1
            if left[0] == -1:
                if event == 'open':
                    os.close(os.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        long_run(work_dir, **settings).train()
    finally:
        os._exit(0)


class Kill(Hook):
    """Ends a process within a step, a validation or an epoch, or does something else there."""

    priority = 'HIGHEST'

    def __init__(self, step=None, validation=None, do=None):
        self.step, self.validation, self.do = step, validation, do

    def _end(self):
        if self.do is None:
            raise KilledError
        self.do()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.step:
            self._end()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.validation:
            self._end()


def long_run(work_dir, by_epoch=True, kind='LongRunHook', workers=0, accumulate=1, resume=False, epochs=3, ema=True,
             model=None, data=None, val=None, hook=None, kill=None, wrapper=None,
             maker=Runner, **settings):
    """A runner of 12 steps, with a validation and a checkpoint at every fourth, or at every fifth and third."""
    loader = dict(batch_size=2, num_workers=workers, persistent_workers=workers > 0)
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    # mmengine keeps the history of a name.
    name = f'{work_dir}_{random.SystemRandom().random()}'
    cfg = dict(
        model=dict(type='Linear', **(model or {})), work_dir=str(work_dir), experiment_name=name,
        train_dataloader=dict(
            dataset=dict(type='Points', **(data or {})), sampler=dict(type=sampler, shuffle=True), **loader),
        val_dataloader=dict(
            dataset=dict(type='Points', noise=False),
            sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)) | loader | (val or {}),
        val_cfg=dict(), val_evaluator=dict(type='Scores'),
        train_cfg=dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(
            by_epoch=False, max_iters=epochs * STEPS, val_interval=5),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=accumulate,
                           clip_grad=dict(max_norm=1.)),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=6)],
        default_hooks=dict(checkpoint={
            **dict(type=kind, by_epoch=by_epoch, interval=1 if by_epoch else 3, max_keep_ckpts=1, save_best='acc',
                   rule='greater'), **(hook or {})}),
        custom_hooks=[dict(type='EMAHook', momentum=0.1)] if ema else [], randomness=dict(seed=5), log_level='ERROR',
        resume=resume, **settings)
    # Each checkpoint holds the config, laid out.
    kept = dict(train_dataloader=dict(dataset=data)) if data else {}
    runner = maker(**cfg, cfg=Config(dict(kept, model_wrapper_cfg=wrapper) if wrapper else kept))
    if kill is not None:
        runner.register_hook(kill)
    return runner


def tensors(runner):
    """All that a training ends with: weights, averaged weights and the optimizer's state."""
    found = dict(runner.model.state_dict())
    for number, state in runner.optim_wrapper.state_dict()['state'].items():
        found |= {f'optimizer.{number}.{name}': torch.as_tensor(value) for name, value in state.items()}
    for hook in runner.hooks:
        if hasattr(hook, 'ema_model'):
            found |= {f'averaged.{name}': tensor for name, tensor in hook.ema_model.state_dict().items()}
    return {name: tensor.clone() for name, tensor in found.items()}


def different(first, second):
    """The names of tensors that are not equal, bit by bit."""
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


def files(work_dir):
    """The checkpoints in a work dir, and whatever else its name hides."""
    return sorted(path.name for path in work_dir.iterdir() if path.suffix == '.pth' or path.name.startswith('.'))
