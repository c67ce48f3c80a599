_base_ = './_base_/dino_focalnet.py'

model = dict(
    backbone=dict(
        arch='large-fl3',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_large_lrf_384.pth')))
