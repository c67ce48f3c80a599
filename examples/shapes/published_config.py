# maskrcnn t on 400 train + 100 val pictures.
# Written by `focalnet-mm new`, which never writes over what you change here.
_base_ = './_base_/maskrcnn_focalnet_t_1x.py'

project = "{{ fileDirname }}/"  # this folder, wherever it is moved to
data_root = project + 'pictures/'  # the pictures stay here; --cfg-options data_root=DIR moves it
work_dir = project + 'work_dir'

classes = ('circle', 'square', 'triangle', 'star', 'cross')
num_classes = len(classes)
palette = [(242, 97, 97), (36, 96, 242), (134, 178, 71), (242, 36, 217), (97, 242, 218)]  # colours in RGB
metainfo = dict(classes=classes, palette=palette)

image_size = (384, 384)  # short side of pictures 192 px, of the smallest tenth of objects 39 px
scale_range = (0.5, 1.5)  # of image_size, in training: few pictures
batch_size = 2  # no GPU was found
num_workers = 2  # processes that load pictures, as there are CPU cores
lr = 1.25e-05  # 0.0001 for a batch of 16, scaled to 2
max_epochs = 90  # 400 pictures for new heads: fewer pictures, more passes
val_interval = 9  # epochs between validations, and checkpoints
warmup = 500  # steps until the learning rate is reached
# No whole model of this kind is public. The backbone starts from
# https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_tiny_lrf.pth

model = dict(roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=scale_range, keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=(image_size[0], image_size[0]),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    _delete_=True,
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset',
        metainfo=metainfo,
        data_root=data_root,
        ann_file=project + 'annotations/instances_train.json',
        data_prefix=dict(img=''),
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    _delete_=True,
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        metainfo=metainfo,
        data_root=data_root,
        ann_file=project + 'annotations/instances_val.json',
        data_prefix=dict(img=''),
        pipeline=test_pipeline,
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

# No GPU was found: write 'AmpOptimWrapper' on one, for mixed precision.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=lr))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=val_interval)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup),
    dict(type='CosineAnnealingLR', begin=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(by_epoch=True, interval=val_interval, max_keep_ckpts=3))
log_processor = dict(by_epoch=True)
randomness = dict(seed=0)
