# Mask2Former on the built-in data set, in minutes on a CPU: thinner, with fewer layers and queries.
_base_ = ['./mask2former_focalnet_l_100e_panoptic.py', './_base_/shapes_coco.py']

data_source = _base_.shapes_source
data_root = _base_.shapes_root
train_dataloader = _base_.panoptic_train_dataloader
val_dataloader = _base_.panoptic_val_dataloader
test_dataloader = val_dataloader
annotations = data_root + 'annotations/'
val_evaluator = [
    dict(
        type='CocoPanopticMetric',
        ann_file=annotations + 'panoptic_val2017.json',
        seg_prefix=annotations + 'panoptic_val2017/'),
    dict(type='CocoMetric', ann_file=annotations + 'instances_val2017.json', metric=['bbox', 'segm']),
]
test_evaluator = val_evaluator

channels = 96
num_things_classes = 5
num_stuff_classes = 4
model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type='BatchFixedSizePad',
                size=_base_.shapes_size,
                img_pad_value=0,
                pad_mask=True,
                mask_pad_value=0,
                pad_seg=True,
                seg_pad_value=255)
        ]),
    backbone=dict(
        _delete_=True, type='FocalNet', arch='tiny-lrf', out_indices=(0, 1, 2, 3), **_base_.thin_backbone),
    panoptic_head=dict(
        in_channels=_base_.thin_channels,
        feat_channels=channels,
        out_channels=channels,
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        num_queries=30,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=16),
            encoder=dict(
                num_layers=2,
                layer_cfg=dict(
                    self_attn_cfg=dict(embed_dims=channels),
                    ffn_cfg=dict(embed_dims=channels, feedforward_channels=384))),
            positional_encoding=dict(num_feats=channels // 2)),
        positional_encoding=dict(num_feats=channels // 2),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=channels),
                cross_attn_cfg=dict(embed_dims=channels),
                ffn_cfg=dict(embed_dims=channels, feedforward_channels=384))),
        loss_cls=dict(class_weight=[1.0] * (num_things_classes + num_stuff_classes) + [0.1])),
    panoptic_fusion_head=dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes),
    train_cfg=dict(num_points=1024),
    # After so short a training few masks are as sure as panoptic segmentation asks for by default.
    test_cfg=dict(max_per_image=20, object_mask_thr=0.3, filter_low_score=False))

max_epochs = 14
train_cfg = dict(
    _delete_=True, type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
# The backbone learns as fast as the rest: it has seen little.
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(backbone_lr_mult=1.0, custom_keys=dict(_delete_=True)))

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=1),
    visualization=dict(score_thr=0.4))
log_processor = dict(by_epoch=True)
randomness = dict(seed=0)
