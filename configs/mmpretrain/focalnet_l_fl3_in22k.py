_base_ = './_base_/imagenet22k_focalnet.py'

model = dict(backbone=dict(arch='large-fl3'))
