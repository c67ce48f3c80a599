# Backbones as pretrained on ImageNet-22K (21842 classes), to train other models on top. Stochastic depth is that of the
# authors, who give no schedule and no augmentation: the schedule is Swin's.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py', 'mmpretrain::_base_/default_runtime.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'
]

custom_imports = dict(imports=['focalnet_mm', 'focalnet_mm.run.first_classes'], allow_failed_imports=False)
# Named here too, so that --cfg-options data_root=DIR finds it.
data_root = 'data/imagenet21k'
data_source = ('get ImageNet-22K from https://image-net.org and put it in data/imagenet21k/train/CLASS/IMAGE; the '
               'validation is that of ImageNet-1K, in data/imagenet/val/CLASS/IMAGE')

num_classes = 21842
data_preprocessor = dict(num_classes=num_classes)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='FocalNet', arch='large-fl3', out_indices=(3,), drop_path_rate=0.5),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=num_classes,
        in_channels=1536,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
# Batch 1024: 8 GPUs × 128.
train_dataloader = dict(
    batch_size=128, dataset=dict(type='ImageNet21k', data_root=data_root, split='train', pipeline=train_pipeline))
# The first 1000 classes of ImageNet-22K's heads are those of ImageNet-1K, of which ImageNet-22K lacks number 850.
val_evaluator = dict(
    _delete_=True, type='FirstClasses', count=1000, metric=dict(type='Accuracy', topk=(1, 5)))
test_evaluator = val_evaluator

optim_wrapper = dict(type='AmpOptimWrapper', clip_grad=dict(max_norm=5.0))
max_epochs = 90
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    # Counted from 0, warm-up included.
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=0, end=max_epochs, T_max=max_epochs,
        convert_to_iter_based=True),
]
