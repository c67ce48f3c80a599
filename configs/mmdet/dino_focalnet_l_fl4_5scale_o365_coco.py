# Fine-tuning of what was pretrained on Objects365, with photos of up to 1200×2000 pixels. The authors don't state
# learning rate and length: these are those of their training from classification weights.
_base_ = './_base_/dino_focalnet_shared.py'

# The file holds the backbone too.
load_from = 'focalnet://hf://microsoft/focalnet-large-fl4-dino-o365'
model = dict(backbone=dict(init_cfg=None))

scales = [(short, 2000) for short in (480, 560, 640, 720, 800, 900, 1000, 1100, 1200)]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)],
            [
                # The long side has no limit: no photo of COCO is seven times as long as it is wide.
                dict(
                    type='RandomChoiceResize',
                    scales=[(short, 7 * short) for short in (400, 500, 600, 700, 800, 900)],
                    keep_ratio=True),
                dict(
                    type='RandomCrop', crop_type='absolute_range', crop_size=(384, 900), allow_negative_crop=True),
                dict(type='RandomChoiceResize', scales=scales, keep_ratio=True),
            ],
        ]),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2000, 1200), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
