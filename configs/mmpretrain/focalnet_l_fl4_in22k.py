_base_ = './_base_/imagenet22k_focalnet_384.py'

model = dict(backbone=dict(arch='large-fl4'))
