"""Models of each library for images of any channels, and what the library's own test predicts of files."""

import copy
import pickle

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner

CONFIGS = dict(mmdet='mmdet/maskrcnn_focalnet_t_shapes.py', mmseg='mmseg/upernet_focalnet_t_shapes.py',
               mmpretrain='mmpretrain/focalnet_t_in1k.py')


@DATASETS.register_module()
class FilesDataset(BaseDataset):
    """Files without annotations, as data sets of each library give them with some."""

    def __init__(self, files=(), zero=False, **kwargs):
        self._files, self._zero = files, zero
        super().__init__(**{'test_mode': True, **kwargs})

    def load_data_list(self):
        return [dict(img_path=path, img_id=i, instances=[], gt_label=0, seg_fields=[], reduce_zero_label=self._zero,
                     seg_map_path=f'{path if isinstance(path, str) else path[0]}.labels.png')
                for i, path in enumerate(self._files)]


@TRANSFORMS.register_module()
class LoadArray:
    """A user's own loader, of what NumPy wrote."""

    def __call__(self, results):
        image = np.load(results['img_path'])
        return {**results, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}


@TRANSFORMS.register_module()
class LoadPair:
    """The pictures of two days, of which one's own picture is one."""

    def __call__(self, results):
        image = np.dstack([cv2.imread(results[name]) for name in ('img_path', 'img_path2')])
        return {**results, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}


@TRANSFORMS.register_module()
class LoadTruth:
    """A user's own annotations, which one's own pictures have not."""

    def __call__(self, results):
        return {**results, 'gt_truth': results['truth']}


def _config_for(thin_config, scope, channels, loader):
    cfg = thin_config(CONFIGS[scope])
    cfg.model.backbone.in_channels = channels
    cfg.custom_imports = dict(imports=[__name__])
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[0] = ConfigDict(loader)
    # mmdet's own preprocessor knows means of one or three channels alone.
    mean = dict(mean=None, std=None) if scope == 'mmdet' else dict(mean=[100.0] * channels, std=[50.0] * channels)
    if scope == 'mmpretrain':
        cfg.data_preprocessor.update(**mean, to_rgb=channels == 3, num_classes=7)
        # Pillow resizes neither 16 bits nor six channels.
        pipeline[1].update(scale=64, backend='cv2', interpolation='bilinear')
        pipeline[2].update(crop_size=56)
        cfg.model.head.num_classes = 7
    else:
        cfg.model.data_preprocessor.update(**mean, bgr_to_rgb=channels == 3)
        for step in pipeline:
            if step.type == 'Resize':
                step.scale = (112, 96)
    if scope == 'mmdet':
        cfg.model.test_cfg.rcnn.score_thr = 0.0
    return cfg


@pytest.fixture(scope='session')
def config_for(thin_config):
    """(library, channels, settings of the loading step) → a config."""
    return lambda *arguments: _config_for(thin_config, *arguments)


def _for_test(cfg, files, out):
    cfg = copy.deepcopy(cfg)
    zero = any(step.get('reduce_zero_label') for step in cfg.test_dataloader.dataset.pipeline)
    for path in files:
        cv2.imwrite(f'{path if isinstance(path, str) else path[0]}.labels.png', np.zeros((60, 90), np.uint8))
    cfg.test_dataloader = dict(
        batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=cfg.test_dataloader.get('collate_fn') or dict(type='pseudo_collate'), dataset=dict(
            type='FilesDataset', files=files, zero=zero, pipeline=cfg.test_dataloader.dataset.pipeline))
    dump = 'DumpDetResults' if cfg.default_scope == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = dict(type=dump, out_file_path=str(out))
    return cfg


@pytest.fixture(scope='session')
def for_test():
    """(config, files, .pkl file) → the config whose test set they are, and whose test writes what it predicts."""
    return _for_test


def _tested(cfg, checkpoint, files, folder):
    cfg = _for_test(cfg, files, folder / 'tested.pkl')
    cfg.load_from, cfg.work_dir = checkpoint, str(folder / 'work')
    Runner.from_cfg(cfg).test()
    return pickle.loads((folder / 'tested.pkl').read_bytes())


@pytest.fixture(scope='session')
def tested():
    """(config, checkpoint, files, folder to write to) → what the runner's test predicts for each file."""
    return _tested
