"""Annotation files of somebody's data, as the libraries read them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .records import OwnData

__all__ = ['Written', 'write_annotations']


@dataclass(frozen=True)
class Written:
    """The files of a split, as a data set of the libraries wants them named."""

    #: ``'CocoDataset'``, ``'CocoPanopticDataset'`` (mmdet), ``'BaseSegDataset'`` (mmseg), ``'CustomDataset'`` or
    #: ``'MultiLabelDataset'`` (mmpretrain).
    type: str
    #: A folder above all pictures, absolute. Pictures in the files are named relative to it.
    data_root: Path
    #: ``ann_file`` of the data set, absolute.
    ann_file: Path
    #: ``data_prefix`` of the data set: relative to ``data_root`` for what lies below, else absolute.
    data_prefix: dict[str, str] = field(default_factory=dict)
    #: Further arguments of the data set: ``img_suffix``, ``seg_map_suffix``, ``reduce_zero_label``.
    settings: dict[str, Any] = field(default_factory=dict)
    #: Number of pictures.
    pictures: int = 0


def write_annotations(data: OwnData, folder: str | os.PathLike, task: str | None = None) -> dict[str, Written]:
    """Write what the data set classes of mmdet, mmseg and mmpretrain read; no picture is copied or moved.

    Args:
        data: The data; every picture has a split. Pictures without one are left out.
        folder: Where to, made whole or not at all; outside the data.
        task: One of :data:`~focalnet_mm.data.own.TASKS`, that of the data or one that follows from it: ``'boxes'``
            from ``'instances'``, those two and ``'semantic'`` from ``'panoptic'``, ``'semantic'`` from ``'instances'``.

    Returns:
        The files by split: ``'train'``, and ``'val'`` and ``'test'`` where there are such pictures.

    Raises:
        ValueError: The folder lies in the data, the task does not follow from it, or no picture has a split.
        FileExistsError: The folder holds something else.
    """
    raise NotImplementedError
