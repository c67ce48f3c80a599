# The recipe of mmseg's Mask2Former Swin-L at 640×640, on a FocalNet.
_base_ = [
    'mmseg::mask2former/mask2former_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640.py',
    '../mmdet/_base_/slow_backbone.py',
    './_base_/multiscale_test.py',
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

optim_wrapper = _base_.slow_backbone_mask2former

tta_pipeline = _base_.multiscale_640
