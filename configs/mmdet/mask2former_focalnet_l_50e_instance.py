_base_ = './mask2former_focalnet_t_50e_instance.py'

# mmdet's recipe for small Swins. Mask2Former's own one for Swin-L has 200 queries, 100 epochs and mixed precision.

model = dict(
    backbone=dict(
        arch='large-fl4',
        focal_windows=None,
        init_cfg=dict(
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_large_lrf_384_fl4.pth')),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536]))
