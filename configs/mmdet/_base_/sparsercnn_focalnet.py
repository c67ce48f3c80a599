# Sparse R-CNN with 300 proposals on a FocalNet, 36 epochs; mmdet's own recipe is the authors'.
_base_ = 'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py'

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_source = 'download COCO 2017 (train2017, val2017 and annotations) from https://cocodataset.org/#download'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='tiny-lrf',
        focal_windows=(11, 9, 9, 7),
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3),
    neck=dict(in_channels=[96, 192, 384, 768]))

# All parameters decay, the norms too.
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
