_base_ = './_base_/dino_focalnet_5scale.py'

model = dict(
    backbone=dict(
        arch='large-fl4',
        # detrex trains its four-level models without, other than they were pretrained.
        normalize_modulator=False,
        drop_path_rate=0.4,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_large_lrf_384_fl4.pth')))

train_cfg = dict(max_epochs=36)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[30], gamma=0.1)]
