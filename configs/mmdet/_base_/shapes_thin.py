# A thinner FocalNet-T that learns the built-in data set from scratch in minutes on a CPU.
thin_backbone = dict(
    embed_dims=48,
    depths=(2, 2, 1, 1),
    focal_windows=3,
    # Layers this narrow start too small with the paper's standard deviation of 0.02.
    init_cfg=dict(type='Xavier', layer='Linear', distribution='normal'))
thin_channels = [48, 96, 192, 384]
