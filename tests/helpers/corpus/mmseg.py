"""Segmentation: a small FCN head."""

import cv2
import numpy as np

from .common import LOAD_SIX, RUN, SIZE, box_of, in_classes, loader, picture, text, with_module, write

TRAIN, VAL = 4, 2


def model(classes, channels=3, out_channels=None, **head):
    loss = dict(type='CrossEntropyLoss', use_sigmoid=out_channels == 1)
    return f'''
model = dict(
    type='EncoderDecoder', backbone=backbone,
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[9.0] * {channels}, std=[50.0] * {channels},
                           bgr_to_rgb={channels == 3}, pad_val=0, seg_pad_val=255, size=({SIZE}, {SIZE})),
    decode_head=dict(type='FCNHead', in_channels=16, in_index=1, channels=8, num_convs=1, concat_input=False,
                     num_classes={classes}, out_channels={out_channels}, norm_cfg=dict(type='BN'),
                     align_corners=False, loss_decode={loss!r}, **{head!r}),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
'''


def steps(train, load=None, reduce_zero_label=False, **annotations):
    load = load or dict(type='LoadImageFromFile')
    return [load,
            dict(type='LoadAnnotations', reduce_zero_label=reduce_zero_label, **annotations),
            *([dict(type='RandomFlip', prob=0.5)] if train else []), dict(type='PackSegInputs')]


def config(train, val, classes, channels=3, load=None, annotations=None, extra='', out_channels=None, **head):
    """A whole config of two data sets' settings, whose innermost ones get the pipelines."""
    def finished(dataset, is_train):
        if 'dataset' in dataset:
            return {**dataset, 'dataset': finished(dataset['dataset'], is_train)}
        if 'datasets' in dataset:
            return {**dataset, 'datasets': [finished(part, is_train) for part in dataset['datasets']]}
        return {**dataset, 'pipeline': steps(is_train, load, **(annotations or {}))}
    evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    return (RUN.format(channels=channels, indices=(0, 1), scope='mmseg') + model(
        classes, channels, out_channels, **head) + text(
        train_dataloader=loader(finished(train, True), True), val_dataloader=loader(finished(val, False), False, 1),
        test_dataloader=loader(finished(val, False), False, 1), val_evaluator=evaluator, test_evaluator=evaluator)
        + extra)


def label_map(path, box, value=1, background=0):
    labels = np.full((SIZE, SIZE), background, np.uint8)
    x, y, w, h = box
    labels[y:y + h, x:x + w] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), labels)


def fill(root, image, labels, folders=('train', 'val'), value=1, background=0, **form):
    """Pictures and label maps; names with {folder} and {i}."""
    for folder, count in zip(folders, (TRAIN, VAL)):
        for i in range(count):
            picture(root / image.format(folder=folder, i=i), i, box_of(i), **form)
            label_map(root / labels.format(folder=folder, i=i), box_of(i), value, background)


def pair(root, image='img/{}', labels='ann/{}', **settings):
    return [dict(dict(type='BaseSegDataset', data_root=str(root), data_prefix=dict(
        img_path=image.format(folder), seg_map_path=labels.format(folder)),
        metainfo=dict(classes=('ground', 'box'), palette=[[0, 0, 0], [9, 200, 9]])), **settings)
        for folder in ('train', 'val')]


def plain_folders(root):
    fill(root, 'img/{folder}/{i}.jpg', 'ann/{folder}/{i}.png')
    return config(*pair(root), classes=2)


def ade20k(root):
    fill(root, 'images/{folder}/{i}.jpg', 'annotations/{folder}/{i}.png', ('training', 'validation'), 3, 1)
    sets = [dict(type='ADE20KDataset', data_root=str(root), data_prefix=dict(
        img_path=f'images/{folder}', seg_map_path=f'annotations/{folder}')) for folder in ('training', 'validation')]
    return config(*sets, classes=150, annotations=dict(reduce_zero_label=True))


def cityscapes(root):
    fill(root, 'leftImg8bit/{folder}/aachen/a_{i}_leftImg8bit.png',
         'gtFine/{folder}/aachen/a_{i}_gtFine_labelTrainIds.png')
    sets = [dict(type='CityscapesDataset', data_root=str(root), data_prefix=dict(
        img_path=f'leftImg8bit/{folder}', seg_map_path=f'gtFine/{folder}')) for folder in ('train', 'val')]
    return config(*sets, classes=19)


def tif(root):
    fill(root, 'img/{folder}/{i}.tif', 'ann/{folder}/{i}.tif')
    return config(*pair(root, img_suffix='.tif', seg_map_suffix='.tif'), classes=2)


def binary_in_one_channel(root):
    fill(root, 'img/{folder}/{i}.png', 'ann/{folder}/{i}.png')
    return config(*pair(root, img_suffix='.png'), classes=2, out_channels=1, threshold=0.5)


def binary_of_one_class(root):
    fill(root, 'img/{folder}/{i}.png', 'ann/{folder}/{i}.png')
    return config(*pair(root, img_suffix='.png'), classes=1, out_channels=1, threshold=0.5)


def list_of_files(root):
    fill(root, 'all/{folder}_{i}.jpg', 'maps/{folder}_{i}.png')
    for folder, count in (('train', TRAIN), ('val', VAL)):
        write(root / f'{folder}.txt', ''.join(f'{folder}_{i}\n' for i in range(count)))
    train, val = pair(root, 'all', 'maps')
    return config({**train, 'ann_file': 'train.txt'}, {**val, 'ann_file': 'val.txt'}, classes=2)


def classes_in_a_file(root):
    fill(root, 'img/{folder}/{i}.jpg', 'ann/{folder}/{i}.png')
    classes = str(write(root / 'classes.txt', 'ground\nbox\n'))
    return config(*pair(root, metainfo=dict(classes=classes, palette=[[0, 0, 0], [9, 200, 9]])), classes=2)


def some_of_the_classes(root):
    fill(root, 'images/{folder}/{i}.jpg', 'ann/{folder}/{i}.png', value=5, background=3)
    sets = [dict(type='CityscapesDataset', data_root=str(root), img_suffix='.jpg', seg_map_suffix='.png',
                 metainfo=dict(classes=('fence', 'pole')), data_prefix=dict(
                     img_path=f'images/{folder}', seg_map_path=f'ann/{folder}')) for folder in ('train', 'val')]
    return config(*sets, classes=2)


def pascal_voc(root):
    fill(root, 'JPEGImages/{folder}_{i}.jpg', 'SegmentationClass/{folder}_{i}.png')
    for folder, count in (('train', TRAIN), ('val', VAL)):
        write(root / f'ImageSets/Segmentation/{folder}.txt', ''.join(f'{folder}_{i}\n' for i in range(count)))
    sets = [dict(type='PascalVOCDataset', data_root=str(root), ann_file=f'ImageSets/Segmentation/{folder}.txt',
                 data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'))
            for folder in ('train', 'val')]
    return config(*sets, classes=21)


def joined(root):
    fill(root, 'img/{folder}/{i}.jpg', 'ann/{folder}/{i}.png')
    train, val = pair(root)
    return config(dict(type='ConcatDataset', datasets=[train, dict(train)]), val, classes=2)


def repeated(root):
    fill(root, 'img/{folder}/{i}.jpg', 'ann/{folder}/{i}.png')
    train, val = pair(root)
    return config(dict(type='RepeatDataset', times=2, dataset=train), val, classes=2)


def grey_of_16_bits(root):
    fill(root, 'img/{folder}/{i}.png', 'ann/{folder}/{i}.png', channels=1, dtype=np.uint16)
    load = dict(type='LoadImageFromFile', color_type='unchanged', to_float32=True)
    return config(*pair(root, img_suffix='.png'), classes=2, channels=1, load=load)


def four_channels(root):
    fill(root, 'img/{folder}/{i}.png', 'ann/{folder}/{i}.png', channels=4)
    load = dict(type='LoadImageFromFile', color_type='unchanged')
    return config(*pair(root, img_suffix='.png'), classes=2, channels=4, load=load)


def six_channels_by_a_loader_of_ones_own(root):
    fill(root, 'img/{folder}/{i}.npy', 'ann/{folder}/{i}.png', channels=6)
    extra = with_module(root, 'six', LOAD_SIX)
    return config(*pair(root, img_suffix='.npy'), classes=2, channels=6, load=dict(type='LoadSix'), extra=extra)


def pure_python(root):
    return in_classes(plain_folders(root), {
        'mmseg.datasets': ('BaseSegDataset',), 'mmseg.datasets.transforms': ('LoadAnnotations', 'PackSegInputs'),
        'mmseg.evaluation': ('IoUMetric',),
        'mmseg.models': ('EncoderDecoder', 'FCNHead', 'SegDataPreProcessor', 'CrossEntropyLoss')})


def empty_of_another_ending(root):
    fill(root, 'img/{folder}/{i}.png', 'ann/{folder}/{i}.png')
    return config(*pair(root), classes=2)


def label_maps_elsewhere(root):
    fill(root, 'img/{folder}/{i}.jpg', 'ann/{folder}/{i}.png')
    train, val = pair(root)
    val['data_prefix'] = dict(val['data_prefix'], seg_map_path='nowhere')
    return config(train, val, classes=2)


def another_number_of_classes(root):
    fill(root, 'img/{folder}/{i}.jpg', 'ann/{folder}/{i}.png')
    return config(*pair(root), classes=7)


CASES = (plain_folders, ade20k, cityscapes, tif, binary_in_one_channel, binary_of_one_class, list_of_files,
         classes_in_a_file, some_of_the_classes, pascal_voc, joined, repeated, grey_of_16_bits, four_channels,
         six_channels_by_a_loader_of_ones_own, pure_python, empty_of_another_ending, label_maps_elsewhere,
         another_number_of_classes)
