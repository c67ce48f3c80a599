# 12 epochs of AdamW in mixed precision, batch 16 (8 GPUs × 2).
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[9, 11], gamma=0.1),
]

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # The authors go by names: `bn` and `gn` of the heads decay.
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0))))
