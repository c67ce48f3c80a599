# DINO with 5 scales: the first stage joins in.
_base_ = './dino_focalnet.py'

num_levels = 5
model = dict(
    num_feature_levels=num_levels,
    # Activations at stride 4 are large.
    backbone=dict(out_indices=(0, 1, 2, 3), with_cp=True),
    neck=dict(in_channels=[192, 384, 768, 1536], num_outs=num_levels),
    encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=num_levels))),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=num_levels))))
