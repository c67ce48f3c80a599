# DINO with 5 scales on FocalNet-L, as FocalNet-DINO trains it: the decoder layers share one head, boxes get less noise
# than in mmdet's DINO, which is IDEA-Research's in all else, and every parameter decays.
_base_ = 'mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py'

custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_source = 'download COCO 2017 (train2017, val2017 and annotations) from https://cocodataset.org/#download'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FocalNet',
        arch='large-fl4',
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3),
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/microsoft/FocalNet/releases/download/v1.0.0/focalnet_large_lrf_384_fl4.pth')),
    neck=dict(bias=True),
    bbox_head=dict(type='SharedDINOHead'),
    dn_cfg=dict(box_noise_scale=0.4))

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
