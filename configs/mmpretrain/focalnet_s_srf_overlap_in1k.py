# Table 2: patches that overlap.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='small-srf-overlap', drop_path_rate=0.3))
