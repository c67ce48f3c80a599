"""What a config needs and this machine lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from .config import type_name

__all__ = ['fit_to_machine', 'replace_sync_bn']

_AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')


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
    if type_name(wrapper) == 'AmpOptimWrapper':
        wrapper['type'] = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        print_log('No GPU: training in float32, since mixed precision needs one.', logger='current')
    if replace_sync_bn(cfg.get('model')):
        print_log('No GPU: SyncBN becomes BN, since it needs one.', logger='current')
    if cfg.launcher == 'none':
        return
    if cfg.launcher != 'pytorch':
        raise ValueError(f'--launcher {cfg.launcher} needs GPUs, and there is none: use --launcher pytorch.')
    # mmengine would select a CUDA device in both places; it leaves processes alone that are connected already.
    torch.distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg')
    if wrapper and type_name(wrapper) != 'MMDistributedDataParallel':
        print_log(f'No GPU: model_wrapper_cfg is MMDistributedDataParallel in place of {type_name(wrapper)}.',
                  logger='current')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    print_log('No GPU: the processes talk through gloo, since NCCL needs one.', logger='current')


def replace_sync_bn(node: Any) -> bool:
    """Replace SyncBN in a tree of dicts and lists; returns whether there was any."""
    found = False
    children: Iterable[Any] = ()
    if isinstance(node, dict):
        if type_name(node) in ('SyncBN', 'SyncBatchNorm'):
            node['type'] = 'BN'
            found = True
        children = node.values()
    elif isinstance(node, (list, tuple)):
        children = node
    for child in children:
        found |= replace_sync_bn(child)
    return found
