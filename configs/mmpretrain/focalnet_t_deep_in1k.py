_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-deep'), head=dict(in_channels=512))
