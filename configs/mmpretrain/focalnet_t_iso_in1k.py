_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-iso', out_indices=(0,)), head=dict(in_channels=192))
