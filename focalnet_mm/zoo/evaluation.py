"""Published models evaluated on one's own data, each in a process of its own: measured beside published."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress

from ..run.resuming import last_checkpoint
from ..run.shipped import shipped
from .rows import Row, read_results, write_json

__all__ = ['DATA', 'ToolError', 'evaluate', 'evaluate_rows', 'logged_value', 'run_command']

_RESULTS = 'results.json'
#: Data set of the metafiles → the option that says where it is.
DATA = {'COCO': 'coco', 'ADE20K': 'ade', 'ImageNet-1k': 'imagenet'}
# Metric of the metafiles → what the libraries log, and its factor to percent.
_LOGGED = {
    'box AP': ('coco/bbox_mAP', 100),
    'mask AP': ('coco/segm_mAP', 100),
    'PQ': ('coco_panoptic/PQ', 1),
    'mIoU': ('mIoU', 1),
    'mIoU multi-scale': ('mIoU', 1),
    'Top 1 Accuracy': ('accuracy/top1', 1),
}


class ToolError(RuntimeError):
    """A command failed."""


def run_command(name: str, *arguments: str | Path, log: str | Path) -> None:
    """Run ``tools/NAME.py`` in a process of its own.

    Args:
        name: ``train`` or ``test``.
        *arguments: Its arguments.
        log: File that takes what it prints.

    Raises:
        ToolError: It failed; says the last line that it printed, or the signal that stopped it, and the log.
    """
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    # Unlike `python -m`, a file does not put the folder one stands in before all packages.
    tool = shipped() / 'tools' / f'{name}.py'
    with log.open('w') as stream:
        code = subprocess.run([sys.executable, str(tool), *map(str, arguments)], stdout=stream,
                              stderr=subprocess.STDOUT, check=False).returncode
    if code < 0:
        by = signal.Signals(-code).name
        why = ', as the system does where memory runs out' if by == 'SIGKILL' else ''
        raise ToolError(f'{name} was stopped by {by}{why} (see {log})')
    if code:
        lines = [line for line in log.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
        raise ToolError(f'{lines[-1] if lines else f"{name} ended with status {code}"} (see {log})')


def evaluate(config: str | Path, checkpoint: str | Path, work_dir: str | Path, options: Iterable[str] = (),
             tta: bool = False, show_dir: str | Path | None = None) -> dict[str, Any]:
    """Evaluate a checkpoint by ``tools/test.py``.

    Args:
        config: Path of the config.
        checkpoint: Path of the checkpoint.
        work_dir: Folder for its logs.
        options: What ``--cfg-options`` gets.
        tta: Whether with test-time augmentation.
        show_dir: Folder for pictures of the predictions.

    Returns:
        The logged metrics by their names.

    Raises:
        ToolError: The evaluation failed.
    """
    work_dir = Path(work_dir)
    before = set(work_dir.glob('*/*.json'))
    options = list(options)
    log = work_dir / 'test.txt'
    run_command('test', config, checkpoint, '--work-dir', work_dir, *(['--tta'] if tta else []),
             *(['--show-dir', show_dir] if show_dir else []), *(['--cfg-options', *options] if options else []),
             log=log)
    written = set(work_dir.glob('*/*.json')) - before
    if not written:
        raise ToolError(f'test.py logged no metrics (see {log})')
    return json.loads(max(written).read_text())


def evaluate_rows(rows: Sequence[Row], checkpoints: Path, data_roots: Mapping[str, str | None], out: Path,
                  options: Sequence[str] = ()) -> str:
    """Evaluate the models whose checkpoints are there, with a progress bar; finished rows are not run again.

    Args:
        rows: Models with published results.
        checkpoints: A folder that holds them as ``NAME.pth``, ``NAME.safetensors``, a work dir ``NAME``, or under the
            name of the public file.
        data_roots: Value of :data:`DATA` → where that data set is.
        out: Where logs, ``results.json`` and ``table.md`` go.
        options: What ``--cfg-options`` gets.

    Returns:
        The table in Markdown: measured beside published, or why nothing was measured.

    Raises:
        ValueError: ``results.json`` of an earlier run is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = read_results(out / _RESULTS)
    lines = []
    with Progress() as progress:
        task = progress.add_task('', total=len(rows))
        for row in rows:
            progress.update(task, description=row.name)
            dataset, published = next(iter(row.results.items()))
            checkpoint = _find_checkpoint(checkpoints, row)
            for metric, value in published.items():
                measured = _outcome(row, metric, checkpoint, DATA[dataset], data_roots[DATA[dataset]], out, options,
                                    results)
                lines.append((row, metric, value, measured))
            progress.advance(task)
    text = _table(lines)
    (out / 'table.md').write_text(text)
    return text


def _find_checkpoint(folder: Path, row: Row) -> Path | None:
    """The checkpoint of a row in a folder, if any."""
    names = [f'{row.name}.pth', f'{row.name}.safetensors']
    if row.weights:
        names.append(row.weights.rsplit('/', 1)[-1])
    for name in names:
        if (folder / name).is_file():
            return folder / name
    return last_checkpoint(folder / row.name)


def _table(lines: list[tuple[Row, str, float, float | str]]) -> str:
    """Rows of (model, metric, published value, measured value or why there is none) as Markdown."""
    cells = ['| model | metric | measured | published | difference |', '| --- | --- | --- | --- | --- |']
    for row, metric, published, measured in lines:
        if isinstance(measured, str):
            cells.append(f'| {row.name} | {metric} | {measured} | {published:.1f} | |')
        else:
            cells.append(f'| {row.name} | {metric} | {measured:.1f} | {published:.1f} | {measured - published:+.1f} |')
    return '\n'.join(cells) + '\n'


def _outcome(row: Row, metric: str, checkpoint: Path | None, data: str, data_root: str | None, out: Path,
             options: Sequence[str], results: dict[str, Any]) -> float | str:
    """The value of a metric in percent, evaluated unless it is among the results, or why there is none."""
    if checkpoint is None:
        return 'no checkpoint: ' + (f'download {row.weights}' if row.weights
                                    else f'train one, see focalnet-mm config {row.name}')
    if data_root is None:
        return f'no data: give --{data}'
    tta = ['--tta'] if metric == 'mIoU multi-scale' else []
    stat = checkpoint.stat()
    run = ' '.join([row.name, *tta, str(checkpoint.resolve()), str(stat.st_size), str(stat.st_mtime_ns),
                    os.path.abspath(data_root), *options])
    if run not in results:
        try:
            results[run] = evaluate(shipped() / row.config, checkpoint, out / (row.name + ('_tta' if tta else '')),
                                    [f'data_root={data_root}', *options], tta=bool(tta))
        except ToolError as error:
            # It is tried again next time.
            return f'failed: {error}'
        write_json(out / _RESULTS, results)
    key, factor = _LOGGED[metric]
    value = logged_value(results[run], key)
    return f'failed: the evaluation logged no {key}' if value is None else value * factor


def logged_value(metrics: Mapping[str, Any], key: str) -> float | None:
    """A metric of an evaluation.

    Args:
        metrics: What was logged.
        key: Name of the metric.

    Returns:
        Its value: 0 where mmdet's metric of boxes and masks logged nothing at all, which it does of a model that has
        found nothing; ``None`` where the metric was not computed.
    """
    family = key.rpartition('/')[0]
    if family == 'coco' and not any(name.startswith('coco/') for name in metrics):
        return 0.0
    return metrics.get(key)
