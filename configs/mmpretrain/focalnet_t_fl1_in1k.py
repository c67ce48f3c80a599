# Table 14: one level.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', focal_levels=1))
