"""Whole models of mmdet, mmseg and mmpretrain from checkpoints in any layout.

Importing this module also lets mmengine load from a path what its own runner saved: its loader calls ``torch.load``,
which since torch 2.6 refuses the history of logged values and the arrays beside the weights.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from .files import is_safetensors, read_checkpoint, read_parts
from .layouts import convert, detect_layout, idea_dino, uncompiled, without_outer
from .pickles import load_pickle

__all__ = ['LAST_STEP', 'SCHEME', 'read_model', 'trained_classes', 'unwrapped']

#: Wherever OpenMMLab takes a checkpoint, ``focalnet://`` before a path, URL or name reads it with :func:`read_model`.
SCHEME = 'focalnet://'
#: The part of a checkpoint that holds the weights of the last step beside averaged ones.
LAST_STEP = 'ema_state_dict'
# What distributed training puts before each name.
_DISTRIBUTED = re.compile(r'^(module\.)+')


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names of the model itself, without what wraps it for distributed training or is compiled.

    Args:
        tensors: Tensors by name.

    Returns:
        The same tensors; by the old names where two would get one name.
    """
    renamed = {_DISTRIBUTED.sub('', uncompiled(name)): tensor for name, tensor in tensors.items()}
    return renamed if len(renamed) == len(tensors) else dict(tensors)


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any) -> Any:
    """What mmengine loads from a path, read without running code from the file.

    Args:
        filename: The path.
        map_location: As ``torch.load`` takes it.

    Returns:
        What the file holds; of a safetensors file what :func:`read_model` gives.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or holds objects that could run code.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'The checkpoint {path} does not exist: give the path of a checkpoint file.')
    # Not mapped: a run that goes on writes over its checkpoints.
    return read_model(path) if is_safetensors(path) else load_pickle(path, map_location, mmap=False)


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def read_model(source: str | os.PathLike, map_location: Any = None) -> dict[str, Any]:
    """A checkpoint as mmengine's runner loads it, its tensors renamed to those of mmdet, mmseg or mmpretrain.

    Official, timm's and transformers' classifiers become mmpretrain's; detrex's and FocalNet-DINO's DINO and mmdet 2's
    Mask2Former become mmdet 3's; of everything else only what wraps the whole model is taken off, see
    :func:`unwrapped`, and a prefix that all names have, as Lightning's ``model.``.

    Args:
        source: As :func:`~focalnet_mm.weights.read_checkpoint` takes it, with or without ``focalnet://`` before it.
        map_location: Not used: tensors are on the CPU until they are copied into a model.

    Returns:
        ``state_dict``, and ``meta``, in which checkpoints of training runs have the classes; so has that of
        FocalNet-DINO's, whose rows tell the data set, where mmdet is installed. What else the file of a model of these
        libraries holds is there too, for hooks: such as ``ema_state_dict``, in which mmengine's ``EMAHook`` writes the
        weights of the last step, while ``state_dict`` has the averaged ones.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ValueError: The file is damaged, holds objects that could run code, or holds no tensors.
    """
    source = os.fspath(source).removeprefix(SCHEME)
    state_dict = without_outer(unwrapped(read_checkpoint(source)))
    parts = read_parts(source)
    layout = detect_layout(state_dict)
    if layout == 'idea-dino':
        parts['meta'] = {**_meta_of(idea_dino.data_set(state_dict)), **parts['meta']}
    if layout not in ('mm', None):
        return dict(state_dict=convert(state_dict, 'mm'), meta=parts['meta'])
    if isinstance(parts.get(LAST_STEP), Mapping):
        parts[LAST_STEP] = _averaging(parts[LAST_STEP])
    return dict(parts, state_dict=state_dict)


def _averaging(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What mmengine's averaged model saves, its module by the names that :func:`unwrapped` gives."""
    module = {name: tensor for name, tensor in tensors.items() if name.startswith('module.')}
    return {**{name: tensor for name, tensor in tensors.items() if name not in module},
            **{f'module.{name}': tensor for name, tensor in unwrapped(module).items()}}


def _meta_of(data_set: str | None) -> dict[str, Any]:
    """The classes of one of mmdet's data sets as its runner notes them."""
    # Asking for it loads mmdet.
    kind = DATASETS.get(f'mmdet.{data_set}') if data_set and importlib.util.find_spec('mmdet') else None
    return {} if kind is None else {'dataset_meta': {'classes': kind.METAINFO['classes']}}


def trained_classes(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of the classes that its model was trained for.

    Args:
        meta: What :func:`read_model` gives as ``meta``.

    Returns:
        ``classes``, ``palette`` and so on, as far as they are noted; the names of classes in a list or tuple.
    """
    noted = meta.get('dataset_meta')
    # The capitals are those of mmdet 2 and mmseg 0.
    both = [{key: meta[key] for key in ('CLASSES', 'PALETTE') if key in meta},
            noted if isinstance(noted, Mapping) else {}]
    known = {str(key).lower(): value.tolist() if isinstance(value, np.ndarray) else value
             for each in both for key, value in each.items() if value is not None}
    # mmdet 2 trained on ('ship'), which is no tuple, as on one class.
    return {key: (value,) if key.endswith('classes') and isinstance(value, str) else value
            for key, value in known.items()}
