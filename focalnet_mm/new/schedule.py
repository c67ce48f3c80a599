"""Batch, rate, sizes and length of a config, each with its reason."""

from __future__ import annotations

import math

from ..run.config import type_name
from .literals import Code, assignment
from .plan import Plan
from .sizing import Reasoned, batch_size, crop_size, image_size, learning_rate, passes
from .start import start

__all__ = ['FEW', 'kept', 'schedule', 'settled']

#: Fewer training pictures than these are made to differ more.
FEW = 2000
# A rate for a new head on a trained backbone, and the batch that it is for; the recipe of classifiers is from scratch.
_FINE_TUNING = (1e-4, 64)
# Validations, and checkpoints, in the whole of a training.
_VALIDATIONS = 10


def kept(plan: Plan) -> list[str]:
    """Of a base of one's own, the lines of what was asked to be other."""
    published, rate = plan.base.train_dataloader.batch_size, plan.base.optim_wrapper.optimizer.lr
    lines = []
    if plan.batch is not None:
        lines.append(assignment('batch_size', plan.batch, 'as asked for'))
    if plan.batch is not None or plan.rate is not None:
        lines.append(_said('lr', learning_rate(rate, published, plan.batch or published, plan.rate)))
    return lines


def settled(plan: Plan) -> list[str]:
    """Of a shipped base, the lines of all values that depend on data and machine."""
    batch = _batch(plan)
    workers = min(4, plan.machine.cpus)
    return [*_sizes(plan), _said('batch_size', batch),
            assignment('num_workers', workers, 'processes that load pictures, as there are CPU cores'),
            _said('lr', _rate(plan)), *_length(plan)]


def schedule(plan: Plan) -> list[str]:
    """The lines that use those values."""
    rated = 'lr' if not plan.keep or plan.batch is not None or plan.rate is not None else ''
    wrapper: dict = dict(optimizer=dict(lr=Code('lr'))) if rated else {}
    if plan.keep:
        return [assignment('optim_wrapper', wrapper)] if wrapper else []
    lines = []
    if type_name(plan.base.optim_wrapper) == 'AmpOptimWrapper' and not plan.machine.gpus:
        lines.append("# No GPU was found: write 'AmpOptimWrapper' on one, for mixed precision.")
        wrapper = dict(type='OptimWrapper', **wrapper)
    by_epoch = plan.library != 'mmseg'
    loop = (dict(type='EpochBasedTrainLoop', max_epochs=Code('max_epochs')) if by_epoch
            else dict(type='IterBasedTrainLoop', max_iters=Code('max_iters')))
    cosine = (dict(by_epoch=True, end=Code('max_epochs'), convert_to_iter_based=True) if by_epoch
              else dict(by_epoch=False, end=Code('max_iters')))
    total = Code(f'{plan.machine.gpus} * batch_size' if plan.machine.gpus > 1 else 'batch_size')
    return [*lines, assignment('optim_wrapper', wrapper),
            assignment('train_cfg', dict(_delete_=True, **loop, val_interval=Code('val_interval'))),
            assignment('param_scheduler', [
                dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=Code('warmup')),
                dict(type='CosineAnnealingLR', begin=0, **cosine)]),
            assignment('auto_scale_lr', dict(enable=False, base_batch_size=total)),
            assignment('default_hooks', dict(
                logger=dict(interval=min(50, _steps(plan))),
                checkpoint=dict(by_epoch=by_epoch, interval=Code('val_interval'), max_keep_ckpts=3))),
            assignment('log_processor', dict(by_epoch=by_epoch)),
            assignment('randomness', dict(seed=plan.seed))]


def _said(name: str, value: Reasoned) -> str:
    return assignment(name, value.value, value.why)


def _sizes(plan: Plan) -> list[str]:
    few = plan.pictures < FEW
    if plan.library == 'mmseg':
        side = _crop(plan)
        return [assignment('crop_size', (side.value, side.value), side.why),
                assignment('image_size', Code('(4 * crop_size[0], crop_size[0])'), 'long and short side at most'),
                assignment('scale_range', (0.5, 2.0), "of image_size, in training: the recipe's")]
    if plan.library == 'mmpretrain':
        return []
    size = _image(plan)
    return [_said('image_size', size),
            assignment('scale_range', (0.5, 1.5) if few else (0.75, 1.25),
                       f'of image_size, in training: {"few" if few else "many"} pictures')]


def _crop(plan: Plan) -> Reasoned[int]:
    return crop_size(plan.data, plan.base.model.data_preprocessor.size[0])


def _image(plan: Plan) -> Reasoned[tuple[int, int]]:
    # A DETR picks its queries among the positions of a picture, also of one that is scaled to half.
    size = image_size(plan.data, least=480 if plan.base.model.get('num_queries') else 0)
    if not plan.fixed_size:
        return size
    published = plan.base.model.data_preprocessor.batch_augments[0].size[0]
    side = min(published, math.ceil(max(size.value) / 32) * 32)
    return Reasoned((side, side), f'{size.why}; square, since all pictures are padded to it')


def _batch(plan: Plan) -> Reasoned[int]:
    published = plan.base.train_dataloader.batch_size
    if plan.library == 'mmpretrain':
        return batch_size(published, 1, plan.machine, plan.pictures, plan.batch, on_cpu=16)
    if plan.library == 'mmseg':
        # The pooled context of one picture is one value a channel, which batch norms cannot take.
        share = (_crop(plan).value / plan.base.model.data_preprocessor.size[0]) ** 2
        return batch_size(published, share, plan.machine, plan.pictures, plan.batch, least=2)
    long, short = _image(plan).value
    area = plan.base.model.data_preprocessor.batch_augments[0].size[0] ** 2 if plan.fixed_size else 1333 * 800
    return batch_size(published, long * short / area, plan.machine, plan.pictures, plan.batch)


def _rate(plan: Plan) -> Reasoned[float]:
    total = _batch(plan).value * max(1, plan.machine.gpus)
    if plan.library == 'mmpretrain' and start(plan).trained:
        return learning_rate(*_FINE_TUNING, total, plan.rate)
    base = plan.base
    return learning_rate(base.optim_wrapper.optimizer.lr, base.auto_scale_lr.base_batch_size, total, plan.rate)


def _steps(plan: Plan) -> int:
    """Steps of a pass over the data."""
    return max(1, math.ceil(plan.pictures / (_batch(plan).value * max(1, plan.machine.gpus))))


def _length(plan: Plan) -> list[str]:
    count = passes(plan.pictures, start(plan).whole)
    steps = count.value * _steps(plan)
    warmup = assignment('warmup', min(500, max(1, steps // 10)), 'steps until the learning rate is reached')
    if plan.library != 'mmseg':
        every = math.ceil(count.value / _VALIDATIONS)
        return [_said('max_epochs', count),
                assignment('val_interval', every, 'epochs between validations, and checkpoints'), warmup]
    return [assignment('max_iters', steps, f'{count.value} passes over {count.why}'),
            assignment('val_interval', math.ceil(steps / _VALIDATIONS), 'steps between validations, and checkpoints'),
            warmup]
