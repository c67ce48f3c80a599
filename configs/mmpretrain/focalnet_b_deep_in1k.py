_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='base-deep', drop_path_rate=0.5))
