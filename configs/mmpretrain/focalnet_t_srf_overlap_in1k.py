# Table 2: patches that overlap.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-srf-overlap'))
