"""Data loaders and metrics of a config, by split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..run.config import type_name
from .datasets import dataset, eval_pipeline, metrics, train_pipeline
from .literals import Code, assignment
from .plan import Plan
from .schedule import FEW

__all__ = ['loaders']


def loaders(plan: Plan) -> list[str]:
    """The parts of a config about its data.

    Args:
        plan: What the config is written from.

    Raises:
        ValueError: There is nothing to validate on, or the base has no data set that could be replaced.
    """
    held_out = [split for split in ('val', 'test') if split in plan.written]
    if not held_out:
        raise ValueError(f'{plan.data.root} has no pictures to validate on: give --val a share above 0, or name some '
                         'as val in split.csv.')
    parts = [] if plan.keep else _pipelines(plan)
    parts.append(assignment('train_dataloader', _loader(plan, 'train', 'train')))
    # Pictures that are for tests alone are better than none.
    parts += _evaluated(plan, 'val', held_out[0])
    if held_out == ['val', 'test']:
        return [*parts, *_evaluated(plan, 'test', 'test')]
    return [*parts, 'test_dataloader = val_dataloader\ntest_evaluator = val_evaluator']


def _evaluated(plan: Plan, key: str, split: str) -> list[str]:
    measured = metrics(plan.choice.task, plan.written[split], plan.project, len(plan.data.classes))
    return [assignment(f'{key}_dataloader', _loader(plan, key, split)), assignment(f'{key}_evaluator', measured)]


def _pipelines(plan: Plan) -> list[str]:
    """The pipelines of detectors and segmenters; those of classifiers are the recipe's."""
    if plan.library == 'mmpretrain':
        return []
    task = plan.choice.task
    return [assignment('train_pipeline', train_pipeline(task, plan.fixed_size, plan.pictures < FEW)),
            assignment('test_pipeline', eval_pipeline(task))]


def _loader(plan: Plan, key: str, split: str) -> dict[str, Any]:
    written = plan.written[split]
    if plan.keep:
        asked = dict(batch_size=Code('batch_size')) if key == 'train' and plan.batch is not None else {}
        return asked | _nested(plan, key, split)
    training = key == 'train'
    pipeline = (Code(f'_base_.{key}_dataloader.dataset.pipeline') if plan.library == 'mmpretrain'
                else Code('train_pipeline' if training else 'test_pipeline'))
    data = dataset(written, plan.project, pipeline, test=not training)
    # What mmdet's own tool reads a batch of one size with: of several pictures the smaller ones are padded.
    batch: Any = Code('batch_size') if training else (16 if plan.library == 'mmpretrain' else 1)
    sampler = 'InfiniteSampler' if training and plan.library == 'mmseg' else 'DefaultSampler'
    settings = dict(_delete_=True, batch_size=batch, num_workers=Code('num_workers'),
                    persistent_workers=Code('num_workers > 0'), sampler=dict(type=sampler, shuffle=training))
    if training and plan.library == 'mmdet' and not plan.fixed_size:
        settings['batch_sampler'] = dict(type='AspectRatioBatchSampler')
    # Within what replaces the base's loader nothing is left to delete.
    return settings | dict(dataset={name: value for name, value in data.items() if name != '_delete_'})


def _nested(plan: Plan, key: str, split: str) -> dict[str, Any]:
    """The data set in the place of the base's own, within what repeats or filters it."""
    loader = plan.base.get(f'{key}_dataloader')
    place, node, names = f'_base_.{key}_dataloader', loader, []
    while isinstance(node, Mapping) and isinstance(node.get('dataset'), Mapping):
        names.append('dataset')
        place, node = f'{place}.dataset', node['dataset']
    if not names or not isinstance(node, Mapping) or 'pipeline' not in node:
        raise ValueError(f'{plan.choice.config} has no single data set with a pipeline in {key}_dataloader, whose '
                         'place others could take: give a config that has.')
    settings: dict[str, Any] = dataset(plan.written[split], plan.project, _pipeline(plan, place, node, split),
                                       test=key != 'train')
    for name in names:
        settings = {name: settings}
    return settings


def _pipeline(plan: Plan, place: str, node: Mapping[str, Any], split: str) -> Code:
    """The base's pipeline; label maps are read as those of the data are, whatever the base's were."""
    reduce = plan.written[split].settings.get('reduce_zero_label')
    if any(type_name(step) == 'LoadAnnotations' and 'reduce_zero_label' in step for step in node['pipeline']):
        return Code(f"[dict(step, reduce_zero_label={bool(reduce)}) if step['type'] == 'LoadAnnotations' else step "
                    f'for step in {place}.pipeline]')
    return Code(f'{place}.pipeline')
