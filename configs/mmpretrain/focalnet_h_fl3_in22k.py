_base_ = './_base_/imagenet22k_focalnet.py'

model = dict(backbone=dict(arch='huge-fl3'), head=dict(in_channels=2816))
