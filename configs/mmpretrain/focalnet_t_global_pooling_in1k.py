# Table 12: the global context alone; the network of focalnet_t_fl0_in1k.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='global_pooling'))
