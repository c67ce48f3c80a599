"""What a test draws, keeps and repeats."""

from __future__ import annotations

import copy
import inspect
import os
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS

from .config import class_of, evaluators, loaders, scope_of, single_datasets, type_name

__all__ = ['add_tta', 'draw_predictions', 'keep_predictions']


def draw_predictions(cfg: Config, folder: str | None, show: bool = False, wait_time: float = 2.0) -> None:
    """Let the library's visualisation hook draw every prediction of a test.

    Args:
        cfg: The config, changed in place.
        folder: Where the pictures go; ``None`` to write none.
        show: Whether to show them in a window.
        wait_time: How long to show each, in seconds.

    Raises:
        ValueError: The config has no visualisation hook.
    """
    hook: Any = (cfg.get('default_hooks') or {}).get('visualization')
    kind = class_of(cfg, hook, HOOKS, 'engine.hooks') if hook else None
    takes = set(inspect.signature(kind).parameters) if kind else set()
    if not takes & {'draw', 'enable'}:
        raise ValueError('--show and --show-dir need a visualization hook that draws predictions in the config\'s '
                         "default_hooks, for mmdet dict(type='DetVisualizationHook').")
    hook['draw' if 'draw' in takes else 'enable'] = True
    # mmdet joins a relative folder to the work dir, once more for every batch.
    folder = os.path.abspath(folder) if folder else None
    target = next((name for name in ('test_out_dir', 'out_dir') if name in takes), None)
    if show and 'show' not in takes:
        raise ValueError(f'--show: {type_name(hook)} does not show pictures in a window; use --show-dir.')
    if show:
        hook.update(show=True, wait_time=wait_time)
    if target is None and 'interval' in takes:
        # mmseg draws every fiftieth batch otherwise.
        hook.update(interval=1)
    if folder and target:
        hook[target] = folder
    elif folder:
        cfg.visualizer.save_dir = folder


def keep_predictions(cfg: Config, out: str) -> None:
    """Let a test write its predictions, in the form that the library's own tool gives them.

    Args:
        cfg: The config, changed in place.
        out: A ``.pkl`` file for mmdet and mmpretrain, a folder of label maps for mmseg.

    Raises:
        ValueError: ``out`` has another ending.
    """
    scope = scope_of(cfg)
    if isinstance(cfg.test_dataloader, list):
        raise ValueError(f'--out: the config tests on {len(cfg.test_dataloader)} data loaders in turn, each with '
                         'metrics of its own; give each of them a DumpResults in test_evaluator.')
    if scope == 'mmseg':
        for evaluator in evaluators(cfg, 'test'):
            evaluator.update(output_dir=out, keep_results=True)
        return
    if not out.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out must end in .pkl or .pickle, got {out}.')
    dump = dict(type='mmdet.DumpDetResults' if scope in ('mmdet', 'mmrotate') else 'mmengine.DumpResults',
                out_file_path=out)
    cfg.test_evaluator = [*evaluators(cfg, 'test'), dump]


def add_tta(cfg: Config) -> None:
    """Wrap the model in test-time augmentation: the config's own, or left-right flips.

    Args:
        cfg: The config, changed in place.

    Raises:
        ValueError: The library cannot merge what the model predicts.
    """
    predicts_masks = any('segm' in evaluator.get('metric', ()) or 'Panoptic' in type_name(evaluator)
                         for evaluator in evaluators(cfg, 'test'))
    scope = scope_of(cfg)
    if scope == 'mmdet' and predicts_masks:
        raise ValueError("--tta: mmdet's test-time augmentation merges boxes only, and this config predicts masks; "
                         'leave --tta out.')
    # mmdet registers its own at mmengine's root.
    tta_types = dict(mmdet='DetTTAModel', mmseg='mmseg.SegTTAModel', mmpretrain='mmpretrain.AverageClsScoreTTA')
    if 'tta_model' not in cfg:
        if scope not in tta_types:
            raise ValueError(f'--tta: {scope} has no test-time augmentation of its own; write tta_model and '
                             'tta_pipeline into the config, or leave --tta out.')
        cfg.tta_model = dict(type=tta_types[scope])
        if scope == 'mmdet':
            cfg.tta_model.tta_cfg = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    datasets = [dataset for loader in loaders(cfg, 'test') for dataset in single_datasets(loader.dataset)]
    if 'tta_pipeline' not in cfg:
        *steps, pack = copy.deepcopy(datasets[0].pipeline)
        if scope == 'mmdet':
            pack.meta_keys = (*pack.get('meta_keys', ()), 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        cfg.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    for dataset in datasets:
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
