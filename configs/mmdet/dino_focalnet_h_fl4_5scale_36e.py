_base_ = './_base_/dino_focalnet_5scale.py'

# The classification weights of huge-fl4 are public as timm/focalnet_huge_fl4.ms_in22k, those pretrained on Objects365
# not at all. Without init_cfg=dict(type='Pretrained', checkpoint=…) for the downloaded file this trains from scratch.
model = dict(
    backbone=dict(
        arch='huge-fl4',
        drop_path_rate=0.4),
    neck=dict(in_channels=[352, 704, 1408, 2816]))

train_cfg = dict(max_epochs=36)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[30], gamma=0.1)]
