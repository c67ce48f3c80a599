# Table 2: patches that overlap.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='base-srf-overlap', drop_path_rate=0.5), head=dict(in_channels=1024))
