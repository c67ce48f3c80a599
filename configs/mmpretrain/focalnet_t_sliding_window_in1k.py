# Table 12: self-attention in sliding windows of 7×7 positions.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='sliding_window'))
