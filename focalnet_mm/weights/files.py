"""A path or URL → a flat state dict on the CPU, read without running code from the file.

Importing this module also lets ``torch.load(weights_only=True)``, the default since torch 2.6, read the checkpoints
that mmengine's runner saves: next to tensors they hold the history of the logged values.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine import dist
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

__all__ = ['local_file', 'read_checkpoint']


def _statistic(owner: type, name: str) -> Callable:
    """Stands for ``getattr`` in a checkpoint: a history names its statistics, such as ``HistoryBuffer.mean``, by it."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {owner!r}, {name!r}')


# Exactly what a training checkpoint of mmengine 0.10 holds besides tensors and plain Python values. numpy 2 moved its
# reconstructors; files written beside numpy 1 carry the old name.
_RECONSTRUCTORS = [np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]]
torch.serialization.add_safe_globals([
    HistoryBuffer,
    (_statistic, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ('bool', 'int64', 'float32', 'float64')),
    *((function, f'numpy.{module}.multiarray.{function.__name__}')
      for function in _RECONSTRUCTORS for module in ('core', '_core')),
])

# The keys under which training code keeps the weights, in order of precedence.
_WRAPPERS = ('state_dict', 'model')


def local_file(source: str | os.PathLike) -> Path:
    """A local file for a path or URL; a URL is downloaded once into torch hub's folder of checkpoints.

    Args:
        source: Path, or URL that begins with ``http://`` or ``https://``.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: The download failed.
    """
    source = os.fspath(source)
    if not source.startswith(('http://', 'https://')):
        path = Path(source).expanduser()
        if not path.is_file():
            kind = 'is a folder' if path.is_dir() else 'does not exist'
            raise FileNotFoundError(f'The checkpoint {path} {kind}: give the path or URL of a checkpoint file.')
        return path

    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    path = folder / Path(urlparse(source).path).name
    # One process a node downloads; the file appears under its name only when it is whole.
    if not path.exists() and int(os.environ.get('LOCAL_RANK', 0)) == 0:
        folder.mkdir(parents=True, exist_ok=True)
        print_log(f'Downloading {source} to {path}', logger='current')
        try:
            torch.hub.download_url_to_file(source, str(path), progress=True)
        except (URLError, OSError) as error:
            raise ConnectionError(f'{source} could not be downloaded ({error}): check the URL and the connection, '
                                  f'or put the file at {path} yourself.') from error
    dist.barrier()
    return path


def read_checkpoint(source: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Reads what ``torch.save`` wrote, with ``weights_only=True``, and ``.safetensors``. The wrappers ``state_dict`` (as
    mmdet and mmseg write) and ``model`` (as the authors' classification code writes) are taken off.

    Args:
        source: Path or URL.

    Returns:
        Tensors on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: The download failed.
        ValueError: The file is damaged, holds objects that could run code, or holds no tensors.
    """
    path = local_file(source)
    checkpoint: Any
    if path.suffix == '.safetensors':
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        try:
            checkpoint = load_file(path)
        except SafetensorError as error:
            raise ValueError(f'The checkpoint {path} is not a whole safetensors file ({error}): get it again.') \
                from error
    else:
        try:
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
            raise ValueError(_why_unreadable(path, error)) from error

    for wrapper in _WRAPPERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
    tensors = {}
    if isinstance(checkpoint, Mapping):
        tensors = {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}
    if not tensors:
        held = ', '.join(map(str, list(checkpoint)[:5])) if isinstance(checkpoint, Mapping) else type(checkpoint)
        raise ValueError(f'The checkpoint {path} holds no tensors by name but {held or "nothing"}: expected a state '
                         f'dict, bare or under {" or ".join(map(repr, _WRAPPERS))}.')
    return tensors


def _why_unreadable(path: Path, error: Exception) -> str:
    refused = re.search(r'GLOBAL ([\w.]+)|Unsupported class (\S+)', str(error))
    if refused:
        return (f'The checkpoint {path} was not read: besides tensors it holds {refused[1] or refused[2]}, and '
                'unpickling that could run code; get a file of tensors only (safetensors, or saved from a state dict).')
    return (f'The checkpoint {path} ({path.stat().st_size} bytes) is damaged or not a PyTorch checkpoint: get it '
            'again.')
