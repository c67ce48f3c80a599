# The recipe of mmdet's Mask2Former Swin-L with 200 queries, on a FocalNet.
_base_ = [
    'mmdet::mask2former/mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic.py',
    './_base_/slow_backbone.py',
]

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_source = ('download COCO 2017 (train2017, val2017, annotations and the panoptic annotations, unpacked) from '
               'https://cocodataset.org/#download')

model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='large-fl4',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_large_lrf_384_fl4.pth')))

optim_wrapper = _base_.slow_backbone_mask2former
