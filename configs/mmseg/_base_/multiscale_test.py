# With --tta: six scales of the test size, each also flipped. mmseg's own pipeline scales the photo instead.
multiscale_512, multiscale_640 = (
    [
        dict(type='LoadImageFromFile'),
        dict(
            type='TestTimeAug',
            transforms=[
                [
                    dict(type='Resize', scale=(int(4 * short * ratio), int(short * ratio)), keep_ratio=True)
                    for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
                ],
                [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
                [dict(type='LoadAnnotations')],
                [dict(type='PackSegInputs')],
            ]),
    ] for short in (512, 640))
