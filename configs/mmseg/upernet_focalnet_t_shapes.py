# UPerNet on the built-in data set, in minutes on a CPU: thinner backbone and heads.
_base_ = ['./_base_/upernet_focalnet.py', '../mmdet/_base_/shapes_thin.py', '../mmdet/_base_/shapes_classes.py']

data_source = _base_.shapes_source
data_root = 'data/shapes/ade/ADEChallengeData2016'
metainfo = dict(classes=_base_.thing_classes + _base_.stuff_classes, palette=_base_.palette)

crop_size = (160, 160)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Resize', scale=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=crop_size),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
# ADE20KDataset only accepts classes of ADE20K.
dataset = dict(
    type='BaseSegDataset', img_suffix='.jpg', seg_map_suffix='.png', reduce_zero_label=True, data_root=data_root,
    metainfo=metainfo)
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader

norm_cfg = dict(type='GN', num_groups=16)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=_base_.thin_backbone,
    decode_head=dict(in_channels=_base_.thin_channels, channels=64, num_classes=9, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=9, norm_cfg=norm_cfg))

max_iters = 2000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))

default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
randomness = dict(seed=0)
