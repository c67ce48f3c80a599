# Table 12: levels of average pooling.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='pooling'))
