# The recipe of mmseg's Mask2Former Swin-L at 640×640, on a FocalNet.
_base_ = [
    'mmseg::mask2former/mask2former_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640.py',
    '../mmdet/_base_/slow_backbone.py',
]

custom_imports = dict(imports=['focalnet_mm', 'mmdet.models'], allow_failed_imports=False)
data_source = ('download ADEChallengeData2016.zip from http://data.csail.mit.edu/places/ADEchallenge/ and unpack it in '
               'data/ade')

model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='large-fl4',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_large_lrf_384_fl4.pth')))

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.mask2former_keys))

# With --tta: six scales of the test size, each also flipped. mmseg's own pipeline scales the photo instead.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(int(2560 * ratio), int(640 * ratio)), keep_ratio=True)
                for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ]),
]
