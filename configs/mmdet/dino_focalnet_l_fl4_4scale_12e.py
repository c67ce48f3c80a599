_base_ = './_base_/dino_focalnet.py'

model = dict(
    backbone=dict(
        arch='large-fl4',
        # detrex trains its four-level models without, other than they were pretrained.
        normalize_modulator=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_large_lrf_384_fl4.pth')))
