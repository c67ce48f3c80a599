# Table 13: without the global context.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='no_global'))
