# What of optim_wrapper lets a backbone learn ten times slower, without decay of norms. Layer scales decay: detrex and
# Mask2Former go by the kinds of modules, and these belong to the blocks.
slow_backbone = dict(
    constructor='FocalNetOptimWrapperConstructor',
    paramwise_cfg=dict(backbone_lr_mult=0.1, norm_decay_mult=0.0, custom_keys=dict(_delete_=True)))
# Mask2Former decays none of its embeddings.
slow_backbone_mask2former = dict(
    constructor='FocalNetOptimWrapperConstructor',
    paramwise_cfg=dict(
        backbone_lr_mult=0.1,
        norm_decay_mult=0.0,
        custom_keys=dict(
            _delete_=True, **{name: dict(decay_mult=0.0) for name in ('query_embed', 'query_feat', 'level_embed')})))
