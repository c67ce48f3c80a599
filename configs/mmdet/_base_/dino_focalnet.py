# DINO with 4 scales on a FocalNet, 12 epochs, as detrex trains it: biases in the neck, another positional encoding than
# mmdet's DINO, and no images without boxes.
_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', './slow_backbone.py']

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_source = 'download COCO 2017 (train2017, val2017 and annotations) from https://cocodataset.org/#download'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='large-fl3',
        out_indices=(1, 2, 3),
        drop_path_rate=0.3),
    neck=dict(in_channels=[384, 768, 1536], bias=True),
    positional_encoding=dict(offset=-0.5, temperature=10000))

train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=True)))

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)), **_base_.slow_backbone)
