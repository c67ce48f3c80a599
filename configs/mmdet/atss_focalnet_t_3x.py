_base_ = './_base_/atss_focalnet.py'

model = dict(
    backbone=dict(
        arch='tiny-lrf',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_tiny_lrf.pth')))
