"""Every method trained and evaluated on the built-in data set, each beside its untrained self."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.progress import Progress

from ..run.build import build_model
from ..run.resuming import last_checkpoint
from ..run.shipped import shipped
from .evaluation import evaluate, logged_value, run_command
from .rows import read_results, write_json

__all__ = ['CONFIGS', 'train_zoo', 'weak_models', 'zoo_table']

#: Config → the metric that must rise.
CONFIGS = {
    'mmseg/upernet_focalnet_t_shapes': 'mIoU',
    'mmdet/atss_focalnet_t_shapes': 'box AP50',
    'mmdet/cascade_maskrcnn_focalnet_t_shapes': 'box AP50',
    'mmdet/sparsercnn_focalnet_t_shapes': 'box AP50',
    'mmdet/mask2former_focalnet_t_shapes_panoptic': 'PQ',
    'mmdet/dino_focalnet_t_shapes': 'box AP50',
}
# What the libraries log → name and factor to percent.
_METRICS = {'coco/bbox_mAP_50': ('box AP50', 100), 'coco/segm_mAP_50': ('mask AP50', 100),
           'coco_panoptic/PQ': ('PQ', 1), 'mIoU': ('mIoU', 1)}
# Less than so many points above the untrained model is no learning.
_MARGIN = 10


def train_zoo(paths: Sequence[str], out: Path, options: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Train and evaluate models, with a progress bar; finished ones are kept in ``results.json``.

    Args:
        paths: Keys of :data:`CONFIGS`.
        out: Where checkpoints, pictures and results go.
        options: What ``--cfg-options`` gets.

    Returns:
        Name of the config → the metrics ``before`` and ``after`` training, and the ``minutes`` that it took.

    Raises:
        ValueError: A model failed; names it. Or ``results.json`` of an earlier run is damaged.
    """
    out.mkdir(parents=True, exist_ok=True)
    store = out / 'results.json'
    results = read_results(store)
    with Progress() as progress:
        task = progress.add_task('', total=len(paths))
        for path in paths:
            name = Path(path).name
            progress.update(task, description=name)
            if name not in results:
                started = time.monotonic()
                try:
                    before, after = _train(shipped() / 'configs' / f'{path}.py', out / name, options)
                except (RuntimeError, ValueError, OSError) as error:
                    raise ValueError(f'{name}: {error}') from None
                results[name] = dict(before=before, after=after, minutes=(time.monotonic() - started) / 60)
                write_json(store, results)
            progress.advance(task)
    return results


def zoo_table(paths: Sequence[str], results: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as a Markdown table."""
    lines = ['| model | metric | untrained | trained | minutes |', '| --- | --- | --- | --- | --- |']
    for path in paths:
        result = results[Path(path).name]
        lines += [f'| {Path(path).name} | {metric} | {before:.1f} | {after:.1f} | {result["minutes"]:.1f} |'
                  for metric, before, after in _percentages(path, result)]
    return '\n'.join(lines)


def weak_models(paths: Sequence[str], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those that are hardly better than untrained, with the metric that must rise."""
    return [f'{Path(path).name} ({metric})' for path in paths
            for metric, before, after in _percentages(path, results[Path(path).name])
            if metric == CONFIGS[path] and after < before + _MARGIN]


def _percentages(path: str, result: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """(metric, untrained, trained); where nothing was detected, nothing was logged."""
    found = []
    for key, (metric, factor) in _METRICS.items():
        if metric == CONFIGS[path] or any(key in result[when] for when in ('before', 'after')):
            before, after = ((logged_value(result[when], key) or 0) * factor for when in ('before', 'after'))
            found.append((metric, before, after))
    return found


def _train(config: Path, work_dir: Path, options: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    untrained = work_dir / 'untrained.pth'
    _save_untrained(config, untrained)
    before = evaluate(config, untrained, work_dir / 'untrained', options)
    run_command('train', config, '--work-dir', work_dir, '--no-validate',
                *(['--cfg-options', *options] if options else []), log=work_dir / 'train.txt')
    checkpoint = last_checkpoint(work_dir)
    if checkpoint is None:
        raise ValueError(f'{config.name} left no checkpoint: see {work_dir / "train.txt"}.')
    return before, evaluate(config, checkpoint, work_dir / 'trained', options, show_dir=work_dir / 'pictures')


def _save_untrained(config: Path, file: Path) -> None:
    """Save a model as it is before training."""
    # mmengine lists how every tensor was initialised.
    MMLogger.get_instance('untrained', log_level='ERROR')
    model = build_model(Config.fromfile(config))
    torch.manual_seed(0)
    model.init_weights()
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.state_dict()), file)
