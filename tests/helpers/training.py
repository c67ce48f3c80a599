"""A whole training of mmengine with a model of mmpretrain, in a second or two."""

import logging
import random
from uuid import uuid4

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import VISBACKENDS, init_default_scope
from mmengine.runner import Runner
from mmengine.visualization.vis_backend import BaseVisBackend
from torch.utils.data import Dataset

THIN = dict(type='FocalNet', arch=dict(embed_dims=8, depths=(1, 1, 2, 1), focal_levels=2, focal_windows=3),
            out_indices=(3,), drop_rate=0.1, drop_path_rate=0.3)


class Pictures(Dataset):
    """Random pictures with noise that differs from epoch to epoch, as augmentation does."""

    def __init__(self, count=5, channels=3, dtype=torch.uint8, greatest=255, names=True):
        self.metainfo = dict(classes=('a', 'b', 'c'))
        self.count, self.channels, self.dtype, self.greatest, self.names = count, channels, dtype, greatest, names

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample
        generator = torch.Generator().manual_seed(index)
        picture = torch.randint(self.greatest // 2, (self.channels, 40, 48), generator=generator)
        noise = torch.randint(self.greatest // 2, (1,)) + random.randrange(2) + np.random.randint(2)
        sample = DataSample(metainfo=dict(img_path=f'/x/{index % 2}/picture {index // 2}.jpg') if self.names else {})
        return dict(inputs=(picture + noise).clamp(max=self.greatest).to(self.dtype),
                    data_samples=sample.set_gt_label(index % 3))


@VISBACKENDS.register_module()
class PicturesKept(BaseVisBackend):
    """Keeps pictures; ``failing`` draws random numbers and raises in place of it."""

    def __init__(self, failing=False, **kwargs):
        super().__init__(save_dir='')
        self.failing, self.kept = failing, []

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_image(self, name, image, step=0, **kwargs):
        random.random(), np.random.rand(), torch.rand(1)
        if self.failing:
            raise ConnectionError(f'the server that takes {name} is gone')
        self.kept.append((name, step, image))


def tiny_runner(work_dir, hook=None, backbone=None, data=None, failing=False, epochs=2, kind=Runner, **settings):
    """A runner whose optimizer, augmentation and stochastic depth draw random numbers.

    mmengine keeps what it logs by name and second, so the name is a new one.
    """
    data = data or {}
    channels = data.get('channels', 3)
    loader = dict(batch_size=2, num_workers=0, collate_fn=dict(type='pseudo_collate'), persistent_workers=False)
    visualizer = dict(type='Visualizer', vis_backends=[dict(type='PicturesKept', failing=failing)])
    cfg = dict(
        model=dict(
            type='ImageClassifier', backbone=dict(backbone or THIN),
            neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
            data_preprocessor=dict(type='ClsDataPreprocessor', mean=[127] * channels, std=[50] * channels,
                                   to_rgb=channels == 3, num_classes=3)),
        work_dir=str(work_dir), experiment_name=f'tiny_{uuid4()}', default_scope='mmpretrain',
        train_dataloader=dict(dataset=Pictures(**data), sampler=dict(type='DefaultSampler', shuffle=True), **loader),
        val_dataloader=dict(dataset=Pictures(**data), sampler=dict(type='DefaultSampler', shuffle=False), **loader),
        val_evaluator=dict(type='Accuracy', topk=(1,)), val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)), visualizer=visualizer,
        custom_hooks=[hook] if hook else [], randomness=dict(seed=3), log_level='WARNING')
    cfg.update(settings)
    init_default_scope('mmpretrain')
    import mmpretrain.evaluation
    import mmpretrain.models  # noqa: F401
    runner = kind(**cfg, cfg=Config(dict(model=cfg['model'])))
    runner.told = []
    handler = logging.Handler()
    handler.emit = lambda record: runner.told.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.pictures = runner.visualizer._vis_backends['PicturesKept'].kept
    return runner
