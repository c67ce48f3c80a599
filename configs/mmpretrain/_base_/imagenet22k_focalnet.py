# Backbones as pretrained on ImageNet-22K (21842 classes), to train other models on top. Stochastic depth is that of the
# authors, who give no schedule: this one is Swin's. ImageNet-22K has no validation set, so nothing is evaluated.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet21k_bs128.py', 'mmpretrain::_base_/default_runtime.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'
]

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
# Named here too, so that --cfg-options data_root=DIR finds it.
data_root = 'data/imagenet21k'
data_source = 'get ImageNet-22K from https://image-net.org and put it in data/imagenet21k/train/CLASS/IMAGE'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='FocalNet', arch='large-fl3', out_indices=(3,), drop_path_rate=0.5),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=21842,
        in_channels=1536,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False))

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
train_cfg = dict(max_epochs=90)
val_cfg = None
test_cfg = None
