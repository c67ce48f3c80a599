"""A folder with a config, annotations, split and report for somebody's data."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from .. import __version__
from ..data.made import changed_files, files_below, read_marker, replace_made, write_marker
from ..data.own import (
    FOLLOWING,
    OwnData,
    as_task,
    find_problems,
    fix_data,
    fixable,
    read_data,
    read_split,
    split_data,
    write_annotations,
    write_split,
)
from ..run.config import load_config
from ..run.shipped import copy_config, find_config, shipped
from ..weights.download import sha256
from ..zoo.rows import read_zoo
from .config import config_text
from .methods import Choice, choose, task_of
from .plan import Plan
from .report import write_report
from .sizing import Machine, find_machine

__all__ = ['CONFIG', 'Options', 'Project', 'write_project']

# What would end or change a string of a config, in which mmengine puts the path of the folder.
_NO_PATH = ('"', '\\', '\n', '\r')
CONFIG, _SPLIT, _MARKER = 'config.py', 'split.csv', 'focalnet-mm.json'


@dataclass(frozen=True)
class Options:
    """What the user decides; the rest follows from data and machine.

    Attributes:
        method: Of :data:`~focalnet_mm.new.methods.METHODS`.
        arch: Such as ``'t'`` or ``'b-srf'``.
        task: One of :data:`~focalnet_mm.data.own.TASKS`.
        format: One of :data:`~focalnet_mm.data.own.FORMATS`.
        base: Path of a config in place of a shipped one, or name of a shipped one, whose recipe is kept.
        weights: ``'none'``, or a checkpoint to start from.
        batch: Pictures a GPU and step.
        rate: Learning rate.
        val: Share of pictures for validation, where the data has no split.
        test: Share for tests.
        seed: Of the split and the training.
        unlabelled: Of :data:`~focalnet_mm.data.own.UNLABELLED`: what pixels without polygon are, where a class for each
            pixel is learned from polygons.
        fix: Kinds of problems that are left out or mended.
        force: Whether a project that is there is written anew.
    """

    method: str | None = None
    arch: str | None = None
    task: str | None = None
    format: str | None = None
    base: str | None = None
    weights: str | None = None
    batch: int | None = None
    rate: float | None = None
    val: float = 0.2
    test: float = 0.0
    seed: int = 0
    unlabelled: str = 'background'
    fix: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class Project:
    """What was written.

    Attributes:
        config: Path of the config.
        report: Path of the page about the data.
        data: The data.
        choice: What is trained.
        pictures: Number of pictures by split.
    """

    config: Path
    report: Path
    data: OwnData
    choice: Choice
    pictures: dict[str, int]


def write_project(root: str | Path, out: str | Path, options: Options | None = None, machine: Machine | None = None,
                  tell: Callable[[str], None] = print) -> Project:
    """Look at a folder, and write a config that trains on it.

    The project holds ``config.py``, what it inherits in ``_base_``, ``annotations``, ``split.csv``, ``report.html`` and
    ``focalnet-mm.json``, which lists these files and what was in them. Pictures stay where they are.

    Args:
        root: The folder of pictures and annotations.
        out: The folder of the project; written whole or not at all.
        options: What the user decides.
        machine: What is trained on; by default the one that this runs on.
        tell: Is given a sentence about each decision.

    Returns:
        What was written.

    Raises:
        FileExistsError: The project is there and ``force`` is not set, a file of it was edited, or another file is in
            the way.
        ValueError: The data cannot be read, or method, arch, task and data do not go together.
    """
    options, out, root = options or Options(), Path(out), Path(root)
    _check_place(root, out, options.force)
    fixable(options.fix)
    data = read_data(root, options.format, tell)
    choice, base = _base(data, options)
    if choice.why:
        tell(choice.why)
    _split(data, out / _SPLIT, options, tell)
    find_problems(data)
    if options.fix:
        fix_data(data, options.fix)
    out.parent.mkdir(parents=True, exist_ok=True)
    place = Path(os.path.abspath(out))
    partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f'.{place.name}.'))
    try:
        write_split(data, partial / _SPLIT)
        write_report(data, partial, tell)
        learned = as_task(data, choice.task, options.unlabelled)
        written = write_annotations(learned, partial / 'annotations')
        plan = Plan(choice, base, _inherit(choice, partial), learned, written, partial,
                    place, machine or find_machine(), keep=options.base is not None, batch=options.batch,
                    rate=options.rate, weights=options.weights, seed=options.seed)
        (partial / CONFIG).write_text(config_text(plan), encoding='utf-8')
        # Whatever is wrong with it is better found now than in its first training.
        load_config(str(partial / CONFIG))
        _settle(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Project(out / CONFIG, out / 'report.html', data, choice,
                   {split: each.pictures for split, each in written.items()})


def _check_place(root: Path, out: Path, force: bool) -> None:
    """Check that a project may be written here, before hours of looking at pictures."""
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f'--out {out} lies in {root}, where its files would be taken for data: name a folder outside.')
    named = next((sign for sign in _NO_PATH if sign in os.path.abspath(out)), None)
    if named:
        raise ValueError(f'--out {out}: the path of the project, {os.path.abspath(out)!r}, holds {named!r}, which '
                         'ends or changes what mmengine puts it into: name another folder.')
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f'--out {out} is a file: name a folder.')
    made = read_marker(out / _MARKER)
    if made is not None:
        edited = [name for name in changed_files(out, made, 'content', sha256) if name != _SPLIT]
        if edited:
            raise FileExistsError(f'{out / edited[0]} was changed since it was written: move it away, or name another '
                                  'folder with --out.')
    if any(out.iterdir()) and not force:
        raise FileExistsError(f'{out} holds a project: train it with focalnet-mm train {out / CONFIG}, or add --force '
                              f'to write it anew by its {_SPLIT}.' if made is not None else
                              f'{out} is not empty: name another folder with --out, or add --force.')


def _split(data: OwnData, file: Path, options: Options, tell: Callable[[str], None]) -> None:
    """Split as a file that is there says, which may have been edited; else anew."""
    if file.is_file():
        read_split(data, file)
        tell(f'The split is that of {file}: remove it to split anew.')
    else:
        split_data(data, options.val, options.test, options.seed)


def _base(data: OwnData, options: Options) -> tuple[Choice, Config]:
    """What is trained, and the config that it inherits."""
    root = shipped()
    if options.base is None:
        choice = choose(data, root, read_zoo(root), options.method, options.arch, options.task)
        return choice, load_config(str(choice.config))
    if options.method or options.arch:
        raise ValueError('--base names the whole model: leave out --method and --arch.')
    path = Path(options.base)
    if path.suffix != '.py':
        path = find_config(root, options.base)
    base = load_config(str(path))
    if 'read_base' in path.read_text(encoding='utf-8'):
        raise ValueError(f'--base {path} is a pure-Python config, which no other kind can inherit: write it as one of '
                         'strings with mmengine\'s Config.dump, and give that.')
    task = task_of(base)
    if task not in FOLLOWING[data.task] or options.task not in (None, task):
        raise ValueError(f'--base {path} learns {task}, and {data.root} holds {options.task or data.task}: give '
                         'another config.')
    return Choice(path.stem, '', task, path, None), base


def _inherit(choice: Choice, folder: Path) -> str:
    """How the config of a project names its base: a shipped one is copied, so that the project is whole."""
    config = choice.config.resolve()
    if not config.is_relative_to(shipped() / 'configs'):
        return str(config)
    return f'./{copy_config(config, folder / "_base_")[0].relative_to(folder).as_posix()}'


def _settle(partial: Path, out: Path) -> None:
    """Put a project into its place; what was made there before is replaced, and all else stays."""
    files = files_below(partial)
    content = {name: sha256(partial / name) for name in files if not name.startswith('report')}
    write_marker(partial / _MARKER, dict(version=__version__, content=content), files)
    if out.exists():
        replace_made(out, partial, _MARKER)
    else:
        partial.chmod(0o755)
        partial.rename(out)
