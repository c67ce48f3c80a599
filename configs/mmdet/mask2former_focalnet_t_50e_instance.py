# The recipe of mmdet's Mask2Former Swin-T for instances, on a FocalNet.
_base_ = [
    'mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py',
    './_base_/slow_backbone.py',
]

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_source = 'download COCO 2017 (train2017, val2017 and annotations) from https://cocodataset.org/#download'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='tiny-lrf',
        focal_windows=9,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_tiny_lrf.pth')))

optim_wrapper = _base_.slow_backbone_mask2former
