"""Classification: a linear head."""

import numpy as np

from .common import RUN, box_of, in_classes, loader, picture, text, write

NAMES = ('cat', 'dog', 'owl')


def model(head, channels=3):
    return f'''
model = dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'), head={head!r})
data_preprocessor = dict(num_classes={len(NAMES)}, mean=[9.0] * {channels}, std=[50.0] * {channels},
                         to_rgb={channels == 3})
'''


def steps(train, load=None):
    return [load or dict(type='LoadImageFromFile'), dict(type='Resize', scale=(48, 48)),
            *([dict(type='RandomFlip', prob=0.5, direction='horizontal')] if train else []), dict(type='PackInputs')]


LINEAR = dict(type='LinearClsHead', num_classes=len(NAMES), in_channels=64, topk=(1,),
              loss=dict(type='CrossEntropyLoss'))


def config(train, val, head=LINEAR, channels=3, load=None, evaluator=None, extra=''):
    def finished(dataset, is_train):
        if 'dataset' in dataset:
            return {**dataset, 'dataset': finished(dataset['dataset'], is_train)}
        if 'datasets' in dataset:
            return {**dataset, 'datasets': [finished(part, is_train) for part in dataset['datasets']]}
        return {**dataset, 'pipeline': steps(is_train, load)}
    evaluator = evaluator or dict(type='Accuracy', topk=(1,))
    return RUN.format(channels=channels, indices=(3,), scope='mmpretrain') + model(head, channels) + text(
        train_dataloader=loader(finished(train, True), True), val_dataloader=loader(finished(val, False), False),
        test_dataloader=loader(finished(val, False), False), val_evaluator=evaluator, test_evaluator=evaluator) + extra


def fill(root, ending='.png', **form):
    """A folder for each class, in train and val; returns (path below the split, class) by split."""
    found = {}
    for split in ('train', 'val'):
        found[split] = []
        for label, name in enumerate(NAMES):
            for i in range(2):
                path = f'{name}/{i}{ending}'
                picture(root / split / path, 10 * label + i, box_of(label * 2 + i), **form)
                found[split].append((path, label))
    return found


def folders(root):
    fill(root)
    sets = [dict(type='CustomDataset', data_root=str(root), data_prefix=split) for split in ('train', 'val')]
    return config(*sets)


def folders_with_classes(root):
    fill(root)
    sets = [dict(type='CustomDataset', data_root=str(root), data_prefix=split, classes=list(NAMES))
            for split in ('train', 'val')]
    return config(*sets)


def lists(root, first=0):
    for split, items in fill(root).items():
        write(root / f'{split}.txt', ''.join(f'{path} {label + first}\n' for path, label in items))
    sets = [dict(type='CustomDataset', data_root=str(root), ann_file=f'{split}.txt', data_prefix=split,
                 metainfo=dict(classes=NAMES)) for split in ('train', 'val')]
    return config(*sets)


def imagenet(root):
    """As the authors' list files, with classes of one's own."""
    for split, items in fill(root).items():
        write(root / 'meta' / f'{split}.txt', ''.join(f'{path} {label}\n' for path, label in items))
    sets = [dict(type='ImageNet', data_root=str(root), ann_file=f'meta/{split}.txt', data_prefix=split,
                 metainfo=dict(classes=NAMES)) for split in ('train', 'val')]
    return config(*sets)


def multi_label(root):
    for split, items in fill(root).items():
        write(root / f'{split}.json', dict(metainfo=dict(classes=list(NAMES)), data_list=[
            dict(img_path=path, gt_label=sorted({label, (label + 1) % 3})) for path, label in items]))
    sets = [dict(type='MultiLabelDataset', data_root=str(root), ann_file=f'{split}.json',
                 data_prefix=dict(img_path=split)) for split in ('train', 'val')]
    head = dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=64)
    return config(*sets, head=head, evaluator=dict(type='MultiLabelMetric', average='macro'))


def multi_task(root):
    for split, items in fill(root).items():
        write(root / f'{split}.json', dict(
            metainfo=dict(tasks=['animal', 'side']),
            data_list=[dict(img_path=path, gt_label=dict(animal=label, side=label % 2)) for path, label in items]))
    sets = [dict(type='MultiTaskDataset', data_root=str(root), ann_file=f'{split}.json', data_prefix=split)
            for split in ('train', 'val')]
    head = dict(type='MultiTaskHead', in_channels=64, task_heads=dict(
        animal=dict(type='LinearClsHead', num_classes=3), side=dict(type='LinearClsHead', num_classes=2)))
    evaluator = dict(type='MultiTasksMetric', task_metrics=dict(
        animal=[dict(type='Accuracy', topk=(1,))], side=[dict(type='Accuracy', topk=(1,))]))
    return config(*sets, head=head, evaluator=evaluator)


def folds(root):
    fill(root)
    whole = dict(type='CustomDataset', data_root=str(root), data_prefix='train')
    sets = [dict(type='KFoldDataset', num_splits=2, fold=0, test_mode=test, dataset=whole) for test in (False, True)]
    return config(*sets)


def balanced(root):
    fill(root)
    train, val = [dict(type='CustomDataset', data_root=str(root), data_prefix=split) for split in ('train', 'val')]
    return config(dict(type='ClassBalancedDataset', oversample_thr=0.6, dataset=train), val)


def joined_and_repeated(root):
    fill(root)
    train, val = [dict(type='CustomDataset', data_root=str(root), data_prefix=split) for split in ('train', 'val')]
    return config(dict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=[train, dict(train)])), val)


def grey(root):
    fill(root, channels=1)
    sets = [dict(type='CustomDataset', data_root=str(root), data_prefix=split) for split in ('train', 'val')]
    return config(*sets, channels=1, load=dict(type='LoadImageFromFile', color_type='grayscale'))


def four_channels_of_16_bits(root):
    fill(root, channels=4, dtype=np.uint16)
    sets = [dict(type='CustomDataset', data_root=str(root), data_prefix=split) for split in ('train', 'val')]
    load = dict(type='LoadImageFromFile', color_type='unchanged', to_float32=True)
    return config(*sets, channels=4, load=load)


def endings_of_ones_own(root):
    fill(root, ending='.webp')
    sets = [dict(type='CustomDataset', data_root=str(root), data_prefix=split, extensions=('.webp',))
            for split in ('train', 'val')]
    return config(*sets)


def pure_python(root):
    return in_classes(folders(root), {
        'mmpretrain.datasets': ('CustomDataset', 'PackInputs'), 'mmpretrain.evaluation': ('Accuracy',),
        'mmpretrain.models': ('ImageClassifier', 'GlobalAveragePooling', 'LinearClsHead', 'CrossEntropyLoss')})


def without_labels(root):
    """Self-supervised training, on two views of each picture."""
    fill(root)
    views = [dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=2, transforms=[
        [dict(type='RandomResizedCrop', scale=48)]]), dict(type='PackInputs')]
    neck = dict(type='NonLinearNeck', in_channels=64, hid_channels=16, out_channels=8, num_layers=2, with_avg_pool=True)
    dataset = dict(type='CustomDataset', data_root=str(root), data_prefix='train', with_label=False, pipeline=views)
    return RUN.format(channels=3, indices=(3,), scope='mmpretrain') + f'''
model = dict(type='SimCLR', backbone=backbone, neck={neck!r},
             data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[9.0] * 3, std=[50.0] * 3, to_rgb=True),
             head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.1))
del val_cfg, test_cfg
''' + text(train_dataloader=loader(dataset, True))


def averaged_weights(root):
    """mmpretrain's hook tests those of the last step too."""
    return folders(root) + '''
custom_hooks = [dict(type='EMAHook', momentum=0.01, evaluate_on_origin=True)]
optim_wrapper['optimizer']['lr'] = 0.05
train_cfg['max_epochs'] = 2
val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='SingleLabelMetric')]
test_evaluator = val_evaluator
'''


def labels_from_one_on(root):
    return lists(root, first=1)


def another_number_of_classes(root):
    fill(root)
    sets = [dict(type='CustomDataset', data_root=str(root), data_prefix=split) for split in ('train', 'val')]
    return config(*sets, head=dict(LINEAR, num_classes=9))


def no_such_folder(root):
    fill(root)
    sets = [dict(type='CustomDataset', data_root=str(root), data_prefix=split) for split in ('train', 'validation')]
    return config(*sets)


CASES = (folders, folders_with_classes, lists, imagenet, multi_label, multi_task, folds, balanced, joined_and_repeated,
         grey, four_channels_of_16_bits, endings_of_ones_own, pure_python, without_labels, averaged_weights,
         labels_from_one_on, another_number_of_classes, no_such_folder)
