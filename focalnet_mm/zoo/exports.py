"""Every model of the zoo exported to ONNX with random weights, each in a process of its own, and run beside PyTorch."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine.config.utils
from mmengine.config import Config
from rich.progress import Progress

from ..run.config import first_dataset
from ..run.shipped import shipped
from .evaluation import ToolError, run_command
from .rows import Row, read_results, write_json

__all__ = ['export_rows', 'exports_table', 'same_models']

# What of a model's settings changes its training alone.
_OF_TRAINING = ('train_cfg', 'init_cfg', 'drop_path_rate', 'with_cp')


def same_models(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows whose configs have the same model and preprocessing, together: one export tells of all of them."""
    found: dict[str, list[Row]] = {}
    with _metafiles_read_once():
        for row in rows:
            cfg = Config.fromfile(shipped() / row.config)
            tested = dict(model=_without_training(cfg.model.to_dict()), preprocessor=cfg.get('data_preprocessor'),
                          pipeline=first_dataset(cfg, 'test').get('pipeline'))
            found.setdefault(json.dumps(tested, sort_keys=True, default=str), []).append(row)
    return list(found.values())


def export_rows(groups: Sequence[Sequence[Row]], out: Path) -> dict[str, Any]:
    """Export models and run what was written, with a progress bar; finished ones are kept in ``results.json``.

    Args:
        groups: What :func:`same_models` returns.
        out: Where logs and results go. The exported files are deleted once they were run.

    Returns:
        Name of a row → what :func:`~focalnet_mm.zoo.export_run.measure_export` returns of its model, or why there is
        nothing; then it is tried again next time.

    Raises:
        ValueError: ``results.json`` of an earlier run is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    store = out / 'results.json'
    results = read_results(store)
    failed: dict[str, Any] = {}
    with Progress() as progress:
        task = progress.add_task('', total=len(groups))
        for rows in groups:
            names = [row.name for row in rows]
            progress.update(task, description=names[0])
            known = next((results[name] for name in names if name in results), None)
            try:
                known = known or _measured(rows[0], out)
            except ToolError as error:
                failed.update(dict.fromkeys(names, str(error)))
            else:
                results.update(dict.fromkeys(names, known))
                write_json(store, results)
            progress.advance(task)
    return {**results, **failed}


def exports_table(groups: Sequence[Sequence[Row]], results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, a row a model."""
    lines = ['| config | images | MB | export (s) | peak (GB) | PyTorch (s) | onnxruntime (s) | beside PyTorch |',
             '| --- | --- | --- | --- | --- | --- | --- | --- |']
    for rows in groups:
        names, found = ', '.join(f'`{row.name}`' for row in rows), results[rows[0].name]
        if isinstance(found, str):
            lines.append(f'| {names} | | | | | | | failed: {found.replace("|", "/")} |')
            continue
        lines.append(f'| {names} | {found["size"]} | {found["bytes"] / 1e6:.0f} | {found["export"]:.0f} | '
                     f'{found["peak"] / 1e9:.1f} | {found["pytorch"]:.2f} | {found["onnxruntime"]:.2f} | '
                     f'{"" if found["holds"] else "differs: "}{found["words"]} |')
    return '\n'.join(lines) + '\n'


def _measured(row: Row, out: Path) -> dict[str, Any]:
    folder = out / row.name
    result, files = folder / 'result.json', folder / 'files'
    result.unlink(missing_ok=True)
    # What a run that was killed has left.
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    job = dict(config=str(shipped() / row.config), size=row.input_size, file=str(files / f'{row.name}.onnx'),
               result=str(result))
    try:
        run_command('export_zoo', '--worker', json.dumps(job), log=folder / 'export.txt')
    finally:
        shutil.rmtree(files)
    return json.loads(result.read_text(encoding='utf-8'))


@contextlib.contextmanager
def _metafiles_read_once() -> Iterator[None]:
    """For each base of another library mmengine reads all of that library's metafiles, a second or more."""
    load = mmengine.config.utils.load
    mmengine.config.utils.load = functools.cache(load)
    try:
        yield
    finally:
        mmengine.config.utils.load = load


def _without_training(settings: Any) -> Any:
    if isinstance(settings, Mapping):
        return {key: _without_training(value) for key, value in settings.items() if key not in _OF_TRAINING}
    return [_without_training(value) for value in settings] if isinstance(settings, (list, tuple)) else settings
