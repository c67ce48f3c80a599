_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='small-srf', drop_path_rate=0.3))
