# UPerNet on a FocalNet of window 9, as in arXiv 2203.11926v3; the recipe of mmseg's UPerNet with Swin.
_base_ = [
    'mmseg::_base_/models/upernet_swin.py', 'mmseg::_base_/datasets/ade20k.py', 'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_160k.py', './multiscale_test.py'
]

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_source = ('download ADEChallengeData2016.zip from http://data.csail.mit.edu/places/ADEchallenge/ and unpack it in '
               'data/ade')

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='tiny-lrf',
        focal_windows=9,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150))

# Batch 16: 8 GPUs × 2.
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    # Counted from 0, warm-up included.
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=160000, by_epoch=False),
]

tta_pipeline = _base_.multiscale_512
