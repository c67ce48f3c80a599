"""Detection: a small RetinaNet, and one method each where the data asks for another."""

import json

import numpy as np

from .common import RUN, SIZE, box_of, in_classes, loader, picture, text, write

COUNTS = {'train': 4, 'val': 2}
NAMES = ('box', 'ball', 'cone')


def detector(classes, channels=3):
    return f'''
model = dict(
    type='RetinaNet', backbone=backbone,
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[9.0] * {channels}, std=[50.0] * {channels},
                           bgr_to_rgb={channels == 3}, pad_size_divisor=32),
    neck=dict(type='FPN', in_channels=[16, 32], out_channels=8, num_outs=2),
    bbox_head=dict(type='RetinaHead', num_classes={classes}, in_channels=8, stacked_convs=1, feat_channels=8,
                   anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
                                         strides=[8, 16]),
                   bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
                   loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.4, neg_iou_thr=0.3, min_pos_iou=0,
                                 ignore_iof_thr=-1), sampler=dict(type='PseudoSampler'), allowed_border=-1,
                   pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0.001, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=20))
'''


def steps(train, load=None, **annotations):
    return [load or dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', **{'with_bbox': True, **annotations}),
            *([dict(type='RandomFlip', prob=0.5)] if train else []),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]


def config(train, val, evaluator, classes=3, channels=3, load=None, extra='', model=None, **annotations):
    def finished(dataset, is_train):
        if 'dataset' in dataset:
            return {**dataset, 'dataset': finished(dataset['dataset'], is_train)}
        if 'datasets' in dataset:
            return {**dataset, 'datasets': [finished(part, is_train) for part in dataset['datasets']]}
        pipeline = steps(is_train, load, **annotations)
        if not is_train:
            pipeline.insert(1, dict(type='Resize', scale=(SIZE, SIZE), keep_ratio=True))
        return {**dataset, 'pipeline': pipeline, **({} if is_train else {'test_mode': True})}
    return RUN.format(channels=channels, indices=(1, 2), scope='mmdet') + (
        model or detector(classes, channels)) + text(
        train_dataloader=loader(finished(train, True), True), val_dataloader=loader(finished(val, False), False, 1),
        test_dataloader=loader(finished(val, False), False, 1), val_evaluator=evaluator, test_evaluator=evaluator,
    ) + extra


def fill(root, image='{split}/{i}.jpg', **form):
    """Pictures; returns (file name, box, label) by split."""
    found = {split: [] for split in COUNTS}
    for split, count in COUNTS.items():
        for i in range(count):
            path = image.format(split=split, i=i)
            picture(root / path, i, box_of(i), **form)
            found[split].append((path, box_of(i), i % len(NAMES)))
    return found


def coco_content(items, names=NAMES, **more):
    annotations = [dict(id=i + 1, image_id=i + 1, category_id=label + 1, bbox=list(box), area=box[2] * box[3],
                        iscrowd=0, segmentation=[polygon(box)], **more) for i, (_, box, label) in enumerate(items)]
    return dict(images=[dict(id=i + 1, file_name=name, width=SIZE, height=SIZE)
                        for i, (name, _, _) in enumerate(items)],
                categories=[dict(id=i + 1, name=name) for i, name in enumerate(names)], annotations=annotations)


def polygon(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def coco_sets(root, image='{split}/{i}.jpg', names=NAMES, kind='CocoDataset', classes=NAMES, form=None, **settings):
    for split, items in fill(root, image, **(form or {})).items():
        write(root / f'{split}.json', coco_content(items, names))
    meta = dict(metainfo=dict(classes=classes)) if classes else {}
    return [dict(type=kind, data_root=str(root), ann_file=f'{split}.json', data_prefix=dict(img=''), **meta,
                 **settings) for split in COUNTS]


def coco_metric(root, **settings):
    return dict(type='CocoMetric', ann_file=str(root / 'val.json'), metric='bbox', **settings)


def coco(root):
    return config(*coco_sets(root), coco_metric(root))


def some_of_the_classes(root):
    return config(*coco_sets(root, classes=('ball', 'cone')), coco_metric(root), classes=2)


def one_class(root):
    return config(*coco_sets(root, classes=('cone',)), coco_metric(root), classes=1)


def classes_in_a_file(root):
    classes = str(write(root / 'classes.txt', '\n'.join(NAMES)))
    return config(*coco_sets(root, classes=classes), coco_metric(root))


def eighty_classes(root):
    from mmdet.datasets import CocoDataset
    return config(*coco_sets(root, names=CocoDataset.METAINFO['classes'], classes=None), coco_metric(root), classes=80)


def objects365(root):
    from mmdet.datasets import Objects365V2Dataset
    names = Objects365V2Dataset.METAINFO['classes']
    sets = coco_sets(root, names=names, classes=None, kind='Objects365V2Dataset')
    return config(*sets, coco_metric(root), classes=365)


def city_scenes(root):
    """Instances of Cityscapes in COCO's format."""
    from mmdet.datasets import CityscapesDataset
    names = CityscapesDataset.METAINFO['classes']
    sets = coco_sets(root, names=names, classes=None, kind='CityscapesDataset')
    return config(*sets, coco_metric(root), classes=len(names))


def voc(root):
    for split, items in fill(root, 'VOC2007/JPEGImages/{split}{i}.jpg').items():
        names = [path.rpartition('/')[2][:-4] for path, _, _ in items]
        write(root / f'VOC2007/ImageSets/Main/{split}.txt', '\n'.join(names))
        for name, (_, (x, y, w, h), label) in zip(names, items):
            write(root / f'VOC2007/Annotations/{name}.xml', f'''<annotation><size><width>{SIZE}</width>
<height>{SIZE}</height><depth>3</depth></size><object><name>{('cat', 'dog', 'cow')[label]}</name>
<difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>
</object></annotation>''')
    sets = [dict(type='VOCDataset', data_root=str(root), ann_file=f'VOC2007/ImageSets/Main/{split}.txt',
                 data_prefix=dict(sub_data_root='VOC2007/')) for split in COUNTS]
    return config(*sets, dict(type='VOCMetric', metric='mAP', eval_mode='11points'), classes=20)


def openmmlab_json(root):
    for split, items in fill(root).items():
        write(root / f'{split}.json', dict(metainfo=dict(classes=NAMES), data_list=[dict(
            img_path=path, img_id=i, height=SIZE, width=SIZE, instances=[dict(
                bbox=[x, y, x + w, y + h], bbox_label=label, ignore_flag=0)])
            for i, (path, (x, y, w, h), label) in enumerate(items)]))
    sets = [dict(type='BaseDetDataset', data_root=str(root), ann_file=f'{split}.json', metainfo=dict(classes=NAMES),
                 data_prefix=dict(img_path='')) for split in COUNTS]
    return config(*sets, dict(type='VOCMetric', metric='mAP', eval_mode='11points'))


def lvis(root):
    import pytest
    pytest.importorskip('lvis')
    from mmdet.datasets import LVISV1Dataset
    names = LVISV1Dataset.METAINFO['classes']
    train, val = coco_sets(root, names=names, classes=None, kind='LVISV1Dataset')
    for split in COUNTS:
        content = json.loads((root / f'{split}.json').read_text())
        for image in content['images']:
            image.update(coco_url=f'http://images.cocodataset.org/{image["file_name"]}', neg_category_ids=[],
                         not_exhaustive_category_ids=[])
        write(root / f'{split}.json', content)
    return config(train, val, dict(type='LVISMetric', ann_file=str(root / 'val.json'), metric='bbox'),
                  classes=len(names))


def joined(root):
    train, val = coco_sets(root)
    return config(dict(type='ConcatDataset', datasets=[train, dict(train)]), val, coco_metric(root))


def repeated(root):
    train, val = coco_sets(root)
    return config(dict(type='RepeatDataset', times=2, dataset=train), val, coco_metric(root))


def balanced(root):
    train, val = coco_sets(root)
    return config(dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=train), val, coco_metric(root))


def with_pictures_without_labels(root):
    """As semi-supervised training joins them; the file of those has no categories."""
    train, val = coco_sets(root)
    content = json.loads((root / 'train.json').read_text())
    write(root / 'unlabelled.json', dict(images=content['images'], annotations=[], categories=[]))
    return config(dict(type='ConcatDataset', datasets=[train, {**train, 'ann_file': 'unlabelled.json'}]), val,
                  coco_metric(root))


def mixed(root):
    """Mosaic over a data set within a data set."""
    train, val = coco_sets(root)
    whole = config(train, val, coco_metric(root))
    return whole + '''
_train = train_dataloader['dataset']
_pack = _train['pipeline'].pop()
train_dataloader['dataset'] = dict(
    type='MultiImageMixDataset', dataset=_train,
    pipeline=[dict(type='Mosaic', img_scale=(64, 64), pad_val=0), dict(type='Resize', scale=(64, 64)), _pack])
del _train, _pack
'''


def in_memory(root):
    """Pictures and annotations from a storage backend that a user registered."""
    train, val = coco_sets(root)
    own = f'own_backend_{abs(hash(str(root)))}'
    write(root / f'{own}.py', f'''
from pathlib import Path
from mmengine.fileio import LocalBackend, register_backend

FILES = {{str(path.relative_to({str(root)!r})): path.read_bytes()
          for path in Path({str(root)!r}).rglob('*') if path.is_file()}}
for split in ('train', 'val'):
    for path in (Path({str(root)!r}) / split).iterdir():
        path.unlink()


class Memory(LocalBackend):
    def get(self, filepath):
        return FILES[str(filepath).partition('://')[2]]


register_backend('{own}', Memory, prefixes='{own}', force=True)
''')
    for dataset in (train, val):
        dataset.update(data_prefix=dict(img=f'{own}://'))
    extra = (f"import sys\nsys.path.insert(0, {str(root)!r})\n"
             f"custom_imports = dict(imports=['focalnet_mm', {own!r}], allow_failed_imports=False)\ndel sys\n")
    load = dict(type='LoadImageFromFile', backend_args=dict(backend=own))
    return config(train, val, coco_metric(root), load=load, extra=extra)


def grey_of_16_bits(root):
    sets = coco_sets(root, '{split}/{i}.png', form=dict(channels=1, dtype=np.uint16))
    load = dict(type='LoadImageFromFile', color_type='unchanged', to_float32=True)
    return config(*sets, coco_metric(root), channels=1, load=load)


def four_channels(root):
    sets = coco_sets(root, '{split}/{i}.png', form=dict(channels=4))
    return config(*sets, coco_metric(root), channels=4, load=dict(type='LoadImageFromFile', color_type='unchanged'))


def pure_python(root):
    return in_classes(coco(root), {
        'mmdet.datasets': ('CocoDataset',), 'mmdet.datasets.transforms': ('LoadAnnotations', 'PackDetInputs'),
        'mmdet.evaluation': ('CocoMetric',), 'mmdet.models': ('FPN', 'DetDataPreprocessor', 'RetinaHead', 'RetinaNet')})


def annotations_elsewhere(root):
    train, val = coco_sets(root)
    return config({**train, 'ann_file': 'nowhere.json'}, val, coco_metric(root))


def pictures_elsewhere(root):
    train, val = coco_sets(root)
    return config({**train, 'data_prefix': dict(img='nowhere/')}, val, coco_metric(root))


def pictures_to_validate_elsewhere(root):
    train, val = coco_sets(root)
    return config(train, {**val, 'data_prefix': dict(img='nowhere/')}, coco_metric(root))


def another_number_of_classes(root):
    return config(*coco_sets(root), coco_metric(root), classes=5)


def another_order_of_classes(root):
    return config(*coco_sets(root, classes=('cone', 'ball', 'box')), coco_metric(root))


def classes_the_annotations_lack(root):
    return config(*coco_sets(root, classes=('box', 'tree', 'cone')), coco_metric(root))


def classes_without_a_comma(root):
    return config(*coco_sets(root, classes='cone'), coco_metric(root), classes=4)


CASES = (coco, some_of_the_classes, one_class, classes_in_a_file, eighty_classes, objects365, city_scenes, voc,
         openmmlab_json, lvis, joined, repeated, balanced,
         with_pictures_without_labels, mixed, in_memory, grey_of_16_bits, four_channels,
         pure_python, annotations_elsewhere, pictures_elsewhere, pictures_to_validate_elsewhere,
         another_number_of_classes, another_order_of_classes, classes_the_annotations_lack, classes_without_a_comma)
