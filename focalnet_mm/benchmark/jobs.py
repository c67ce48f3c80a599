"""What a benchmark measures, and in which order."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import Progress

from .measure import in_new_process
from .models import OURS

__all__ = ['jobs_of', 'run_jobs']


def jobs_of(models: Sequence[str], peers: Mapping[str, str], sizes: Sequence[Sequence[int]], steps: Sequence[str],
            dtypes: Sequence[str], modes: Sequence[str], arch: str, device: str,
            config: str | None) -> list[dict[str, Any]]:
    """All combinations that there are, models last, so that they take turns.

    Args:
        models: Keys of ``BUILDERS``.
        peers: Name → ``FILE:CLASS`` of other backbones.
        sizes: Height, width, batch and focal window.
        steps: ``inference`` and ``training``.
        dtypes: Data types, float32 or what to autocast to.
        modes: ``eager``, ``compile``, and of training steps ``frozen`` and, for ours, ``with_cp``.
        arch: Variant of FocalNet.
        device: Where to compute.
        config: Of a whole detector, in place of backbones.

    Returns:
        A dict of plain values for each.
    """
    jobs = []
    for (height, width, batch, window), step, dtype, mode, model in itertools.product(
            sizes, steps, dtypes, modes, (*models, *peers)):
        if mode in ('frozen', 'with_cp') and step == 'inference':
            continue
        if mode == 'with_cp' and model not in OURS:
            continue
        another = model.startswith(('Swin', 'ConvNeXt')) or model in peers
        jobs.append(dict(
            model=model, arch=arch, step=step, size=f'{height}×{width} b{batch} w{window}', height=height, width=width,
            batch=batch, window=window, dtype=dtype, mode=mode, device=device, peer=peers.get(model), config=config,
            kind='another' if another else 'FocalNet'))
    return jobs


def run_jobs(jobs: Sequence[dict[str, Any]], repeats: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure, with a progress bar.

    Args:
        jobs: What :func:`jobs_of` returns.
        repeats: Processes of each measurement.

    Returns:
        The jobs that could be measured, with the medians ``seconds`` and ``peak`` (bytes), the ``spread`` of the
        seconds as a share of the median, and ``floor``, the seconds that the arithmetic alone takes, ``None`` for
        detectors; and what is to be said of the others.
    """
    results: list[list[dict[str, float]]] = [[] for _ in jobs]
    failed: dict[int, str] = {}
    with Progress() as progress:
        task = progress.add_task('', total=repeats * len(jobs))
        for _ in range(repeats):
            for number, job in enumerate(jobs):
                progress.update(task, description=f'{job["model"]} {job["step"]} {job["size"]} {job["dtype"]}')
                if number not in failed:
                    try:
                        results[number].append(in_new_process(job))
                    except RuntimeError as error:
                        failed[number] = str(error)
                progress.advance(task)
    floors: dict[tuple[str, ...], float | None] = {}
    rows = []
    for number, (job, found) in enumerate(zip(jobs, results)):
        if number in failed:
            continue
        key = job['step'], job['size'], job['dtype']
        if key not in floors:
            floors[key] = None if job['config'] else in_new_process({**job, 'model': 'floor', 'peer': None})['floor']
        seconds = [result['seconds'] for result in found]
        middle = statistics.median(seconds)
        rows.append(dict(job, seconds=middle, spread=(max(seconds) - min(seconds)) / 2 / middle,
                         peak=statistics.median(result['peak'] for result in found), floor=floors[key]))
    return rows, list(failed.values())
