# Table 14: one level whose kernel of 13 pixels sees as far as those of 3, 5 and 7 together.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', focal_levels=1, focal_windows=13))
