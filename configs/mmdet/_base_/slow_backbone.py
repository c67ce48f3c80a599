# What of optim_wrapper lets a backbone learn ten times slower, without decay of norms and layer scales.
scale_keys = dict(_delete_=True, gamma_1=dict(decay_mult=0.0), gamma_2=dict(decay_mult=0.0))
slow_backbone = dict(
    constructor='FocalNetOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.1, norm_decay_mult=0.0, custom_keys=scale_keys))
# Mask2Former decays none of its embeddings.
slow_backbone_mask2former = dict(
    constructor='FocalNetOptimWrapperConstructor',
    paramwise_cfg=dict(
        backbone_lr_mult=0.1,
        norm_decay_mult=0.0,
        custom_keys=dict(
            **scale_keys, **{name: dict(decay_mult=0.0) for name in ('query_embed', 'query_feat', 'level_embed')})))
