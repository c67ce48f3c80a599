_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='small-deep', drop_path_rate=0.3), head=dict(in_channels=512))
