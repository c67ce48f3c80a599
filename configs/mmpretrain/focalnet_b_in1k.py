_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='base-lrf', drop_path_rate=0.5), head=dict(in_channels=1024))
