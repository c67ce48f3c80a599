# Cascade Mask R-CNN on the built-in data set; for what differs from the real config and why, see
# maskrcnn_focalnet_t_shapes.py.
_base_ = [
    './_base_/cascade_maskrcnn_focalnet.py', './_base_/shapes_instance.py', './_base_/schedule_1x.py',
    './_base_/shapes_thin.py'
]

group_norm = dict(type='GN', num_groups=16)
roi_extractor = dict(finest_scale=28, out_channels=64, roi_layer=dict(sampling_ratio=1))
sampler = dict(type='RandomSampler', num=32, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True)
model = dict(
    backbone=_base_.thin_backbone,
    neck=dict(in_channels=_base_.thin_channels, out_channels=64, norm_cfg=group_norm),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[6])),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=64,
                conv_out_channels=64,
                fc_out_channels=256,
                roi_feat_size=7,
                num_classes=5,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=stds),
                reg_class_agnostic=True,
                reg_decoded_bbox=True,
                norm_cfg=dict(type='BN'),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=2.0),
                loss_bbox=dict(type='GIoULoss', loss_weight=10.0))
            for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
        ],
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
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1),
                sampler=sampler,
                mask_size=28,
                pos_weight=-1,
                debug=False)
            for iou in (0.5, 0.6, 0.7)
        ]),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50)))

max_epochs = 6
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
