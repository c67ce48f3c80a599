# ATSS on the built-in data set, in minutes on a CPU: thinner backbone, neck and head.
_base_ = ['./_base_/atss_focalnet.py', './_base_/shapes_coco.py']

data_source = _base_.shapes_source
data_root = _base_.shapes_root
train_dataloader = _base_.box_train_dataloader
val_dataloader = _base_.box_val_dataloader
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

model = dict(
    backbone=_base_.thin_backbone,
    neck=dict(
        in_channels=_base_.thin_channels[1:], out_channels=64, norm_cfg=dict(type='GN', num_groups=16), num_outs=3),
    bbox_head=dict(
        num_classes=5,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=16),
        anchor_generator=dict(octave_base_scale=4, strides=[8, 16, 32])),
    test_cfg=dict(nms_pre=200))

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1e-3),
    clip_grad=dict(max_norm=10.0),
    # The heads have more norms than the authors'.
    paramwise_cfg=dict(norm_decay_mult=0.0))

default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=1), visualization=dict(score_thr=0.2))
randomness = dict(seed=0)
