"""Whole models of mmdet, mmseg and mmpretrain from checkpoints in any layout."""

from __future__ import annotations

import os
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from .files import read_checkpoint, read_rest
from .layouts import convert, detect_layout

__all__ = ['SCHEME', 'read_model']

#: Wherever OpenMMLab takes a checkpoint, ``focalnet://`` before a path, URL or name reads it with :func:`read_model`.
SCHEME = 'focalnet://'


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def read_model(source: str | os.PathLike, map_location: Any = None) -> dict[str, Any]:
    """A checkpoint as mmengine's runner loads it, its tensors renamed to those of mmdet, mmseg or mmpretrain.

    Official, timm's and transformers' classifiers become mmpretrain's, detrex's DINO becomes mmdet's; everything else
    stays as it is.

    Args:
        source: As :func:`~focalnet_mm.weights.read_checkpoint` takes it, with or without ``focalnet://`` before it.
        map_location: Not used: tensors are on the CPU until they are copied into a model.

    Returns:
        ``state_dict``, and ``meta``, in which checkpoints of training runs have the classes.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ValueError: The file is damaged, holds objects that could run code, or holds no tensors.
    """
    source = os.fspath(source).removeprefix(SCHEME)
    state_dict = read_checkpoint(source)
    if detect_layout(state_dict) not in ('mm', None):
        state_dict = convert(state_dict, 'mm')
    return dict(state_dict=state_dict, meta=read_rest(source)[0])
