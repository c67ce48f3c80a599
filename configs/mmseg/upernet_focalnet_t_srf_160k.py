_base_ = './_base_/upernet_focalnet.py'

model = dict(
    backbone=dict(
        arch='tiny-srf',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_tiny_srf.pth')))
