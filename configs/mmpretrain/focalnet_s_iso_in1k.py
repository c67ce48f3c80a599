_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='small-iso', out_indices=(0,)), head=dict(in_channels=384))
