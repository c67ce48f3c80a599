"""Which checkpoint of a work dir a run goes on from."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..weights.layouts import shorten
from ..weights.pickles import CodeError, load_pickle
from .drafts import write_whole

__all__ = ['ALLOW', 'STATE', 'Found', 'Run', 'candidates', 'check_resumable', 'find_newest', 'last_checkpoint',
           'note_last', 'run_of']

#: Under which key a checkpoint holds what only a resumed run asks for.
STATE = 'long_run'
#: What lets a run go on whose hooks put objects into its checkpoints.
ALLOW = ('A class of your own is read where a module that the config imports with custom_imports names it in '
         'torch.serialization.add_safe_globals([…]).')
_POINTER = 'last_checkpoint'
_RUN = 'run.json'


class AnotherModelError(ValueError):
    """A checkpoint is whole, and of another model."""


class EarlierRunError(ValueError):
    """A checkpoint is whole, and of an earlier run in the folder."""


class Run(NamedTuple):
    """The run that a work dir belongs to."""

    #: A name of its own, which its checkpoints have too.
    name: str
    #: Names of checkpoints that were there before it began.
    earlier: tuple[str, ...] = ()

    def write(self, work_dir: str | os.PathLike) -> None:
        """Note it in its work dir."""
        write_whole(Path(work_dir) / _RUN, json.dumps(self._asdict(), indent=2) + '\n')

    @classmethod
    def read(cls, work_dir: str | os.PathLike) -> Run | None:
        """What a work dir notes; ``None`` where nothing, or nothing that can be read."""
        try:
            noted = json.loads((Path(work_dir) / _RUN).read_text(encoding='utf-8'))
            return cls(str(noted['name']), tuple(map(str, noted['earlier'])))
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Found(NamedTuple):
    """What there is to resume in a work dir."""

    #: The newest whole checkpoint of the run, if any.
    path: Path | None
    #: A sentence about each that is newer, or of another run.
    passed_over: list[str]


def find_newest(work_dir: str | os.PathLike, folder: str | os.PathLike, template: str, model: nn.Module,
                optimizer: bool = True) -> Found:
    """The newest checkpoint of a run that is whole, holds all that resuming takes, and is of the model.

    Args:
        work_dir: The run's folder, which may have been renamed.
        folder: Where its checkpoints are, the same or another one.
        template: How their names are made, such as ``'epoch_{}.pth'``.
        model: The model, without what wraps it.
        optimizer: Whether the run saves the state of its optimizer.

    Returns:
        The checkpoint, and why others are not taken.

    Raises:
        AnotherModelError: There is none, but whole ones of another model.
        EarlierRunError: There is none, but whole ones of an earlier run in the folder.
        CodeError: One of them holds objects of classes that the program has not allowed.
    """
    run, earlier = Run.read(work_dir), None
    passed_over, steps, others = list[str](), dict[Path, int](), list[Exception]()
    for path in candidates(work_dir, folder, template):
        try:
            # Their order first; the check sums of all tensors only of those that are to be taken. What is no archive
            # is damaged, or older than them.
            content = load_pickle(path, check=not zipfile.is_zipfile(path))
            _check(content, path, run, optimizer)
            steps[path] = content['meta']['iter']
        except CodeError as error:
            # A start from scratch would write over them.
            raise CodeError(f'{error} {ALLOW}') from None
        except (OSError, ValueError) as error:
            passed_over.append(str(error))
            if isinstance(error, EarlierRunError):
                earlier = error
    for path in sorted(steps, key=lambda path: (steps[path], path.name), reverse=True):
        try:
            check_resumable(path, model, optimizer)
            return Found(path, passed_over)
        except (OSError, ValueError) as error:
            passed_over.append(str(error))
            others.append(error)
    # A start from scratch would write over what a slip in the config made another model.
    for other in others:
        if isinstance(other, AnotherModelError):
            raise other
    if earlier is not None:
        raise EarlierRunError(f'{earlier} This run has no whole checkpoint: to start it anew, which writes over those '
                              'of the same names, leave --resume out.')
    return Found(None, passed_over)


def check_resumable(path: str | os.PathLike, model: nn.Module, optimizer: bool = True) -> None:
    """Check that a run can go on from a checkpoint.

    Args:
        path: The file.
        model: The model, without what wraps it.
        optimizer: Whether it must hold the state of the optimizer.

    Raises:
        OSError: It cannot be read.
        AnotherModelError: It is of another model.
        ValueError: It is damaged, or holds weights only.
    """
    try:
        content = load_pickle(Path(path))
    except CodeError as error:
        raise CodeError(f'{error} {ALLOW}') from None
    _check(content, Path(path), None, optimizer)
    theirs = {re.sub(r'^module\.', '', name): tensor for name, tensor in content['state_dict'].items()}
    own, buffers, modules = model.state_dict(), dict(model.named_buffers()), dict(model.named_modules())

    def comes_with_steps(name: str) -> bool:
        """Whether it is a buffer, which a model may make or resize in a step, as mmpretrain's of EVA-02 does."""
        parent, _, leaf = name.rpartition('.')
        return name in buffers or (name not in own and parent in modules and leaf not in modules[parent]._parameters)

    different = [name for name in {**own, **theirs} if not comes_with_steps(name) and (
        name not in own or name not in theirs or own[name].shape != theirs[name].shape)]
    if different:
        raise AnotherModelError(f'{path} is of another model: {len(different)} of the {len(own)} tensors differ '
                         f'({shorten(different)}), so it was not resumed; correct the config, or start from it with '
                         'load_from.')


def last_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """The checkpoint that a work dir names as its last, wherever the work dir is now; ``None`` where there is none."""
    work_dir = Path(work_dir)
    try:
        text = (work_dir / _POINTER).read_text(encoding='utf-8').strip()
    except (OSError, ValueError):
        return None
    path = Path(text)
    # mmengine's own is relative to the folder that it was started in, or absolute.
    return next((each for each in (work_dir / path, path, work_dir / path.name) if text and each.is_file()), None)


def run_of(path: str | os.PathLike) -> str | None:
    """The name of the run that a checkpoint notes; ``None`` where it notes none, or cannot be read."""
    try:
        # Its tensors are not looked at.
        content = load_pickle(Path(path), check=not zipfile.is_zipfile(path))
    except (OSError, ValueError):
        return None
    noted = content.get(STATE) if isinstance(content, Mapping) else None
    return noted.get('run') if isinstance(noted, Mapping) else None


def note_last(work_dir: str | os.PathLike, checkpoint: str, relative: bool = True) -> None:
    """Note the last checkpoint of a work dir, relative to it if possible, so that it may be moved.

    Args:
        work_dir: The folder.
        checkpoint: Path or URL of the checkpoint.
        relative: Whether it is looked up by :func:`last_checkpoint`; mmengine's own runners take a path as it is.
    """
    # On Windows there is no way from one drive to another.
    with contextlib.suppress(ValueError):
        checkpoint = os.path.relpath(checkpoint, work_dir) if relative and '://' not in checkpoint else checkpoint
    write_whole(Path(work_dir) / _POINTER, checkpoint)


def candidates(work_dir: str | os.PathLike, folder: str | os.PathLike, template: str) -> list[Path]:
    """The checkpoints of a work dir by their names, and what it names as its last one. See :func:`find_newest`."""
    # The template may have a folder, and say how a number is written, as in `epoch_{:03d}.pth`.
    named = Path(folder, template)
    own = r'\d+'.join(map(re.escape, re.split(r'\{[^{}]*\}', named.name)))
    names = re.compile('|'.join([own, r'epoch_\d+\.pth', r'(stopped_)?iter_\d+\.pth']))
    found = [path for place in {Path(folder), named.parent} for path in place.glob('*')
             if names.fullmatch(path.name) and path.is_file()]
    last = last_checkpoint(work_dir)
    if last is not None and not any(path.samefile(last) for path in found):
        found.append(last)
    return sorted(found)


def _check(content: Any, path: Path, run: Run | None, optimizer: bool) -> None:
    """Check that a checkpoint holds all that resuming takes, and is of the run, if one is given."""
    content = content if isinstance(content, Mapping) else {}
    missing = [key for key in ('state_dict', 'optimizer', 'message_hub', 'meta') if
               not isinstance(content.get(key), Mapping) and (optimizer or key != 'optimizer')]
    missing += [f'meta.{key}' for key in ('epoch', 'iter') if 'meta' not in missing and
                not isinstance(content['meta'].get(key), int)]
    if missing:
        kind = 'no whole state of a run' if 'optimizer' in content else 'weights only'
        raise ValueError(f'{path} holds {kind}: it lacks {", ".join(missing)}, so it cannot be resumed; start from '
                         'it with load_from.')
    noted = content.get(STATE) or {}
    name = noted.get('run') if isinstance(noted, Mapping) else None
    if run is not None and name != run.name and (name is not None or path.name in run.earlier):
        raise EarlierRunError(f'{path} is of an earlier run in this folder: to go on with that one, name it in '
                              f'--resume {path}.')
