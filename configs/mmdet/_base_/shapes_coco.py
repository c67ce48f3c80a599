# The built-in data set of `focalnet-mm shapes` in the layouts of COCO boxes and COCO panoptic, for configs that
# inherit another data set: what they take over has names of its own.
_base_ = ['./shapes_thin.py', './shapes_classes.py']

shapes_root = 'data/shapes/coco/'
shapes_size = (160, 160)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')

box_dataset = dict(data_root=shapes_root, metainfo=dict(classes=_base_.thing_classes, palette=_base_.palette[:5]))
box_train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    batch_sampler=None,
    dataset=dict(
        **box_dataset,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=shapes_size),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]))
box_val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        **box_dataset,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=shapes_size),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=meta_keys),
        ]))

panoptic_dataset = dict(
    data_root=shapes_root,
    metainfo=dict(
        classes=_base_.thing_classes + _base_.stuff_classes, thing_classes=_base_.thing_classes,
        stuff_classes=_base_.stuff_classes, palette=_base_.palette))
panoptic_train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    batch_sampler=None,
    dataset=dict(
        **panoptic_dataset,
        pipeline=[
            dict(type='LoadImageFromFile', to_float32=True),
            dict(type='LoadPanopticAnnotations', with_bbox=True, with_mask=True, with_seg=True),
            dict(type='Resize', scale=shapes_size),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]))
panoptic_val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        **panoptic_dataset,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=shapes_size),
            dict(type='LoadPanopticAnnotations'),
            dict(type='PackDetInputs', meta_keys=meta_keys),
        ]))
