# Table 14: no levels, the global context alone.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', focal_levels=0))
