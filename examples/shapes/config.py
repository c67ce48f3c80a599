# maskrcnn_focalnet_t_shapes on 400 train + 100 val pictures.
# Written by `focalnet-mm new`, which never writes over what you change here.
_base_ = './_base_/maskrcnn_focalnet_t_shapes.py'

project = "{{ fileDirname }}/"  # this folder, wherever it is moved to
data_root = project + 'pictures/'  # the pictures stay here; --cfg-options data_root=DIR moves it
work_dir = project + 'work_dir'

classes = ('circle', 'square', 'triangle', 'star', 'cross')
num_classes = len(classes)
palette = [(242, 97, 97), (36, 96, 242), (134, 178, 71), (242, 36, 217), (97, 242, 218)]  # colours in RGB
metainfo = dict(classes=classes, palette=palette)

load_from = None  # from scratch, as asked for

model = dict(roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)))

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CocoDataset',
        metainfo=metainfo,
        data_root=data_root,
        ann_file=project + 'annotations/instances_train.json',
        data_prefix=dict(img=''),
        pipeline=_base_.train_dataloader.dataset.pipeline,
    ),
)

val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CocoDataset',
        metainfo=metainfo,
        data_root=data_root,
        ann_file=project + 'annotations/instances_val.json',
        data_prefix=dict(img=''),
        pipeline=_base_.val_dataloader.dataset.pipeline,
        test_mode=True,
    ),
)

val_evaluator = [
    dict(
        type='CocoMetric',
        ann_file=project + 'annotations/instances_val.json',
        metric=['bbox', 'segm'],
        format_only=False,
    ),
]

test_dataloader = val_dataloader
test_evaluator = val_evaluator
