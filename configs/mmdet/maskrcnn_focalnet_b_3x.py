_base_ = ['./_base_/maskrcnn_focalnet.py', './_base_/coco_instance.py', './_base_/schedule_3x.py']

model = dict(
    backbone=dict(
        arch='base-lrf',
        drop_path_rate=0.5,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_base_lrf.pth')),
    neck=dict(in_channels=[128, 256, 512, 1024]))
