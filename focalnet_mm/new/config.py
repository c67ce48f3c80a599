"""The text of a config for one's own data: what it inherits is named, what differs is said with its reason."""

from __future__ import annotations

import colorsys
from typing import Any

from .datasets import in_project
from .heads import class_settings
from .literals import Code, assignment
from .loaders import loaders
from .plan import Plan
from .schedule import kept, schedule, settled
from .start import start

__all__ = ['config_text']

def config_text(plan: Plan) -> str:
    """The config.

    Args:
        plan: What it is written from.

    Returns:
        Its text, which mmengine reads; paths below the project are relative to it.

    Raises:
        ValueError: The base cannot be inherited so.
    """
    values = kept(plan) if plan.keep else settled(plan)
    parts = [_head(plan), _classes(plan), '\n'.join([*values, start(plan).text]), _model(plan),
             *loaders(plan), '\n'.join(schedule(plan))]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _head(plan: Plan) -> str:
    choice = plan.choice
    counts = ' + '.join(f'{written.pictures} {split}' for split, written in plan.written.items())
    name = f'{choice.method} {choice.arch}'.strip()
    return '\n'.join([
        f'# {name} on {counts} pictures.',
        '# Written by `focalnet-mm new`, which never writes over what you change here.',
        assignment('_base_', plan.inherited),
        '',
        # A quote may be in the name of a folder.
        'project = "{{ fileDirname }}/"  # this folder, wherever it is moved to',
        assignment('data_root', in_project(plan.written['train'].data_root, plan.place),
                   'the pictures stay here; --cfg-options data_root=DIR moves it'),
        assignment('work_dir', Code("project + 'work_dir'")),
    ])


def _classes(plan: Plan) -> str:
    names = plan.data.classes
    # Objects are numbered before areas.
    stuff = names[len(names) - len(plan.data.stuff):]
    meta: dict[str, Any] = dict(classes=Code('classes'), palette=Code('palette'))
    lines = [assignment('classes', tuple(names))]
    if plan.choice.task == 'panoptic':
        lines = [assignment('things', tuple(names[:len(names) - len(stuff)]), 'what is counted'),
                 assignment('stuff', tuple(stuff), 'areas, behind the things'),
                 assignment('classes', Code('things + stuff'))]
        meta.update(thing_classes=Code('things'), stuff_classes=Code('stuff'))
    colours = plan.data.palette or _colours(len(names))
    why = 'colours in RGB' + (' of the data' if plan.data.palette else '')
    lines += [assignment('num_classes', Code('len(classes)'))]
    if plan.fixed_size or plan.choice.task == 'panoptic':
        lines += [assignment('num_things', Code('len(things)' if stuff else 'num_classes')),
                  assignment('num_stuff', Code('len(stuff)') if stuff else 0)]
    lines += [assignment('palette', colours, why), assignment('metainfo', meta)]
    return '\n'.join(lines)


def _colours(count: int) -> list[tuple[int, int, int]]:
    """Colours in RGB that neighbours on the list don't share: the golden ratio of the circle of hues lies between."""
    colours = (colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.85 if i % 2 else 0.6, 0.95 - 0.25 * (i % 3 == 2))
               for i in range(count))
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours]


def _model(plan: Plan) -> str:
    panoptic = plan.choice.task == 'panoptic'
    settings = class_settings(plan.base.model, '_base_.model', panoptic)
    if not settings:
        raise ValueError(f'{plan.choice.config}: no head of its model has num_classes, so it cannot learn other '
                         'classes: give another config.')
    if plan.choice.task == 'labels' and not plan.keep:
        settings['head'] = dict(_delete_=True, type='MultiLabelLinearClsHead', num_classes=Code('num_classes'),
                                in_channels=plan.base.model.head.in_channels)
    if not plan.keep:
        settings |= _sizes(plan)
    if not start(plan).backbone:
        settings['backbone'] = dict(init_cfg=None)
    elif start(plan).source:
        settings['backbone'] = dict(init_cfg=dict(checkpoint=start(plan).source))
    lines = [assignment('model', settings)]
    if common := class_settings(plan.base.get('data_preprocessor') or {}, '_base_.data_preprocessor', panoptic):
        lines.append(assignment('data_preprocessor', common))
    return '\n'.join(lines)


def _sizes(plan: Plan) -> dict[str, Any]:
    """What of the model goes with the size of pictures, and what needs more pictures than somebody has."""
    if plan.library == 'mmseg':
        return dict(data_preprocessor=dict(size=Code('crop_size')))
    if plan.library == 'mmpretrain':
        # A short training of a new head sees too few whole pictures otherwise.
        return dict(train_cfg=None)
    if plan.fixed_size:
        place = '_base_.model.data_preprocessor.batch_augments'
        return dict(data_preprocessor=dict(batch_augments=Code(f'[dict(each, size=image_size) for each in {place}]')))
    return {}
