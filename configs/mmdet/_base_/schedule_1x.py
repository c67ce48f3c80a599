# 12 epochs of AdamW in mixed precision, batch 16 (8 GPUs × 2).
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[9, 11], gamma=0.1),
]

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # gamma_1 and gamma_2 are the layer scales of the larger backbones.
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys=dict(gamma_1=dict(decay_mult=0.0), gamma_2=dict(decay_mult=0.0))))
