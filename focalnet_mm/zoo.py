"""The model zoo: what the metafiles say of each config, beside what is measured here."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ['Row', 'Size', 'ToolError', 'build_model', 'evaluate', 'measure', 'read_zoo', 'run_tool', 'tables',
           'write_between_markers', 'write_json']

# As the published figures were counted: two-stage heads on this many boxes and masks.
_BOXES = 1000
_MASKS = 100


@dataclass(frozen=True)
class Row:
    """One model of the zoo.

    Attributes:
        name: The config's name without its ending.
        config: Path of the config, relative to the root of the zoo.
        collection: Name of the method.
        input_size: (H, W) in pixels of the published FLOPs.
        size: What the metafile says was measured.
        published_parameters: In millions, ``None`` where nobody published them.
        published_flops: In billions of multiply-adds at ``input_size``, or ``None``.
        results: Published results: data set → metric → value in percent.
        weights: URL of a public checkpoint of the whole model, or ``None``.
        weights_kind: What kind of file that is.
        note: Why measured and published differ, where they do.
    """

    name: str
    config: str
    collection: str
    input_size: tuple[int, int]
    size: Size
    published_parameters: float | None
    published_flops: float | None
    results: Mapping[str, Mapping[str, float]]
    weights: str | None
    weights_kind: str | None
    note: str | None


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        parameters: Number of parameters.
        flops: Number of multiply-adds in convolutions and matrix products for one image.
    """

    parameters: int
    flops: int


class ToolError(RuntimeError):
    """A command line of ``tools/`` failed."""


def read_zoo(root: str | Path) -> list[Row]:
    """Read the model index.

    Args:
        root: The folder that holds ``model-index.yml`` and ``configs``.

    Returns:
        All models, in the order of the index.

    Raises:
        FileNotFoundError: There is no model index.
    """
    root = Path(root)
    index = root / 'model-index.yml'
    if not index.is_file():
        raise FileNotFoundError(f'{index} does not exist: give the folder that holds model-index.yml and configs.')
    rows = []
    for metafile in yaml.safe_load(index.read_text())['Import']:
        for model in yaml.safe_load((root / metafile).read_text())['Models']:
            meta = model['Metadata']
            rows.append(Row(
                name=model['Name'],
                config=model['Config'],
                collection=model['In Collection'],
                input_size=tuple(int(side) for side in meta['Input size'].split('x')),
                size=Size(meta['Parameters'], meta['FLOPs']),
                published_parameters=meta.get('Parameters (M, published)'),
                published_flops=meta.get('FLOPs (G, published)'),
                results=_published(model.get('Results', ())),
                weights=model.get('Weights'),
                weights_kind=meta.get('Weights kind'),
                note=meta.get('Note')))
    return rows


def build_model(config: str | Path | Config) -> nn.Module:
    """Build a model of mmdet, mmseg or mmpretrain without memory for its weights.

    Args:
        config: A config or its path; its ``default_scope`` says which library builds it.

    Returns:
        The model on the meta device, in eval mode.
    """
    cfg = Config.fromfile(config) if not isinstance(config, Config) else config.copy()
    scope = cfg.default_scope
    importlib.import_module(f'{scope}.models')
    registry = importlib.import_module(f'{scope}.registry').MODELS
    previous = DefaultScope.get_current_instance()
    logger = MMLogger.get_current_instance()
    level = logger.level
    # Data preprocessors and norm layers announce themselves while they are built.
    logger.setLevel(logging.ERROR)
    try:
        DefaultScope.get_instance(f'zoo-{scope}-{id(cfg)}', scope_name=scope)
        with torch.device('meta'):
            return registry.build(cfg.model).eval()
    finally:
        logger.setLevel(level)
        DefaultScope.get_instance(f'zoo-after-{id(cfg)}', scope_name=previous.scope_name if previous else 'mmengine')


def measure(config: str | Path | Config, input_size: tuple[int, int]) -> Size:
    """Count the parameters and multiply-adds of a model, in seconds and without memory for its backbone.

    Operations are counted by :mod:`torch.utils.flop_counter`, which counts a multiply-add as two: convolutions and
    matrix products only. The heads of two-stage detectors run on 1000 boxes and 100 masks, as in mmdet's own counter,
    by which the published figures were made.

    Args:
        config: A config or its path.
        input_size: Height and width of the image in pixels.

    Returns:
        The size of the model.
    """
    model = build_model(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device('meta'):
        _run(model, torch.zeros(1, 3, *input_size))
    return Size(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


def run_tool(name: str, *arguments: str | Path, log: str | Path) -> None:
    """Run a command line that lies in ``tools/``, beside ``configs/``, in a process of its own.

    Args:
        name: ``train.py`` or ``test.py``.
        *arguments: Its arguments; the first is the config, whose place tells where the tools are.
        log: File that takes what it prints.

    Raises:
        ToolError: It failed; says the last line that it printed, and the log.
    """
    tools = Path(arguments[0]).resolve().parents[2] / 'tools'
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w') as stream:
        code = subprocess.run([sys.executable, str(tools / name), *map(str, arguments)], stdout=stream,
                              stderr=subprocess.STDOUT, check=False).returncode
    if code:
        lines = [line for line in log.read_text().splitlines() if line.strip()]
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
    run_tool('test.py', config, checkpoint, '--work-dir', work_dir, *(['--tta'] if tta else []),
             *(['--show-dir', show_dir] if show_dir else []), *(['--cfg-options', *options] if options else []),
             log=log)
    written = set(work_dir.glob('*/*.json')) - before
    if not written:
        raise ToolError(f'test.py logged no metrics (see {log})')
    return json.loads(max(written).read_text())


def write_json(file: str | Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = Path(f'{file}.partial')
    partial.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(partial, file)


def tables(rows: Iterable[Row]) -> str:
    """The zoo as Markdown: a table for each method, published results, sizes measured beside published.

    Args:
        rows: The models.

    Returns:
        The tables, ending in a newline.
    """
    rows = list(rows)
    parts = []
    notes: dict[str, int] = {}
    for collection in dict.fromkeys(row.collection for row in rows):
        members = [row for row in rows if row.collection == collection]
        metrics = list(dict.fromkeys(metric for row in members for result in row.results.values() for metric in result))
        sizes = dict.fromkeys(f'{row.input_size[0]}×{row.input_size[1]}' for row in members)
        header = ['config', 'params (M)', 'published', f'FLOPs (G) at {" or ".join(sizes)}', 'published', *metrics,
                  'weights']
        lines = [f'**{collection}**', '', _line(header), _line(['---'] * len(header))]
        for row in members:
            mark = ''
            if row.note:
                mark = f' ({notes.setdefault(row.note, len(notes) + 1)})'
            values = {metric: value for result in row.results.values() for metric, value in result.items()}
            lines.append(_line([
                f'[`{row.name}`]({row.config}){mark}',
                *_beside(row.size.parameters / 1e6, row.published_parameters, 2),
                *_beside(row.size.flops / 1e9, row.published_flops, 1),
                *(f'{values[metric]:.1f}' if metric in values else '' for metric in metrics),
                f'[{row.weights_kind}]({row.weights})' if row.weights else '']))
        parts.append('\n'.join(lines) + '\n')
    if notes:
        parts.append('\n'.join(f'({number}) {note}' + '  ' for note, number in notes.items()) + '\n')
    return '\n'.join(parts)


def write_between_markers(file: str | Path, name: str, text: str) -> bool:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in a file.

    Args:
        file: The file.
        name: The name in the markers.
        text: What to put there.

    Returns:
        Whether the file changed.

    Raises:
        ValueError: The markers are not there.
    """
    file = Path(file)
    old = file.read_text()
    start, end = f'<!-- {name} -->\n', f'<!-- /{name} -->'
    if start not in old or end not in old:
        raise ValueError(f'{file} lacks the lines {start.strip()} and {end}: put them where the table belongs.')
    new = old[:old.index(start) + len(start)] + text + old[old.index(end):]
    if new != old:
        file.write_text(new)
    return new != old


def _published(results: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for result in results:
        for metric, value in result['Metrics'].items():
            found.setdefault(result['Dataset'], {})[metric.removesuffix(' (published)')] = value
    return found


def _line(cells: Iterable[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _beside(measured: float, published: float | None, digits: int) -> tuple[str, str]:
    if published is None:
        return f'{measured:.{digits}f}', ''
    return f'{measured:.{digits}f}', f'{published:g} ({measured / published - 1:+.1%})'


def _run(model: nn.Module, images: torch.Tensor) -> None:
    """Let a model on the meta device do what it does for an image, without what depends on the image's content."""
    kind = type(model).__name__
    if kind == 'ImageClassifier':
        model(images)
        return
    features = model.backbone(images)
    head = getattr(model, 'decode_head', None) or getattr(model, 'panoptic_head', None)
    if kind == 'DINO' or type(head).__name__ == 'Mask2FormerHead':
        # Their attention reads sizes and points from tensors, which have no content on the meta device.
        with torch.device('cpu'):
            _run_transformer(model, head, [torch.zeros(feature.shape) for feature in features], images)
        return
    if model.with_neck:
        features = model.neck(features)
    if kind == 'EncoderDecoder':
        head(features)
    elif kind == 'SparseRCNN':
        boxes, channels = model.rpn_head.num_proposals, model.neck.out_channels
        for stage in model.roi_head.bbox_head:
            stage(torch.zeros(boxes, channels, 7, 7), torch.zeros(1, boxes, channels))
    elif hasattr(model, 'roi_head'):
        model.rpn_head(features)
        channels = model.neck.out_channels
        for heads, shape in ((model.roi_head.bbox_head, (_BOXES, channels, 7, 7)),
                             (model.roi_head.mask_head, (_MASKS, channels, 14, 14))):
            for stage in heads if isinstance(heads, nn.ModuleList) else [heads]:
                stage(torch.zeros(shape))
    else:
        model.bbox_head(features)


def _run_transformer(model: nn.Module, head: nn.Module | None, features: list[torch.Tensor],
                     images: torch.Tensor) -> None:
    from mmdet.structures import DetDataSample
    for name, child in model.named_children():
        if name != 'backbone':
            child.to_empty(device='cpu')
            for tensor in (*child.parameters(), *child.buffers()):
                tensor.zero_()
    size = tuple(images.shape[-2:])
    samples = [DetDataSample(metainfo=dict(img_shape=size, batch_input_shape=size, pad_shape=size))]
    if head is not None:
        head(features, samples)
        return
    model.level_embed = nn.Parameter(torch.zeros(model.level_embed.shape))
    results = model.forward_transformer(model.neck(features), samples)
    model.bbox_head(results['hidden_states'], results['references'])
