_base_ = ['./_base_/cascade_maskrcnn_focalnet.py', './_base_/coco_instance.py', './_base_/schedule_3x.py']

model = dict(
    backbone=dict(
        arch='tiny-srf',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_tiny_srf.pth')))
