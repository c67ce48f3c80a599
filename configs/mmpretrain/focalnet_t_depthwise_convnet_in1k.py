# Table 12: a depth-wise ConvNet in the place of focal modulation.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='depthwise_convnet'))
