_base_ = './_base_/imagenet22k_focalnet_384.py'

model = dict(backbone=dict(arch='xlarge-fl4'), head=dict(in_channels=2048))
