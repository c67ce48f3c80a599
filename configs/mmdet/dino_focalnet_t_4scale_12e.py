_base_ = './_base_/dino_focalnet.py'

# detrex's file replaces the backbone of its L model whole: no post-norm, no layer scale.
model = dict(
    backbone=dict(
        arch='tiny-lrf',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_tiny_lrf.pth')),
    neck=dict(in_channels=[192, 384, 768]))
