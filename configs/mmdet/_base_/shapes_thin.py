# A thinner FocalNet-T for the built-in data set, to train other models on top of the one that `make demo` trains: a
# few minutes on a CPU are enough then.
thin_backbone = dict(
    embed_dims=48,
    depths=(2, 2, 1, 1),
    focal_windows=3,
    drop_path_rate=0.0,
    init_cfg=dict(type='Pretrained', checkpoint='work_dirs/demo/epoch_13.pth'))
thin_channels = [48, 96, 192, 384]
