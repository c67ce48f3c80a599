_base_ = ['./_base_/maskrcnn_focalnet.py', './_base_/coco_instance.py', './_base_/schedule_1x.py']

# The authors published no weights of the deep variants: without init_cfg, a Pretrained one of your own, this trains
# from scratch.
model = dict(
    backbone=dict(arch='tiny-deep', drop_path_rate=0.2),
    neck=dict(in_channels=[64, 128, 256, 512]))
