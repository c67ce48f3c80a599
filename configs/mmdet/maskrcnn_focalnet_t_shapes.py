# Mask R-CNN FocalNet-T on the built-in data set (`focalnet-mm shapes`), from scratch, in minutes on a CPU.
# Against maskrcnn_focalnet_t_1x.py, backbone and heads are thinner, the box head has convolutions and both heads
# share their masks and boxes among the classes, and GroupNorm is added: without pretrained weights it learns sooner so.
_base_ = ['./_base_/maskrcnn_focalnet.py', './_base_/shapes_instance.py', './_base_/schedule_1x.py']

group_norm = dict(type='GN', num_groups=16)
roi_extractor = dict(finest_scale=28, out_channels=64, roi_layer=dict(sampling_ratio=1))
model = dict(
    backbone=dict(
        embed_dims=48,
        depths=(2, 2, 1, 1),
        focal_windows=3,
        # Layers this narrow start too small with the paper's standard deviation of 0.02.
        init_cfg=dict(type='Xavier', layer='Linear', distribution='normal')),
    neck=dict(in_channels=[48, 96, 192, 384], out_channels=64, norm_cfg=group_norm),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[6])),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            in_channels=64,
            conv_out_channels=64,
            fc_out_channels=256,
            norm_cfg=dict(type='BN'),
            num_classes=5,
            reg_class_agnostic=True,
            loss_cls=dict(loss_weight=2.0)),
        mask_roi_extractor=roi_extractor,
        mask_head=dict(
            num_convs=2,
            in_channels=64,
            conv_out_channels=32,
            norm_cfg=group_norm,
            num_classes=5,
            class_agnostic=True)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50)))

max_epochs = 13
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
    logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=1), visualization=dict(score_thr=0.5))
randomness = dict(seed=0)
