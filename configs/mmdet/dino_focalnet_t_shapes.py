# DINO on the built-in data set, in minutes on a CPU: thinner, with fewer layers and queries.
_base_ = ['./_base_/dino_focalnet.py', './_base_/shapes_coco.py']

data_source = _base_.shapes_source
data_root = _base_.shapes_root
train_dataloader = _base_.box_train_dataloader
val_dataloader = _base_.box_val_dataloader
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

model = dict(
    num_queries=60,
    backbone=dict(arch='tiny-lrf', **_base_.thin_backbone),
    neck=dict(in_channels=_base_.thin_channels[1:]),
    # Not thinner than 256: mmdet's decoder encodes boxes for that width.
    encoder=dict(num_layers=2, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=512))),
    decoder=dict(num_layers=3, layer_cfg=dict(ffn_cfg=dict(feedforward_channels=512))),
    bbox_head=dict(num_classes=5),
    # With five classes a label drawn anew is often the right one, and the training is short.
    dn_cfg=dict(label_noise_scale=0.2, group_cfg=dict(num_dn_queries=40)),
    test_cfg=dict(max_per_img=60))

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
# The backbone learns as fast as the rest: it comes from a few minutes of training.
optim_wrapper = dict(
    optimizer=dict(lr=4e-4),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(backbone_lr_mult=1.0))

default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=1), visualization=dict(score_thr=0.4))
randomness = dict(seed=0)
