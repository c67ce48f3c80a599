"""Exported files on a config's validation set, by the config's own metrics, beside PyTorch."""

from __future__ import annotations

import copy
import functools
import numbers
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from rich.progress import Progress

from ..backbone.focalnet import find_backbone
from ..data.pictures import read_image
from ..run.build import load_model
from ..run.config import evaluators, loaders, registry_scope
from .parts import exportable
from .pasting import pasted
from .runtime import Runtime

__all__ = ['Checked', 'check_files', 'checked_table']


# What computes on the GPU that torch calls cuda.
_ON_THE_GPU = ('cuda', 'tensorrt')


class Checked(NamedTuple):
    """What one way of computing a model gives on the validation set."""

    #: The file, or how PyTorch computes.
    name: str
    #: Bytes of the file with its weights, or of the model's tensors.
    size: int
    #: Median seconds a picture, without loading; a file resizes it within that time, PyTorch's pipeline before it.
    seconds: float
    #: The metrics, as the config's evaluator names them.
    metrics: dict[str, float]


def check_files(cfg: Config, checkpoint: str, files: Sequence[str | Path], compiled: bool = False,
                provider: str = 'cpu') -> list[Checked]:
    """Evaluate a model in PyTorch and exported files of it, with a progress bar.

    Args:
        cfg: The model's config, with a validation set.
        checkpoint: As :func:`~focalnet_mm.weights.read_model` takes it.
        files: What was exported of it, with preprocessing inside.
        compiled: Whether to evaluate PyTorch with its backbone compiled, too.
        provider: Where the files compute, one that :class:`~focalnet_mm.deploy.Runtime` takes. PyTorch computes on
            the GPU beside those that do, else on the CPU.

    Returns:
        PyTorch first, then the files in order.

    Raises:
        ValueError: The config has no validation set or several, or says nothing of where its pictures are; a file is
            of another task, or has no masks where they are measured; or there is no such provider.
        FileNotFoundError: There is no such file.
    """
    settings = loaders(cfg, 'val')
    if len(settings) != 1:
        raise ValueError(f'The config has {len(settings)} val_dataloaders, and --check evaluates on one: name a config '
                         'with a val_dataloader and a val_evaluator.')
    # What is wrong with a file is said before a model is built. Both compute with as many threads.
    runtimes = [Runtime(file, (provider,), torch.get_num_threads()) for file in files]
    model: Any = load_model(cfg, checkpoint).to('cuda' if provider.lower() in _ON_THE_GPU else 'cpu')
    task = exportable(model, 'model', 'onnx').facts.get('task')
    for runtime in runtimes:
        _check_fit(runtime, task, evaluators(cfg, 'val'))
    init_default_scope(registry_scope(cfg))
    loader = Runner.build_dataloader(copy.deepcopy(settings[0]), seed=0)
    bytes_of_model = sum(tensor.nbytes for tensor in model.state_dict().values())
    rows: list[Checked] = []
    with Progress() as progress, tempfile.TemporaryDirectory() as folder:
        def evaluate(name: str, size: int, predict: Callable[[Any], Sequence[Any]]) -> None:
            task = progress.add_task(name, total=len(loader))
            evaluator = _evaluator(cfg, loader.dataset, Path(folder) / str(len(rows)))
            rows.append(Checked(name, size, *_evaluated(predict, loader, evaluator,
                                                        lambda: progress.advance(task))))

        evaluate('PyTorch', bytes_of_model, model.val_step)
        if compiled:
            find_backbone(model).compile()
            evaluate('PyTorch, backbone compiled', bytes_of_model, model.val_step)
        for runtime in runtimes:
            evaluate(runtime.file.name, _size(runtime.file), functools.partial(_predicted, runtime))
    return rows


def _check_fit(runtime: Runtime, task: str | None, metrics: Sequence[Any]) -> None:
    """Check that a file returns what is measured, before the model is evaluated."""
    if task is not None and runtime.task != task:
        raise ValueError(f'{runtime.file} is of a model for {runtime.task}, and the config is of one for {task}: name '
                         'the config that it was exported of.')
    wanted = {name for metric in metrics for name in np.atleast_1d(metric.get('metric') or [])}
    if 'segm' in wanted and not {'masks', 'roi_masks'} & set(runtime.outputs):
        raise ValueError(f'{runtime.file} returns no masks, which the val_evaluator of the config measures: export it '
                         "with masks, or add --cfg-options val_evaluator.metric=bbox.")


def checked_table(rows: Sequence[Checked]) -> str:
    """What was found as a Markdown table: the metrics that are numbers, and the difference of each from PyTorch's."""
    names = [name for name, value in rows[0].metrics.items() if isinstance(value, numbers.Real)]
    lines = [f'| | MB | ms a picture | {" | ".join(names)} |', f'|{" --- |" * (3 + len(names))}']
    for row in rows:
        cells = []
        for name in names:
            value, beside = row.metrics[name], rows[0].metrics[name]
            cells.append(f'{value:.4g}' if row is rows[0] else f'{value:.4g} ({value - beside:+.4f})')
        lines.append(f'| {row.name} | {row.size / 1e6:.1f} | {row.seconds * 1e3:.0f} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _evaluator(cfg: Config, dataset: Any, folder: Path) -> Evaluator:
    """The config's metrics, which write what they write into a folder of their own."""
    metrics = copy.deepcopy(evaluators(cfg, 'val'))
    if not metrics:
        raise ValueError('The config has no val_evaluator, which --check measures with.')
    for metric in metrics:
        # mmdet's metric of panoptic maps keeps them beside its results.
        for key in ('outfile_prefix', 'output_dir', 'out_file_path'):
            if metric.get(key):
                metric[key] = str(folder / Path(metric[key]).name)
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = dataset.metainfo
    return evaluator


def _evaluated(predict: Callable[[Any], Sequence[Any]], loader: Any, evaluator: Evaluator,
               advance: Callable[[], Any]) -> tuple[float, dict[str, float]]:
    seconds = []
    for batch in loader:
        started = time.perf_counter()
        with torch.no_grad():
            samples = predict(batch)
        seconds += [(time.perf_counter() - started) / len(samples)] * len(samples)
        evaluator.process(data_samples=samples, data_batch=batch)
        advance()
    return float(np.median(seconds)), evaluator.evaluate(len(loader.dataset))


def _predicted(runtime: Runtime, batch: Any) -> list[Any]:
    """The data samples of a batch with what a file predicts of their pictures."""
    samples = [copy.copy(sample) for sample in batch['data_samples']]
    turned = bool(runtime.facts['preprocess']['loader'].get('turned', True))
    pictures = []
    for sample in samples:
        path = _path(sample)
        if path is None:
            raise ValueError("The samples of the validation set do not say where their pictures are: add 'img_path' to "
                             'the meta_keys of the last step of its pipeline.')
        pictures.append(np.ascontiguousarray(read_image(path, turned)[..., ::-1]))
    for sample, picture, found in zip(samples, pictures, runtime(pictures)):
        if 'roi_masks' in found:
            found['masks'] = pasted(found['roi_masks'], found['boxes'], picture.shape[:2],
                                    runtime.facts['mask_threshold'])
        _fill(sample, {name: torch.from_numpy(np.asarray(value)) for name, value in found.items()}, runtime.task)
    return samples


def _path(sample: Any) -> str | None:
    """Where a sample's picture is; one of several tasks has it in the samples of those."""
    parts = (part for part in sample.values() if isinstance(part, BaseDataElement))
    found: str | None = sample.metainfo.get('img_path')
    return found or next(filter(None, map(_path, parts)), None)


def _of_task(sample: Any, names: Sequence[str]) -> Any:
    """The sample of a task within that of a picture, as mmpretrain's ``MultiTaskHead`` leaves it."""
    for i, name in enumerate(names):
        # Where nothing is known of a task, there is nothing to measure.
        known = name in sample
        if not known:
            sample.set_field(type(sample)() if i + 1 < len(names) else _new_sample(), name)
        sample = sample.get(name)
        sample.set_field(known, 'eval_mask', field_type='metainfo')
    return sample


def _new_sample() -> Any:
    from mmpretrain.structures import DataSample
    return DataSample()


def _fill(sample: Any, found: dict[str, torch.Tensor], task: str) -> None:
    """Put a prediction where the libraries' metrics look for it."""
    if 'boxes' in found:
        kept = dict(boxes='bboxes', scores='scores', labels='labels', masks='masks')
        sample.pred_instances = InstanceData(**{own: found[name] for name, own in kept.items() if name in found})
    if task == 'panoptic':
        sample.pred_panoptic_seg = PixelData(sem_seg=found['segments'][None])
    elif task == 'segmentation':
        sample.pred_sem_seg = PixelData(data=found['label_map'][None])
    elif task == 'classification':
        for name, scores in found.items():
            output, *tasks = name.split('.')
            if output != 'scores':
                continue
            of_task = _of_task(sample, tasks)
            of_task.set_pred_score(scores).set_pred_label(scores.argmax(dim=0, keepdim=True))


def _size(file: Path) -> int:
    beside = file.with_name(f'{file.name}.data')
    return file.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)
