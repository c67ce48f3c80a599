# Table 13: levels summed without gates.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='no_gating'))
