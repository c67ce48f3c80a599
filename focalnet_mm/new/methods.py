"""What can be trained on which annotations, and the shipped config that it starts from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ..data.own import FOLLOWING, OwnData
from ..run.config import scope_of
from ..zoo.rows import Row

__all__ = ['METHODS', 'Choice', 'archs', 'choose', 'task_of']

#: Method → task → the shipped configs for it, the better one first, with ``*`` for the arch.
METHODS: dict[str, dict[str, tuple[str, ...]]] = {
    'maskrcnn': {'instances': ('maskrcnn_focalnet_*_1x',)},
    'cascade': {'instances': ('cascade_maskrcnn_focalnet_*_3x',)},
    'atss': {'boxes': ('atss_focalnet_*_3x',)},
    'sparsercnn': {'boxes': ('sparsercnn_focalnet_*_3x',)},
    'dino': {'boxes': ('dino_focalnet_*_5scale_o365_coco', 'dino_focalnet_*_5scale_36e', 'dino_focalnet_*_4scale_36e',
                       'dino_focalnet_*_4scale_12e')},
    'mask2former': {'instances': ('mask2former_focalnet_*_50e_instance',),
                    'panoptic': ('mask2former_focalnet_*_100e_panoptic',),
                    'semantic': ('mask2former_focalnet_*_160k',)},
    'upernet': {'semantic': ('upernet_focalnet_*_160k',)},
    'classifier': {'classes': ('focalnet_*_in1k', 'focalnet_*_in22k'),
                   'labels': ('focalnet_*_in1k', 'focalnet_*_in22k')},
}
# Task → the method that is proposed for it, and why.
_PROPOSED = {
    'boxes': ('atss', 'it learns from boxes alone and needs the least time to learn new classes'),
    'instances': ('maskrcnn', 'it is the lightest that learns masks'),
    'panoptic': ('mask2former', 'it alone tells objects and areas at once'),
    'semantic': ('upernet', 'it is the lightest that gives each pixel a class'),
    'classes': ('classifier', 'each picture has one class'),
    'labels': ('classifier', 'a picture may have several classes'),
}
# The published variants, without what the paper compares them with.
_ARCH = re.compile(r'(t|s|b)(_srf|_deep)?|(l|xl|h)(_fl[34])?')


@dataclass(frozen=True)
class Choice:
    """What is trained.

    Attributes:
        method: Of :data:`METHODS`; what the model is called where a config of one's own is the base.
        arch: As the names of the shipped configs have it, such as ``'t'``; nothing for a config of one's own.
        task: Of :data:`~focalnet_mm.data.own.TASKS`.
        config: Path of the config that is inherited.
        row: What the model index says of that config; ``None`` where it says nothing.
        why: Why this method, where nobody asked for it.
    """

    method: str
    arch: str
    task: str
    config: Path
    row: Row | None
    why: str = ''


def archs(rows: Sequence[Row], method: str, task: str) -> dict[str, Row]:
    """The variants that a method is shipped with.

    Args:
        rows: The model index.
        method: Of :data:`METHODS`.
        task: One of its tasks.

    Returns:
        Arch → its best config for this, from the smallest; names are those in the configs, such as ``'t_srf'``.
    """
    found: dict[str, Row] = {}
    for pattern in METHODS[method][task]:
        before, after = pattern.split('*')
        for row in rows:
            arch = row.name.removeprefix(before).removesuffix(after)
            if row.name == f'{before}{arch}{after}' and _ARCH.fullmatch(arch):
                found.setdefault(arch, row)
    return dict(sorted(found.items(), key=lambda item: item[1].size.parameters))


def choose(data: OwnData, root: Path, rows: Sequence[Row], method: str | None = None, arch: str | None = None,
           task: str | None = None) -> Choice:
    """The method, variant and shipped config for somebody's data.

    Args:
        data: The data.
        root: The folder that holds ``configs``.
        rows: The model index.
        method: Of :data:`METHODS`; proposed where none is given.
        arch: Such as ``'t'`` or ``'b-srf'``; ``'l'`` is ``'l_fl4'``, and so for ``'xl'`` and ``'h'``. By default
            ``'t'``, or the smallest where that is not shipped.
        task: One that follows from the data; by default the fullest that the method has.

    Returns:
        What is trained.

    Raises:
        ValueError: There is no such method, arch or task, or they do not go together; says what does.
    """
    possible = FOLLOWING[data.task]
    if task is not None and task not in possible:
        raise ValueError(f'--task {task} does not follow from {data.root}, whose annotations are {data.task}: choose '
                         f'{_or(possible)}.')
    why = ''
    if method is None:
        task = task or possible[0]
        method, reason = _PROPOSED[task]
        why = f'The annotations are {data.task}: proposed is {method}, since {reason}{_others(method, possible)}.'
    elif method not in METHODS:
        raise ValueError(f'--method {method} is none that is shipped: choose {_or(METHODS)}.')
    fitting = [each for each in ((task,) if task else possible) if each in METHODS[method]]
    if not fitting:
        able = [name for name, tasks in METHODS.items() if set(tasks) & set((task,) if task else possible)]
        raise ValueError(f'--method {method} learns {_or(METHODS[method])}, and {data.root} holds '
                         f'{task or data.task}: choose {_or(able)}.')
    there = archs(rows, method, fitting[0])
    name = _settle(arch, there, method, fitting[0])
    return Choice(method, name, fitting[0], root / there[name].config, there[name], why)


def task_of(cfg: Config) -> str:
    """What a config's model learns.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.

    Returns:
        One of :data:`~focalnet_mm.data.own.TASKS`.

    Raises:
        ValueError: It is of another library.
    """
    scope, model = scope_of(cfg), cfg.get('model') or {}
    if scope == 'mmseg':
        return 'semantic'
    if scope == 'mmpretrain':
        return 'labels' if 'MultiLabel' in str(_part(model, 'head').get('type')) else 'classes'
    if scope != 'mmdet':
        raise ValueError(f'{cfg.filename} is a config of {scope}, expected one of mmdet, mmseg or mmpretrain: give '
                         'another as --base.')
    if 'panoptic_head' in model:
        return 'panoptic' if _part(model, 'panoptic_head').get('num_stuff_classes') else 'instances'
    return 'instances' if _part(model, 'roi_head').get('mask_head') or model.get('mask_head') else 'boxes'


def _part(model: Mapping, name: str) -> Mapping:
    found = model.get(name)
    return found if isinstance(found, Mapping) else {}


def _settle(arch: str | None, there: Mapping[str, Row], method: str, task: str) -> str:
    """The arch that is meant, as the configs call it."""
    if arch is None:
        return 't' if 't' in there else next(iter(there))
    name = arch.lower().replace('-', '_')
    # Mask2Former's large one has four levels too, and no other is shipped.
    for each in (name, f'{name}_fl4', name.removesuffix('_fl4')):
        if each in there:
            return each
    raise ValueError(f'--arch {arch}: {method} for {task} is shipped with {_or(there)}; to train another, give a '
                     'config of your own as --base.')


def _others(method: str, possible: Sequence[str]) -> str:
    others = [name for name, tasks in METHODS.items() if name != method and set(tasks) & set(possible)]
    return f'; --method may also be {_or(others)}' if others else ''


def _or(names: Sequence[str] | Mapping) -> str:
    *first, last = map(str, names)
    return f'{", ".join(first)} or {last}' if first else last
