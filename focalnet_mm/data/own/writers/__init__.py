"""Annotation files of somebody's data, as the libraries read them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...made import changed_files, files_below, read_marker, replace_made, write_marker
from ..classes import as_task
from ..records import SPLITS, OwnData, Picture
from . import boxes, lists, maps, segments

__all__ = ['Written', 'write_annotations']

_MARKER = 'annotations.json'
_VERSION = 1


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


_WRITERS = dict(boxes=('CocoDataset', boxes.write), instances=('CocoDataset', boxes.write),
                panoptic=('CocoPanopticDataset', segments.write),
                semantic=('BaseSegDataset', maps.write),
                classes=('CustomDataset', lists.write_classes),
                labels=('MultiLabelDataset', lists.write_labels))


def write_annotations(data: OwnData, folder: str | os.PathLike, task: str | None = None) -> dict[str, Written]:
    """Write what the data set classes of mmdet, mmseg and mmpretrain read; no picture is copied or moved.

    Args:
        data: The data; every picture has a split. Pictures without one are left out.
        folder: Where to, made whole or not at all; outside the data. What this function wrote there before is replaced
            where nobody has changed it.
        task: One of :data:`~focalnet_mm.data.own.TASKS`, that of the data or one that follows from it, as
            :func:`as_task` makes it, which also tells its classes.

    Returns:
        The files by split: ``'train'``, and ``'val'`` and ``'test'`` where there are such pictures.

    Raises:
        ValueError: The folder lies in the data, the task does not follow from it, no picture has a split, or a picture
            or annotation is such that the libraries cannot read it.
        FileExistsError: The folder holds something else, or what somebody has changed.
    """
    data = as_task(data, task or data.task)
    folder = Path(os.path.abspath(folder))
    if folder.resolve().is_relative_to(data.root.resolve()):
        raise ValueError(f'{folder} lies in the folder of the data, {data.root}, to which nothing is written: name '
                         'another one.')
    by_split = {split: found for split in SPLITS
                if (found := [picture for picture in data.pictures if picture.split == split])}
    if not by_split:
        raise ValueError('No picture has a split: call split_data or read_split first.')
    _check(data, [picture for pictures in by_split.values() for picture in pictures])
    _check_folder(folder)
    root = _common_root(data, by_split)
    kind, write = _WRITERS[data.task]
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
    try:
        written = {}
        for split, pictures in by_split.items():
            ann_file, data_prefix, settings = write(data, pictures, root, partial, split)
            written[split] = Written(kind, root, folder / ann_file, {
                key: str(folder / value) if (partial / value).is_dir() and value else value
                for key, value in data_prefix.items()}, settings, len(pictures))
        _place(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return written


def _check(data: OwnData, pictures: Sequence[Picture]) -> None:
    """See that what is written can be read."""
    unreadable = [picture.path for picture in pictures if not picture.height]
    if unreadable:
        raise ValueError(f'{len(unreadable)} annotated pictures are not there or cannot be read, {unreadable[0]} among '
                         'them: leave them out with --fix missing,unreadable.')
    other = [picture.path for picture in pictures for annotation in picture.annotations
             if isinstance(annotation.segmentation, dict)
             and tuple(annotation.segmentation['size']) != (picture.height, picture.width)]
    if other and data.task != 'boxes':
        raise ValueError(f'{len(other)} masks have another size than their pictures, {other[0]} among them: mend them '
                         'with --fix size,exif.')
    bad = [(picture.path, annotation.box) for picture in pictures for annotation in picture.annotations
           if any(value != value or abs(value) == float('inf') for value in annotation.box)]
    if bad and data.task in ('boxes', 'instances', 'panoptic'):
        raise ValueError(f'{len(bad)} boxes are not finite, {bad[0][1]} in {bad[0][0]} among them: leave them out with '
                         '--fix nan.')


def _check_folder(folder: Path) -> None:
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    made = read_marker(folder / _MARKER)
    if made is None or made.files is None:
        raise FileExistsError(f'{folder} holds something else than annotations that were written here: choose another '
                              'folder.')
    changed = next(changed_files(folder, made, 'digests', _digest), None)
    if changed:
        raise FileExistsError(f'{folder / changed} was changed since it was written: choose another folder, or '
                              'remove it if it is not needed.')


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _place(partial: Path, folder: Path) -> None:
    """Put what was written into its place."""
    files = files_below(partial)
    # Label maps are many, and nobody edits them by hand.
    digests = {name: _digest(partial / name) for name in sorted(files) if not name.endswith('.png')}
    write_marker(partial / _MARKER, dict(version=_VERSION, digests=digests), files)
    partial.chmod(0o755)
    if folder.exists():
        replace_made(folder, partial, _MARKER)
    else:
        partial.rename(folder)


def _common_root(data: OwnData, by_split: dict[str, list[Picture]]) -> Path:
    """The data's folder, or one above it where pictures lie elsewhere."""
    paths = [picture.path for pictures in by_split.values() for picture in pictures]
    if all(path.is_relative_to(data.root) for path in paths):
        return data.root
    return Path(os.path.commonpath([data.root, *(path.parent for path in paths)]))

