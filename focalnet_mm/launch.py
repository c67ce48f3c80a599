"""What the command lines in ``tools/`` share: config, data and checkpoint are checked before anything is built."""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from .weights import SCHEME, local_file, read_model

__all__ = ['CheckClasses', 'ClassMismatchError', 'add_cfg_options', 'add_tta', 'build_model', 'check_checkpoint',
           'check_classes', 'check_data', 'check_folder', 'draw_predictions', 'fit_to_machine', 'keep_predictions',
           'load_config', 'load_model', 'parse_args', 'prepare_image', 'read_any_layout']

_AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')
# The last parts of the keys that name folders of label maps.
_LABEL_MAP_KEYS = ('seg', 'seg_prefix', 'seg_map_path')
# Heads whose num_classes is that of the data set, by their paths in the models of mmdet, mmseg and mmpretrain.
_HEADS = ('bbox_head', 'roi_head.bbox_head', 'roi_head.mask_head', 'panoptic_head', 'decode_head', 'auxiliary_head',
          'head')


class ClassMismatchError(ValueError):
    """A model and its data set have different classes."""


class CheckClasses(Hook):
    """Checks before training and testing that model, data set and annotations have the same classes.

    Annotations of no class at all end in other errors while they are loaded: see :func:`check_classes`.

    Raises:
        ClassMismatchError: They have not; says how many each has, and the way out.
    """

    def before_train(self, runner: Runner) -> None:
        self._check(runner, runner.train_dataloader.dataset, 'train')

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader.dataset, 'test')

    @staticmethod
    def _check(runner: Runner, dataset: Any, split: str) -> None:
        while hasattr(dataset, 'dataset'):
            dataset = dataset.dataset
        classes = dataset.metainfo.get('classes')
        if classes is None:
            return
        key = f'{split}_dataloader.dataset'
        if hasattr(dataset, 'cat_ids'):
            _check_annotated(dataset.ann_file, len(dataset.cat_ids), len(classes), key)
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        for path in _HEADS:
            for head in _modules(model, path):
                if hasattr(head, 'num_classes') and head.num_classes != len(classes):
                    raise ClassMismatchError(
                        f'model.{path} has {head.num_classes} classes, the data set of {key} has {len(classes)}: set '
                        f'num_classes of every head to {len(classes)}, or {key}.metainfo.classes to the classes that '
                        'the model has.')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, for :func:`load_config`.

    Args:
        parser: The tool's own arguments.
    """
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override settings of the config; data_root=DIR moves all data sets')


def parse_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse a command line, with the arguments that every tool for training and testing has.

    Args:
        parser: The tool's own arguments; ``--cfg-options`` and ``--launcher`` are added.

    Returns:
        The values of all arguments.
    """
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='job launcher')
    # Older launchers pass the rank as an argument, torchrun in the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(file: str, options: Mapping[str, Any] | None = None, work_dir: str | None = None,
                launcher: str = 'none') -> Config:
    """Read a config and settle what the command line says about it.

    Args:
        file: Path of the config.
        options: What ``--cfg-options`` says. A ``data_root`` moves the paths of all data sets and metrics that lie
            under the config's own ``data_root``; the other options are merged as they are.
        work_dir: Folder of logs and checkpoints; by default the config's, or ``work_dirs/NAME_OF_CONFIG``.
        launcher: Job launcher: none, pytorch, slurm or mpi.

    Returns:
        The config.

    Raises:
        FileNotFoundError: There is no such config.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f'The config {file} does not exist: give the path of a config file.')
    cfg = Config.fromfile(file)
    options = dict(options or {})
    if 'data_root' in options and cfg.get('data_root'):
        for key in list(cfg):
            if key.endswith(('_dataloader', '_evaluator')):
                _move(cfg[key], cfg.data_root, options['data_root'])
    cfg.merge_from_dict(options)
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or os.path.join('work_dirs', Path(file).stem)
    return cfg


def check_folder(folder: str | Path, force: bool) -> Path:
    """Check that nothing is in a folder that a tool writes to.

    Args:
        folder: The folder, which need not be there.
        force: Whether anything may be in it.

    Returns:
        Its path.

    Raises:
        FileExistsError: Something is, and may not.
    """
    folder = Path(folder)
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f'{folder} is not empty: name another folder, or add --force to replace files in it.')
    return folder


def check_data(cfg: Config, *splits: str) -> None:
    """Check that the annotation files and folders that a config names exist, and that label maps are in theirs.

    Args:
        cfg: The config. Its ``data_source``, if any, tells users where the data comes from.
        *splits: Which of ``train``, ``val`` and ``test``.

    Raises:
        FileNotFoundError: Something is missing; names it, the key that names it, and the way out.
    """
    missing: dict[str, str] = {}
    for split in splits:
        for key, path in _data_paths(cfg, split):
            if not os.path.exists(path):
                missing.setdefault(path, key)
    if missing:
        path, key = next(iter(missing.items()))
        others = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
        nested = _elsewhere(path, cfg.get('data_root'))
        if nested:
            raise FileNotFoundError(f'{path}, which {key} names, does not exist{others}, but the data lies in '
                                    f'{nested}: add --cfg-options data_root={nested}.')
        source = f'{cfg.data_source}; or ' if cfg.get('data_source') else ''
        raise FileNotFoundError(f'{path}, which {key} names, does not exist{others}: {source}point to your copy of '
                                'the data with --cfg-options data_root=DIR.')
    for split in splits:
        for key, path in _data_paths(cfg, split):
            if key.rsplit('.', 1)[-1] in _LABEL_MAP_KEYS and not any(
                    entry.name.endswith('.png') for entry in os.scandir(path)):
                raise FileNotFoundError(f'{path}, which {key} names, holds no .png file: the label maps belong there; '
                                        "for COCO panoptic, unpack the panoptic annotations' own archive, "
                                        f'{os.path.basename(os.path.normpath(path))}.zip, beside it.')


def check_classes(cfg: Config, *splits: str) -> None:
    """Check that annotation files in COCO's format have the classes that a config names, before they are loaded.

    Args:
        cfg: The config. Files of more than 64 MiB, which take long to read, are left to :class:`CheckClasses`.
        *splits: Which of ``train``, ``val`` and ``test``.

    Raises:
        ClassMismatchError: A file lacks classes.
    """
    for split in splits:
        if not cfg.get(f'{split}_dataloader'):
            continue
        key, dataset = f'{split}_dataloader.dataset', cfg[f'{split}_dataloader']['dataset']
        while 'dataset' in dataset:
            key, dataset = f'{key}.dataset', dataset['dataset']
        path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        classes = (dataset.get('metainfo') or {}).get('classes') or _default_meta(cfg, dataset).get('classes')
        if not path.endswith('.json') or not classes or not os.path.isfile(path) or os.path.getsize(path) > 1 << 26:
            continue
        names = {category['name'] for category in json.loads(Path(path).read_text()).get('categories', ())}
        _check_annotated(path, sum(name in names for name in classes), len(classes), key)


def fit_to_machine(cfg: Config) -> None:
    """Replace what needs a GPU where there is none, and say so: mixed precision, SyncBN and the NCCL backend.

    Args:
        cfg: The config, changed in place. With the launcher ``pytorch`` the processes are connected here.

    Raises:
        ValueError: There is no GPU and the launcher is slurm or mpi, which mmengine only starts on GPUs.
    """
    if get_device() in _AMP_DEVICES:
        return
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('type') == 'AmpOptimWrapper':
        wrapper['type'] = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        print_log('No GPU: training in float32, since mixed precision needs one.', logger='current')
    if _replace_sync_bn(cfg.get('model')):
        print_log('No GPU: SyncBN becomes BN, since it needs one.', logger='current')
    if cfg.launcher == 'none':
        return
    if cfg.launcher != 'pytorch':
        raise ValueError(f'--launcher {cfg.launcher} needs GPUs, and there is none: use --launcher pytorch.')
    # mmengine would select a CUDA device in both places; it leaves processes alone that are connected already.
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    print_log('No GPU: the processes talk through gloo, since NCCL needs one.', logger='current')


def read_any_layout(source: str) -> str:
    """Let mmengine read a checkpoint with :func:`~focalnet_mm.weights.read_model`.

    Args:
        source: Path, URL or name of a checkpoint of any layout; downloaded here.

    Returns:
        The source for ``load_from``. What mmengine's storage backends read stays as it is.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ModuleNotFoundError: A name on the Hugging Face Hub, and ``huggingface_hub`` is not installed.
    """
    if '://' in source and not source.startswith(('http://', 'https://', 'hf://')):
        return source
    local_file(source)
    return SCHEME + source


def check_checkpoint(model: nn.Module, source: str) -> None:
    """Check that a checkpoint holds every tensor of a model, since mmengine only warns where it does not.

    Args:
        model: The whole model, wrapped for distributed testing or test-time augmentation or not.
        source: As :func:`~focalnet_mm.weights.read_model` takes it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or a tensor of the model is missing in it or has another shape.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    _check_tensors(model, read_model(source)['state_dict'], source)


def build_model(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """The model of a config, in evaluation mode on the CPU.

    Args:
        cfg: The config.
        checkpoint: As :func:`~focalnet_mm.weights.read_model` takes it; without one the weights are what the config's
            ``init_cfg`` says.

    Returns:
        The model, with the classes of the checkpoint, or else of the data set, as its ``dataset_meta``.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It cannot be read, or is not of this config.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    settings = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor'):
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    _replace_sync_bn(settings)
    model = MODELS.build(settings)
    if checkpoint is None:
        model.init_weights()
        model.dataset_meta = _test_meta(cfg)
    else:
        load_model(model, cfg, checkpoint)
    return model.eval()


def load_model(model: nn.Module, cfg: Config, checkpoint: str) -> None:
    """Load a checkpoint into the model of a config, with the classes that it was trained for.

    Args:
        model: The model, changed in place. ``dataset_meta`` becomes that of the checkpoint, or, where it says nothing,
            that of the config's data set.
        cfg: The config.
        checkpoint: As :func:`~focalnet_mm.weights.read_model` takes it.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It cannot be read, or is not of this config.
    """
    read = read_model(checkpoint)
    _check_tensors(model, read['state_dict'], checkpoint)
    model.load_state_dict(read['state_dict'], strict=False)
    meta = {key.lower(): value for key, value in (read['meta'].get('dataset_meta') or {}).items()}
    model.dataset_meta = {**_test_meta(cfg), **{key: value for key, value in meta.items() if value is not None}}


def prepare_image(cfg: Config) -> Callable[[np.ndarray, str], dict[str, Any]]:
    """The test pipeline of a config, for images that are read already and have no annotations.

    Args:
        cfg: The config.

    Returns:
        (BGR image (H, W, 3) in uint8, its path) → batch of one, as the config's data loader gives it.

    Raises:
        ValueError: The config has no test data and with it no pipeline.
    """
    if not cfg.get('test_dataloader'):
        raise ValueError('The config has no test_dataloader, whose pipeline would prepare images.')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    pipeline = Compose([step for step in _innermost(cfg.test_dataloader.dataset).pipeline
                        if not step['type'].startswith('Load')])

    def prepare(image: np.ndarray, path: str) -> dict[str, Any]:
        data = pipeline(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], img_path=path, img_id=0))
        return pseudo_collate([data])

    return prepare


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
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise ValueError('--show and --show-dir need a visualization hook in the config\'s default_hooks, for mmdet '
                         "dict(type='DetVisualizationHook').")
    # mmdet joins a relative folder to the work dir, once more for every batch.
    folder = os.path.abspath(folder) if folder else None
    if cfg.default_scope == 'mmpretrain':
        hook.update(enable=True, show=show, wait_time=wait_time, out_dir=folder)
        return
    hook.update(draw=True)
    if show:
        hook.update(show=True, wait_time=wait_time)
    if cfg.default_scope == 'mmseg':
        # It draws every fiftieth batch otherwise.
        hook.update(interval=1)
    if folder and cfg.default_scope == 'mmseg':
        cfg.visualizer.save_dir = folder
    elif folder:
        hook.update(test_out_dir=folder)


def keep_predictions(cfg: Config, out: str) -> None:
    """Let a test write its predictions, in the form that the library's own tool gives them.

    Args:
        cfg: The config, changed in place.
        out: A ``.pkl`` file for mmdet and mmpretrain, a folder of label maps for mmseg.

    Raises:
        ValueError: ``out`` has another ending.
    """
    if cfg.default_scope == 'mmseg':
        for evaluator in _evaluators(cfg, 'test'):
            evaluator.update(output_dir=out, keep_results=True)
        return
    if not out.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out must end in .pkl or .pickle, got {out}.')
    dump = dict(type='DumpDetResults' if cfg.default_scope == 'mmdet' else 'DumpResults', out_file_path=out)
    cfg.test_evaluator = [*_evaluators(cfg, 'test'), dump]


def add_tta(cfg: Config) -> None:
    """Wrap the model in test-time augmentation: the config's own, or left-right flips.

    Args:
        cfg: The config, changed in place.

    Raises:
        ValueError: The library cannot merge what the model predicts.
    """
    predicts_masks = any('segm' in evaluator.get('metric', ()) or 'Panoptic' in evaluator['type']
                         for evaluator in _evaluators(cfg, 'test'))
    if cfg.default_scope == 'mmdet' and predicts_masks:
        raise ValueError("--tta: mmdet's test-time augmentation merges boxes only, and this config predicts masks; "
                         'leave --tta out.')
    tta_types = dict(mmdet='DetTTAModel', mmseg='SegTTAModel', mmpretrain='AverageClsScoreTTA')
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(type=tta_types[cfg.default_scope])
        if cfg.default_scope == 'mmdet':
            cfg.tta_model.tta_cfg = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    dataset = _innermost(cfg.test_dataloader.dataset)
    if 'tta_pipeline' not in cfg:
        *steps, pack = copy.deepcopy(dataset.pipeline)
        if cfg.default_scope == 'mmdet':
            pack.meta_keys = (*pack.get('meta_keys', ()), 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        cfg.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _move(node: Any, old: str, new: str) -> None:
    """Let the paths below ``old`` in a tree of dicts and lists begin with ``new``."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        if isinstance(value, str) and os.path.join(value, '').startswith(os.path.join(old, '')):
            node[key] = os.path.join(new, value[len(old):].lstrip('/'))
        else:
            _move(value, old, new)


def _check_annotated(path: str, found: int, classes: int, key: str) -> None:
    if found != classes:
        raise ClassMismatchError(f'{path} holds {found} of the {classes} classes that the data set has: name those '
                                 f'of your annotations in {key}.metainfo.classes.')


def _check_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    own = model.state_dict()
    missing = [name for name in own if name not in tensors]
    differing = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if missing:
        raise ValueError(f'The checkpoint {source} is not of this config: it lacks {len(missing)} of the model\'s '
                         f'{len(own)} tensors, the first is {missing[0]}.')
    if differing:
        name = differing[0]
        raise ValueError(f'The checkpoint {source} is not of this config: {len(differing)} of the model\'s {len(own)} '
                         f'tensors have other shapes, the first is {name}: {tuple(tensors[name].shape)} in the '
                         f'checkpoint, {tuple(own[name].shape)} in the model.')


def _innermost(dataset: Any) -> Any:
    """The settings of a data set without those that repeat or filter it."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _test_meta(cfg: Config) -> dict[str, Any]:
    """Classes, palette and so on of the data set for tests, as far as the config or the data set's type names them."""
    if not cfg.get('test_dataloader'):
        return {}
    dataset = _innermost(cfg.test_dataloader.dataset)
    return {**_default_meta(cfg, dataset), **(dataset.get('metainfo') or {})}


def _default_meta(cfg: Config, dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a data set's type says of its classes."""
    scope = cfg.get('default_scope', 'mmengine')
    with contextlib.suppress(ImportError):
        importlib.import_module(f'{scope}.datasets')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        found = registry.get(dataset.get('type', ''))
    return getattr(found, 'METAINFO', {})


def _elsewhere(path: str, root: str | None) -> str | None:
    """The folder just above or below ``root`` in which ``path``, which lies under ``root``, would exist."""
    if not root or not path.startswith(root):
        return None
    relative = path[len(root):].lstrip('/')
    above = os.path.dirname(os.path.normpath(root))
    below = sorted(entry.path for entry in os.scandir(root) if entry.is_dir()) if os.path.isdir(root) else []
    if not relative:
        return None
    return next((folder for folder in (*below, above) if os.path.exists(os.path.join(folder, relative))), None)


def _modules(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """What a path in a model leads to, one by one where that is a list."""
    part: Any = model
    for name in path.split('.'):
        part = getattr(part, name, None)
    if isinstance(part, nn.ModuleList):
        yield from part
    elif part is not None:
        yield part


def _replace_sync_bn(node: Any) -> bool:
    """Replace SyncBN in a tree of dicts and lists; returns whether there was any."""
    found = False
    if isinstance(node, dict):
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
            found = True
        children = node.values()
    else:
        children = node if isinstance(node, (list, tuple)) else ()
    for child in children:
        found |= _replace_sync_bn(child)
    return found


def _evaluators(cfg: Config, split: str) -> list[dict[str, Any]]:
    """The metrics of a split, of which a config may give none, one or a list."""
    evaluators = cfg.get(f'{split}_evaluator') or []
    return evaluators if isinstance(evaluators, list) else [evaluators]


def _data_paths(cfg: Config, split: str) -> Iterator[tuple[str, str]]:
    """(key in the config, path) of each local file and folder that a split reads."""
    loader = cfg.get(f'{split}_dataloader')
    if loader:
        yield from _dataset_paths(f'{split}_dataloader.dataset', loader['dataset'])
    for evaluator in _evaluators(cfg, split):
        for name in ('ann_file', 'seg_prefix'):
            if _is_local(evaluator.get(name)):
                yield f'{split}_evaluator.{name}', evaluator[name]


def _dataset_paths(key: str, dataset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if 'dataset' in dataset:
        yield from _dataset_paths(f'{key}.dataset', dataset['dataset'])
    for i, part in enumerate(dataset.get('datasets', ())):
        yield from _dataset_paths(f'{key}.datasets.{i}', part)
    root = dataset.get('data_root') or ''
    prefixes = dataset.get('data_prefix') or {}
    prefixes = {'data_prefix': prefixes} if isinstance(prefixes, str) else {
        f'data_prefix.{name}': prefix for name, prefix in prefixes.items()}
    for name, path in {'data_root': '', 'ann_file': dataset.get('ann_file'), **prefixes}.items():
        path = os.path.join(root, path) if path is not None else None
        if _is_local(path):
            yield f'{key}.{name}', path


def _is_local(path: str | None) -> bool:
    return bool(path) and '://' not in path
