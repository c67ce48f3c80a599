# Sparse R-CNN on the built-in data set, in minutes on a CPU: thinner, with 30 proposals and 3 stages.
_base_ = ['./_base_/sparsercnn_focalnet.py', './_base_/shapes_coco.py']

data_source = _base_.shapes_source
data_root = _base_.shapes_root
train_dataloader = _base_.box_train_dataloader
val_dataloader = _base_.box_val_dataloader
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

num_stages = 3
num_proposals = 30
channels = 64
model = dict(
    backbone=_base_.thin_backbone,
    neck=dict(in_channels=_base_.thin_channels, out_channels=channels, norm_cfg=dict(type='GN', num_groups=16)),
    rpn_head=dict(num_proposals=num_proposals, proposal_feature_channel=channels),
    roi_head=dict(
        num_stages=num_stages,
        stage_loss_weights=[1] * num_stages,
        proposal_feature_channel=channels,
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=[
            dict(
                type='DIIHead',
                num_classes=5,
                num_ffn_fcs=2,
                num_heads=8,
                num_cls_fcs=1,
                num_reg_fcs=3,
                feedforward_channels=4 * channels,
                in_channels=channels,
                dropout=0.0,
                ffn_act_cfg=dict(type='ReLU', inplace=True),
                dynamic_conv_cfg=dict(
                    type='DynamicConv',
                    in_channels=channels,
                    feat_channels=32,
                    out_channels=channels,
                    input_feat_shape=7,
                    act_cfg=dict(type='ReLU', inplace=True),
                    norm_cfg=dict(type='LN')),
                loss_bbox=dict(type='L1Loss', loss_weight=5.0),
                loss_iou=dict(type='GIoULoss', loss_weight=2.0),
                loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    clip_border=False,
                    target_means=[0.0] * 4,
                    target_stds=[0.5, 0.5, 1.0, 1.0])) for _ in range(num_stages)
        ]),
    train_cfg=dict(rcnn=_base_.model.train_cfg.rcnn[:num_stages]),
    test_cfg=dict(rcnn=dict(max_per_img=num_proposals)))

max_epochs = 10
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(norm_decay_mult=0.0))

default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=1), visualization=dict(score_thr=0.4))
randomness = dict(seed=0)
