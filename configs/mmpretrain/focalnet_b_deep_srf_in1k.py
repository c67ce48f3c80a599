# Table 3: deeper and thinner, with two levels and patches that overlap; not the network of the detection configs.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='base-deep-srf', drop_path_rate=0.5))
