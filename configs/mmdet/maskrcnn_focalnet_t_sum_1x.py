# Table 13: the modulator is added to the query.
_base_ = ['./_base_/maskrcnn_focalnet.py', './_base_/coco_instance.py', './_base_/schedule_1x.py']

# The authors published no weights of it: without init_cfg, a Pretrained one of your own, this trains from scratch.
model = dict(backbone=dict(arch='tiny-lrf', modulation='sum', drop_path_rate=0.1))
