_base_ = ['./_base_/maskrcnn_focalnet.py', './_base_/coco_instance.py', './_base_/schedule_1x.py']

model = dict(
    backbone=dict(
        arch='base-srf',
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_base_srf.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]))
