# ImageNet-1K from scratch in 300 epochs: the recipe of the authors' classification code is that of Swin.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py', 'mmpretrain::_base_/default_runtime.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'
]

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
# Named here too, so that --cfg-options data_root=DIR finds it.
data_root = 'data/imagenet'
data_source = 'get ImageNet-1K from https://image-net.org and put it in data/imagenet/{train,val}/CLASS/IMAGE'

# The official classifier normalises the last stage, averages it and applies one linear layer.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='FocalNet', arch='tiny-lrf', out_indices=(3,), drop_path_rate=0.2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))

# Batch 1024: 8 GPUs × 128.
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(type='AmpOptimWrapper', clip_grad=dict(max_norm=5.0))
max_epochs = 300
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    # Counted from 0, warm-up included.
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=max_epochs, T_max=max_epochs,
        convert_to_iter_based=True),
]
