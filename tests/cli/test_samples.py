"""One row of each method trains for an epoch, thin, on samples of the real data sets, and is evaluated after it."""

import json
import math
import shutil

import pytest

from focalnet_mm import cli

pytestmark = pytest.mark.train

# Row → its metric. A Mask R-CNN does so in test_train_test.py.
ROWS = {
    'mmdet/cascade_maskrcnn_focalnet_t_3x': 'coco/segm_mAP',
    'mmdet/atss_focalnet_t_3x': 'coco/bbox_mAP',
    'mmdet/sparsercnn_focalnet_t_3x': 'coco/bbox_mAP',
    'mmdet/dino_focalnet_t_4scale_12e': 'coco/bbox_mAP',
    'mmdet/mask2former_focalnet_l_100e_panoptic': 'coco_panoptic/PQ',
    'mmseg/mask2former_focalnet_l_160k': 'mIoU',
    'mmseg/upernet_focalnet_t_160k': 'mIoU',
    'mmpretrain/focalnet_t_in1k': 'accuracy/top1',
    'mmpretrain/focalnet_l_fl3_in22k': 'accuracy/top1',
}


@pytest.fixture(scope='module')
def roots(coco_samples, ade_samples, tmp_path_factory):
    """Library → where its samples lie; for classification photos of COCO in the folders of two of many classes."""
    imagenet = tmp_path_factory.mktemp('imagenet')
    for split, classes in (('train', 1000), ('val', 1000), ('train22k', 1200)):
        for i in range(classes):
            folder = imagenet / split / f'n{i:04d}'
            folder.mkdir(parents=True)
            if i < 2:
                photo = sorted((coco_samples / 'val2017').iterdir())[i]
                shutil.copy(photo, folder / photo.name.replace('.jpg', '.JPEG'))
    return dict(mmdet=coco_samples, mmseg=ade_samples, mmpretrain=imagenet)


@pytest.mark.parametrize('name', ROWS)
def test_an_epoch(name, roots, thin_config, tmp_path):
    cfg = thin_config(f'{name}.py')
    library = cfg.default_scope
    cfg.model.backbone.depths = (1, 1, 1, 1)
    narrow(cfg.model)
    on_samples(cfg, library, roots[library])
    if name.endswith('in22k'):
        cfg.train_dataloader.dataset.update(data_root=str(roots[library]), split='', data_prefix='train22k')
        cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 1200
    side = cfg.model.get('data_preprocessor', {}).get('size', (224, 224))[0]
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        shrink(loader.dataset.pipeline, side if library != 'mmdet' else 96)
    cfg.train_dataloader.batch_size = 2
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=1, val_interval=1)
        cfg.train_cfg.pop('dynamic_intervals', None)
    else:
        cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.logger.interval = 1
    # Visualizers of one name are one, in one process.
    cfg.visualizer.name = name
    cfg.dump(tmp_path / 'thin.py')

    cli.run('train', [str(tmp_path / 'thin.py'), '--work-dir', str(tmp_path / 'run')], 'train')
    log = max((tmp_path / 'run').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [math.isfinite(line['loss']) for line in lines if 'loss' in line] == [True]
    # mmdet's metric logs nothing where a model finds nothing.
    assert ROWS[name] in lines[-1] or (library == 'mmdet' and 'loss' not in lines[-1])
    assert list((tmp_path / 'run').glob('*_1.pth'))


def on_samples(cfg, library, root):
    """Let a config read the samples for training and evaluation."""
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.data_root = str(root)
        if library == 'mmdet':
            dataset.ann_file = dataset.ann_file.replace('train2017', 'val2017')
            dataset.data_prefix = {key: value.replace('train2017', 'val2017')
                                   for key, value in dataset.data_prefix.items()}
        if library == 'mmseg':
            dataset.data_prefix = dict(img_path='images/validation', seg_map_path='annotations/validation')
    for split in ('val', 'test'):
        metrics = cfg[f'{split}_evaluator']
        for metric in metrics if isinstance(metrics, list) else [metrics]:
            for key in ('ann_file', 'seg_prefix'):
                if key in metric:
                    metric[key] = f'{root}/annotations/{metric[key].rstrip("/").rpartition("/")[2]}'


# Heads are wide, and what they find is many: these and all of their like come down.
SMALL = dict(num_proposals=20, num_queries=40, max_per_img=5, max_per_image=5, num_points=112, fc_out_channels=32,
             feedforward_channels=64, nms_pre=50)


def narrow(node):
    """Let the heads of a model be narrow and find little."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, (dict, list, tuple)):
            narrow(value)
    if isinstance(node, dict):
        node.update({key: min(least, node[key]) for key, least in SMALL.items() if isinstance(node.get(key), int)
                     and not (key == 'num_points' and node[key] < 100)})
        for part in ('encoder', 'decoder', 'transformer_decoder'):
            if 'num_layers' in node.get(part, {}):
                node[part].num_layers = 2


def shrink(steps, side):
    """Let a pipeline give small pictures."""
    for step in steps:
        if isinstance(step, (list, tuple)):
            shrink(step, side)
            continue
        for key, value in (('scale', (side * 5 // 3, side)), ('scales', [(side, side * 5 // 3)]),
                           ('crop_size', (side, side)), ('max_size', side * 2)):
            if key in step:
                step[key] = side if isinstance(step[key], int) else value
        if step['type'] == 'RandomResizedCrop':
            step['scale'] = side
        shrink(step.get('transforms', ()), side)
