_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='base-iso', out_indices=(0,)))
