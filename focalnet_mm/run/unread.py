"""Keys of a config that nothing reads, such as ``load_form`` or ``optimizer.lr``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

__all__ = ['leaves', 'unread_keys']

# What mmengine's runners and the tools of mmdet, mmseg, mmpretrain and this package read at the top of a config.
_READ = {
    'activation_checkpointing', 'auto_scale_lr', 'compile', 'custom_hooks', 'custom_imports', 'data_preprocessor',
    'data_root', 'data_source', 'default_hooks', 'default_scope', 'efficient_conv_bn_eval', 'env_cfg',
    'experiment_name', 'find_unused_parameters', 'init_weights_for_test_or_val', 'launcher', 'load_from', 'log_level',
    'log_processor', 'model', 'model_wrapper_cfg', 'optim_wrapper', 'param_scheduler', 'randomness', 'resume',
    'runner_type', 'strategy', 'sync_bn', 'test_cfg', 'test_dataloader', 'test_evaluator', 'train_cfg',
    'train_dataloader', 'tta_model', 'tta_pipeline', 'val_cfg', 'val_dataloader', 'val_evaluator', 'visualizer',
    'work_dir'}
# What took the place of keys of mmdet 2, mmseg 0 and mmpretrain's predecessor.
_OLD = {
    'checkpoint_config': 'default_hooks.checkpoint', 'data': 'train_dataloader, val_dataloader and test_dataloader',
    'dist_params': 'env_cfg.dist_cfg', 'evaluation': 'train_cfg.val_interval and val_evaluator',
    'fp16': 'optim_wrapper.type=AmpOptimWrapper', 'log_config': 'default_hooks.logger', 'lr_config': 'param_scheduler',
    'optimizer': 'optim_wrapper.optimizer', 'optimizer_config': 'optim_wrapper.clip_grad',
    'resume_from': 'load_from with resume=True', 'runner': 'train_cfg', 'seed': 'randomness.seed',
    'total_epochs': 'train_cfg.max_epochs'}
_OLD_LEAVES = {'samples_per_gpu': 'batch_size', 'workers_per_gpu': 'num_workers'}
_CLOSE, _CLOSEST = 0.85, 0.93
_MOST = 3


def unread_keys(cfg: Config, options: Mapping[str, Any]) -> list[str]:
    """The keys that neither the runner nor a tool reads, as far as they look like mistakes.

    A file may hold variables of its own, so of it only those are told that all but are a key. An option of the command
    line is there to be read.

    Args:
        cfg: The config, options merged.
        options: What ``--cfg-options`` said, by dotted keys.

    Returns:
        A sentence about each, with the key that was meant as far as one is near.
    """
    told = [_told(key, cfg) for key in options if key.partition('.')[0] not in _READ]
    named = {key.partition('.')[0] for key in options}
    for key in cfg:
        # Pipelines and parts of a config often have names that resemble a key.
        close = _CLOSEST if isinstance(cfg[key], (Mapping, list, tuple)) else _CLOSE
        near = difflib.get_close_matches(key, _READ, n=1, cutoff=close) or [
            known for known in _READ if _is_slip(key, known)]
        # mmdet's own configs have `_data_root` and `data_root_07`, which are no mistakes.
        if key not in _READ and key not in named and near and not (
                key.startswith(f'{near[0]}_') or key.endswith(f'_{near[0]}')):
            told.append(_told(key, cfg))
    return told


def _is_slip(key: str, known: str) -> bool:
    """Whether one letter is another one, or two letters have changed places."""
    places = [i for i, (first, second) in enumerate(zip(key, known)) if first != second]
    if len(key) != len(known) or not (key + known).replace('_', '').isalpha():
        return False
    return len(places) == 1 or (len(places) == 2 and places[1] == places[0] + 1 and (
        key[places[0]], key[places[1]]) == (known[places[1]], known[places[0]]))


def _told(key: str, cfg: Config) -> str:
    advice = _advice(key, cfg)
    known = 'neither the runner nor a tool' if advice == '.' else 'nothing'
    # A hook of one's own may ask for it.
    return f'{known} reads {key}{advice if advice != "." else ": it is there for code of your own alone."}'


def _advice(key: str, cfg: Config) -> str:
    first, _, rest = key.partition('.')
    leaf = key.rpartition('.')[2]
    leaf = _OLD_LEAVES.get(leaf, leaf)
    found = [path for path, _ in leaves(cfg) if path.rpartition('.')[2] == leaf and path != key]
    # The one that ends as the key does.
    found.sort(key=lambda path: not path.endswith(f'.{key}'))
    near = difflib.get_close_matches(first, _READ, n=1, cutoff=_CLOSE)
    if near:
        return f': did you mean {near[0]}{"." if rest else ""}{rest}?'
    if found:
        return f': did you mean {", ".join(found[:_MOST])}{" or another one" if len(found) > _MOST else ""}?'
    return f': {_OLD[first]} took its place.' if first in _OLD else '.'


def leaves(cfg: Config) -> Iterator[tuple[str, Any]]:
    """The dotted keys of all values below the keys of a config that are read, each with its value."""
    for key in cfg:
        if key in _READ:
            yield from _below(key, cfg[key])


def _below(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    items: Any = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield f'{path}.{key}', value
        yield from _below(f'{path}.{key}', value)
