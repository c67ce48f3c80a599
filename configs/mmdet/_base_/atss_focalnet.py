# ATSS on a FocalNet, 36 epochs: the recipe of coco_instance.py and schedule_3x.py without masks.
_base_ = ['mmdet::atss/atss_r50_fpn_1x_coco.py', './multiscale_crop.py']

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_source = 'download COCO 2017 (train2017, val2017 and annotations) from https://cocodataset.org/#download'

# The pyramid starts at stride 8: a first output of the backbone would go unused.
model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='tiny-lrf',
        focal_windows=(11, 9, 9, 7),
        out_indices=(1, 2, 3),
        drop_path_rate=0.3),
    neck=dict(in_channels=[192, 384, 768], start_level=0))

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    _base_.multiscale_crop,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # The authors go by names: `gn` of the head decays.
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0))))
