# COCO instances, multi-scale with the crop of DETR, for every schedule.
_base_ = ['mmdet::_base_/datasets/coco_instance.py', './multiscale_crop.py']

data_source = 'download COCO 2017 (train2017, val2017 and annotations) from https://cocodataset.org/#download'

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=_base_.backend_args),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    _base_.multiscale_crop,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
