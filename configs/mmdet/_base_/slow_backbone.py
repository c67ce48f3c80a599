# Keys of paramwise_cfg.custom_keys for a backbone that learns ten times slower. A key's multipliers replace
# norm_decay_mult, and of several keys the longest holds: the backbone's norms and layer scales need keys of their own.
backbone_keys = {'backbone': dict(lr_mult=0.1, decay_mult=1.0)}
backbone_keys.update({
    key: dict(lr_mult=0.1, decay_mult=0.0)
    for key in ['backbone.patch_embed.norm', 'backbone.norm', 'downsample.norm', 'modulation.ln'] + [
        f'blocks.{block}.{part}' for block in range(18) for part in ('norm', 'gamma')]
})
# Mask2Former decays none of its embeddings.
mask2former_keys = dict(
    _delete_=True,
    **backbone_keys,
    **{name: dict(lr_mult=1.0, decay_mult=0.0) for name in ('query_embed', 'query_feat', 'level_embed')})
