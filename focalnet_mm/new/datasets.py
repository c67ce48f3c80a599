"""Pipelines, data loaders and metrics of a config for one's own data, by what is learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.own import Written
from .literals import Code

__all__ = ['dataset', 'eval_pipeline', 'in_project', 'metrics', 'train_pipeline']

_META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')


def dataset(written: Written, project: Path, pipeline: Any, test: bool) -> dict[str, Any]:
    """Settings of a data set.

    Args:
        written: Its files.
        project: The folder of the project, as it is named in paths of ``written``.
        pipeline: Its pipeline.
        test: Whether it is not trained on.

    Returns:
        Settings that name ``metainfo``, ``data_root`` and ``project``.
    """
    settings: dict[str, Any] = dict(
        _delete_=True, type=written.type, metainfo=Code('metainfo'), data_root=Code('data_root'),
        ann_file=in_project(written.ann_file, project),
        data_prefix={key: in_project(value, project) for key, value in written.data_prefix.items()},
        **written.settings, pipeline=pipeline)
    if test:
        settings['test_mode'] = True
    return settings


def in_project(path: str | Path, project: Path) -> str | Code:
    """A path as the config names it: from the project where it lies in it, so that the project can be moved."""
    slash = '/' if Path(path).is_dir() else ''
    if Path(path).is_absolute() and Path(path).is_relative_to(project):
        return Code(f'project + {Path(path).relative_to(project).as_posix() + slash!r}')
    return f'{path}{slash}' if Path(path).is_absolute() else str(path)


def metrics(task: str, written: Written, project: Path, classes: int) -> list[dict[str, Any]]:
    """The libraries' own metrics for a split.

    Args:
        task: What is learned.
        written: The split's files.
        project: As for :func:`dataset`.
        classes: Number of classes.
    """
    annotations = in_project(written.ann_file, project)
    if task in ('boxes', 'instances'):
        kinds = ['bbox', 'segm'] if task == 'instances' else 'bbox'
        return [dict(type='CocoMetric', ann_file=annotations, metric=kinds, format_only=False)]
    if task == 'panoptic':
        maps = in_project(written.data_prefix['seg'], project)
        # Unlike the data set the metric does not look below data_root.
        maps = maps if isinstance(maps, Code) or Path(maps).is_absolute() else Code(f'data_root + {maps!r}')
        return [dict(type='CocoPanopticMetric', ann_file=annotations, seg_prefix=maps)]
    if task == 'semantic':
        return [dict(type='IoUMetric', iou_metrics=['mIoU'])]
    if task == 'classes':
        return [dict(type='Accuracy', topk=(1, 5) if classes > 5 else (1,)), dict(type='SingleLabelMetric')]
    return [dict(type='AveragePrecision'), dict(type='MultiLabelMetric')]


def train_pipeline(task: str, fixed: bool, few: bool) -> list[dict[str, Any]]:
    """The steps from a picture to what is trained on.

    Args:
        task: What is learned, not classes of pictures.
        fixed: Whether the model wants pictures of one size, as Mask2Former does.
        few: Whether pictures are few, and are to differ more.

    Returns:
        Settings that name ``image_size``, of segmenters ``crop_size``.
    """
    jitter = dict(type='RandomResize', scale=Code('image_size'), ratio_range=Code('scale_range'), keep_ratio=True)
    flip = dict(type='RandomFlip', prob=0.5)
    colours = [dict(type='PhotoMetricDistortion')] if few else []
    if task == 'semantic':
        square = dict(type='RandomCrop', crop_size=Code('crop_size'), cat_max_ratio=0.75)
        return [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), jitter, square, flip, *colours,
                dict(type='PackSegInputs')]
    # As wide as high: pictures of both orientations come.
    size = Code('image_size' if fixed else '(image_size[0], image_size[0])')
    crop: list[dict[str, Any]] = [dict(type='RandomCrop', crop_type='absolute', crop_size=size,
                                       recompute_bbox=task != 'boxes', allow_negative_crop=True)]
    if fixed:
        crop.append(dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True))
    return [dict(type='LoadImageFromFile'), _loading(task, train=True), flip, jitter, *crop, *colours,
            dict(type='PackDetInputs')]


def eval_pipeline(task: str) -> list[dict[str, Any]]:
    """The steps from a picture to what is validated and tested on, as for :func:`train_pipeline`."""
    resize = dict(type='Resize', scale=Code('image_size'), keep_ratio=True)
    if task == 'semantic':
        return [dict(type='LoadImageFromFile'), resize, dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    return [dict(type='LoadImageFromFile'), resize, _loading(task, train=False),
            dict(type='PackDetInputs', meta_keys=_META)]


def _loading(task: str, train: bool) -> dict[str, Any]:
    if task == 'panoptic':
        wanted: Mapping[str, bool] = dict(with_bbox=True, with_mask=True, with_seg=True) if train else {}
        return dict(type='LoadPanopticAnnotations', **wanted)
    return dict(type='LoadAnnotations', with_bbox=True, **(dict(with_mask=True) if task == 'instances' else {}))
