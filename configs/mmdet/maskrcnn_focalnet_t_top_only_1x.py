# Table 13: the map of the top level alone.
_base_ = ['./_base_/maskrcnn_focalnet.py', './_base_/coco_instance.py', './_base_/schedule_1x.py']

# The authors published no weights of it: without init_cfg, a Pretrained one of your own, this trains from scratch.
model = dict(backbone=dict(arch='tiny-lrf', modulation='top_only', drop_path_rate=0.1))
