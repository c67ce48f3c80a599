"""``python -m tests.helpers.own_table``: the table of forms and methods.

For each form of annotations, and a method that learns from it: the built-in data set is written in that form,
``focalnet-mm new`` makes a project of it with a thin model, which is trained for some steps on four pictures of 64
pixels and tested on them, beside the same model before.
"""

import argparse
import functools
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from mmengine.registry import DefaultScope

from focalnet_mm.data.shapes import write_dataset
from focalnet_mm.new.project import Options, write_project
from focalnet_mm.run.checks import build_runner
from focalnet_mm.run.config import load_config
from focalnet_mm.run.machine import fit_to_machine
from tests.helpers import formats
from tests.helpers.projects import CPU
from tests.helpers.tools import ROOT

SIZE = 64
_CONFIGS = ROOT / 'configs'
_CLASSIFIER = f"""
_base_ = {str(_CONFIGS / 'mmpretrain/focalnet_t_in1k.py')!r}
model = dict(
    backbone=dict(embed_dims=16, depths=(1, 1, 1, 1), drop_path_rate=0.0), head=dict(in_channels=128), train_cfg=None)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=64), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
"""
_SEVERAL = _CLASSIFIER + """
model['head'] = dict(_delete_=True, type='MultiLabelLinearClsHead', in_channels=128, num_classes=5)
val_evaluator = [dict(type='AveragePrecision')]
test_evaluator = val_evaluator
"""
_INSTANCES = f"""
_base_ = {str(_CONFIGS / 'mmdet/mask2former_focalnet_t_shapes_panoptic.py')!r}
model = dict(
    panoptic_head=dict(num_stuff_classes=0, loss_cls=dict(class_weight=[1.0] * 5 + [0.1])),
    panoptic_fusion_head=dict(num_stuff_classes=0), test_cfg=dict(panoptic_on=False))
steps = [dict(type='Resize', scale=(64, 64)), dict(type='PackDetInputs')]
loading = [dict(type='LoadImageFromFile', to_float32=True),
           dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
train_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=loading + steps))
val_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=loading + steps))
test_dataloader = val_dataloader
"""


class Method(NamedTuple):
    """What is trained, and how long."""

    #: A config, or its text.
    base: str
    task: str
    #: The beginning of the name of the metric.
    metric: str
    epochs: int
    rate: float = 1e-3


METHODS = {
    'atss': Method('mmdet/atss_focalnet_t_shapes.py', 'boxes', 'coco/bbox_mAP_50', 50),
    'sparsercnn': Method('mmdet/sparsercnn_focalnet_t_shapes.py', 'boxes', 'coco/bbox_mAP_50', 80, 2.5e-4),
    'dino': Method('mmdet/dino_focalnet_t_shapes.py', 'boxes', 'coco/bbox_mAP_50', 50),
    'maskrcnn': Method('mmdet/maskrcnn_focalnet_t_shapes.py', 'instances', 'coco/segm_mAP_50', 40),
    'cascade': Method('mmdet/cascade_maskrcnn_focalnet_t_shapes.py', 'instances', 'coco/segm_mAP_50', 40),
    'mask2former': Method('mmdet/mask2former_focalnet_t_shapes_panoptic.py', 'panoptic', 'coco_panoptic/PQ', 40),
    'mask2former of objects': Method(_INSTANCES, 'instances', 'coco/segm_mAP_50', 60),
    'upernet': Method('mmseg/upernet_focalnet_t_shapes.py', 'semantic', 'mIoU', 30),
    'classifier': Method(_CLASSIFIER, 'classes', 'accuracy/top1', 30),
    'classifier of several': Method(_SEVERAL, 'labels', 'multi-label/mAP', 30),
}
#: Form → what writes it of the sources of a folder of shapes.
FORMS = {
    'coco boxes': functools.partial(formats.write_coco, masks=None),
    'coco polygons': formats.write_coco,
    'coco run lengths': functools.partial(formats.write_coco, masks='runs'),
    'voc': formats.write_voc,
    'yolo boxes': formats.write_yolo,
    'yolo polygons': functools.partial(formats.write_yolo, masks=True),
    'labelme rectangles': functools.partial(formats.write_labelme, masks='boxes'),
    'labelme polygons': formats.write_labelme,
    'cvat boxes': functools.partial(formats.write_cvat, masks='boxes'),
    'cvat polygons': formats.write_cvat,
    'cvat masks': functools.partial(formats.write_cvat, masks='runs'),
    'labelstudio rectangles': functools.partial(formats.write_labelstudio, masks='boxes'),
    'labelstudio polygons': formats.write_labelstudio,
    'csv boxes': formats.write_csv,
    'csv classes': functools.partial(formats.write_csv, what='classes'),
    'csv several classes': functools.partial(formats.write_csv, what='labels'),
    'folders': formats.write_folders,
    'label maps': None,
    'coco panoptic': None,
}
CELLS = [
    *(('atss', form) for form in ('coco boxes', 'voc', 'yolo boxes', 'labelme rectangles', 'cvat boxes',
                                  'labelstudio rectangles', 'csv boxes')),
    *(('sparsercnn', form) for form in ('voc', 'yolo boxes')),
    *(('dino', form) for form in ('coco boxes', 'csv boxes')),
    *(('maskrcnn', form) for form in ('coco polygons', 'coco run lengths', 'yolo polygons', 'labelme polygons',
                                      'cvat masks', 'labelstudio polygons')),
    *(('cascade', form) for form in ('coco polygons', 'cvat polygons')),
    ('mask2former', 'coco panoptic'),
    *(('mask2former of objects', form) for form in ('coco polygons', 'labelme polygons')),
    *(('upernet', form) for form in ('label maps', 'coco polygons', 'labelme polygons', 'cvat polygons')),
    *(('classifier', form) for form in ('folders', 'csv classes')),
    ('classifier of several', 'csv several classes'),
]


class Cell(NamedTuple):
    """What came out: the metric before and after, in per cent, and seconds of processor time."""

    metric: str
    before: float
    after: float
    seconds: float


def measure(method, form, folder, epochs=None):
    """Write, make a project, test, train and test again.

    Args:
        method: Of :data:`METHODS`.
        form: Of :data:`FORMS`.
        folder: An empty one to work in.
        epochs: Passes over the pictures, by default the method's.
    """
    started, settings = time.process_time(), METHODS[method]
    write_dataset(folder / 'shapes', train=4, val=2, size=SIZE, seed=7)
    data = _written(form, folder)
    base = folder / 'base.py'
    base.write_text(settings.base if '\n' in settings.base else f'_base_ = {str(_CONFIGS / settings.base)!r}\n')
    options = Options(base=str(base), task=settings.task, weights='none', batch=4)
    project = write_project(data, folder / 'project', options, CPU, lambda line: None)

    def runner(name):
        DefaultScope._instance_dict.clear()
        # A runner draws a seed of its own where the config has none.
        changes = {'experiment_name': f'{folder} {name}', 'randomness.seed': 0}
        return build_runner(_short(load_config(str(project.config), changes), settings, epochs or settings.epochs))[0]
    untrained = runner('before')
    # A test alone leaves the boxes that Sparse R-CNN starts from as random numbers.
    untrained.model.init_weights()
    before = _metric(untrained.test(), settings.metric)
    run = runner('after')
    run.train()
    after = _metric(run.test(), settings.metric)
    return Cell(settings.metric.rsplit('/', 1)[-1], before, after, time.process_time() - started)


def _written(form, folder):
    if form == 'coco panoptic':
        return folder / 'shapes/coco'
    data = folder / 'data'
    data.mkdir()
    if form == 'label maps':
        formats.write_labelmaps(folder / 'shapes', data)
    else:
        FORMS[form](formats.in_one_piece(formats.truth(folder / 'shapes')), data)
    return data


def _short(cfg, settings, epochs):
    """A config that trains for a moment, and is tested on the pictures that it is trained on."""
    fit_to_machine(cfg)
    _to_size(cfg)
    # Test pictures are those of the training, with the steps of a test.
    names = {f'{kind}_val': f'{kind}_train' for kind in ('instances', 'panoptic')} | {
        '/val.txt': '/train.txt', '/val.json': '/train.json'}
    for part in ('test_dataloader', 'test_evaluator'):
        text = json.dumps(_plain(cfg[part]))
        for old, new in names.items():
            text = text.replace(old, new)
        cfg[part] = json.loads(text)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].update(num_workers=0, persistent_workers=False, batch_size=4)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=epochs + 1)
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=10)]
    cfg.optim_wrapper.optimizer.lr = settings.rate
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=epochs, by_epoch=True, save_last=False)
    cfg.default_hooks.logger.interval = 10**6
    cfg.default_hooks.pop('visualization', None)
    cfg.log_processor = dict(by_epoch=True)
    cfg.log_level = 'ERROR'
    cfg.visualizer = dict(type='Visualizer', vis_backends=[])
    return cfg


def _plain(value):
    """Lists and dicts without mmengine's own."""
    if hasattr(value, 'items'):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _to_size(value):
    """Resize to the pictures' own size wherever the shapes' configs resize to theirs."""
    children = value.values() if hasattr(value, 'values') else value if isinstance(value, (list, tuple)) else ()
    for child in children:
        _to_size(child)
    if hasattr(value, 'items'):
        for key in ('scale', 'size'):
            if isinstance(value.get(key), (list, tuple)) and tuple(value[key]) == (160, 160):
                value[key] = (SIZE, SIZE)


def _metric(found, name):
    if not found:
        # So mmdet's metric answers where no box is above the threshold.
        return 0.0
    value = next(float(value) for key, value in found.items() if key == name)
    return 100 * value if name.startswith('coco/') else value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', default='', help='cells whose "METHOD, FORM" holds this')
    parser.add_argument('--epochs', type=int, help='passes over the pictures')
    parser.add_argument('--write', choices=[form for form, write in FORMS.items() if write], metavar='FORM',
                        help='write data/shapes in this form below work_dirs/forms, and measure nothing')
    args = parser.parse_args()
    if args.write:
        folder = ROOT / 'work_dirs/forms' / args.write.replace(' ', '_')
        folder.mkdir(parents=True)
        FORMS[args.write](formats.truth(ROOT / 'data/shapes'), folder)
        print(folder)
        return
    logging.disable(logging.WARNING)
    print('| method | form | metric | untrained | trained | CPU seconds |\n|---|---|---|---|---|---|')
    for method, form in CELLS:
        if args.only in f'{method}, {form}':
            with tempfile.TemporaryDirectory() as folder:
                try:
                    cell = measure(method, form, Path(folder), args.epochs)
                except RuntimeError as error:
                    # One cell that diverges does not end the table.
                    print(f'| {method} | {form} | {str(error).splitlines()[0]} | | | |', flush=True)
                    continue
            print(f'| {method} | {form} | {cell.metric} | {cell.before:.1f} | {cell.after:.1f} | '
                  f'{cell.seconds:.0f} |', flush=True)


if __name__ == '__main__':
    main()
