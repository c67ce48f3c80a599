_base_ = './_base_/dino_focalnet.py'

# detrex's file replaces the backbone of its L model whole: no post-norm, no layer scale.
model = dict(
    backbone=dict(
        arch='base-lrf',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_base_lrf.pth')),
    neck=dict(in_channels=[256, 512, 1024]))
