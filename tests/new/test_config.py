"""What a written config builds, by the libraries themselves."""

import importlib

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, init_default_scope

from focalnet_mm.data.shapes import PALETTE, STUFF_CLASSES, THING_CLASSES
from focalnet_mm.new.methods import METHODS
from focalnet_mm.new.sizing import Machine
from focalnet_mm.run.build import build_model
from focalnet_mm.weights.heads import heads_with_classes
from tests.helpers.projects import FORMS
from tests.helpers.tools import ROOT

THIN = 'configs/mmdet/maskrcnn_focalnet_t_shapes.py'
ALL = [(method, task) for method, tasks in METHODS.items() for task in tasks]
CLASSES = dict(boxes=THING_CLASSES, instances=THING_CLASSES, panoptic=THING_CLASSES + STUFF_CLASSES,
               semantic=THING_CLASSES + STUFF_CLASSES, classes=THING_CLASSES, labels=THING_CLASSES)


def read(project):
    """The config as the libraries' own tools read it."""
    cfg = Config.fromfile(project.config)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.num_workers = 0
    init_default_scope(cfg.default_scope)
    importlib.import_module(f'{cfg.default_scope}.evaluation')
    importlib.import_module(f'{cfg.default_scope}.datasets')
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize(('method', 'task'), ALL)
def test_all_that_is_shipped(method, task, new):
    """Every head has the classes of the data, and data sets and metrics are built of the project's files."""
    project = new(FORMS[task], method=method, task=task)
    cfg = read(project)
    names = set(CLASSES[task])
    heads = list(heads_with_classes(build_model(cfg, 'meta')))
    assert heads
    assert {number for _, _, number in heads} == {len(names)}
    for split, count in (('train', 6), ('val', 4)):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        assert len(dataset) == count == project.pictures[split]
        assert set(dataset.metainfo['classes']) == names
        assert len(dataset.metainfo['palette']) == len(names)
        sample = dataset[0]['data_samples']
        assert np.isin(labels_of(sample, task), range(len(names))).all()
    for metric in cfg.val_evaluator:
        METRICS.build(metric).dataset_meta = dataset.metainfo
    assert cfg.test_dataloader.dataset == cfg.val_dataloader.dataset


def labels_of(sample, task):
    if task in ('boxes', 'instances', 'panoptic'):
        return sample.gt_instances.labels.numpy()
    if task == 'semantic':
        found = sample.gt_sem_seg.data.numpy()
        return found[found != 255]
    return sample.gt_label.numpy()


@pytest.mark.slow
def test_panoptic_heads_know_things_and_stuff(new):
    cfg = Config.fromfile(new('coco_panoptic', method='mask2former').config)
    for part in (cfg.model.panoptic_head, cfg.model.panoptic_fusion_head):
        assert (part.num_things_classes, part.num_stuff_classes) == (len(THING_CLASSES), len(STUFF_CLASSES))
    assert cfg.metainfo['thing_classes'] == THING_CLASSES
    assert cfg.metainfo['stuff_classes'] == STUFF_CLASSES
    # The weight of no object is Mask2Former's own.
    assert cfg.model.panoptic_head.loss_cls.class_weight == [1.0] * 9 + [0.1]


def test_a_base_of_ones_own_is_kept(new):
    """The built-in data set, read from a folder, with its own config: nothing differs but files and colours."""
    project = new('coco', base=str(ROOT / THIN), weights='none')
    written, base = Config.fromfile(project.config), Config.fromfile(ROOT / THIN)
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'default_hooks', 'randomness'):
        assert written[key] == base[key], key
    for split in ('train', 'val', 'test'):
        mine, theirs = written[f'{split}_dataloader'], base[f'{split}_dataloader']
        assert {key: value for key, value in mine.items() if key != 'dataset'} == {
            key: value for key, value in theirs.items() if key != 'dataset'}
        assert mine.dataset.pipeline == theirs.dataset.pipeline
        assert mine.dataset.metainfo['classes'] == theirs.dataset.metainfo['classes']
    assert len(PALETTE) == 9


def test_batch_and_rate_that_are_asked_for(new, tmp_path):
    base = str(ROOT / THIN)
    cfg = Config.fromfile(new('coco', base=base, weights='none', batch=8).config)
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2e-3)
    cfg = Config.fromfile(new('coco', tmp_path / 'other', base=base, weights='none', rate=0.5).config)
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.optim_wrapper.optimizer.lr == 0.5


def test_what_a_machine_changes(new, tmp_path):
    one, eight = (Config.fromfile(new('coco', tmp_path / str(gpus), machine=Machine(gpus, 80, 16)).config)
                  for gpus in (1, 8))
    # Both are for the batch over all GPUs, so that --auto-scale-lr changes nothing there.
    for cfg, gpus in ((one, 1), (eight, 8)):
        assert cfg.auto_scale_lr.base_batch_size == gpus * cfg.train_dataloader.batch_size
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-4 * cfg.auto_scale_lr.base_batch_size / 16, rel=5e-3)
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
        assert cfg.train_dataloader.num_workers == 4


def test_weights(new, tmp_path, monkeypatch):
    def model_of(name, method, **options):
        cfg = Config.fromfile(new('voc', tmp_path / name, method=method, **options).config)
        return cfg.load_from, cfg.model.backbone.init_cfg
    # What docs/models.md lists for them.
    source, backbone = model_of('whole', 'sparsercnn')
    assert source == ('focalnet://https://github.com/microsoft/FocalNet/releases/download/v1.0.1/'
                      'focalnet_tiny_lrf_sparsercnn_3x.pth')
    assert backbone is None
    source, backbone = model_of('backbone', 'atss')
    assert source is None
    assert backbone.checkpoint.endswith('/focalnet_tiny_lrf.pth')
    assert model_of('none', 'atss', weights='none') == (None, None)
    (tmp_path / 'mine.pth').touch()
    assert model_of('mine', 'atss', weights=str(tmp_path / 'mine.pth')) == (str(tmp_path / 'mine.pth'), None)
    assert model_of('hub', 'atss', weights='hf://a/b') == ('focalnet://hf://a/b', None)
    with pytest.raises(FileNotFoundError, match=r'--weights .*gone.pth, which does not exist: give --weights none'):
        model_of('gone', 'atss', weights=str(tmp_path / 'gone.pth'))
    # Where no demo has been trained.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'the backbone of the base starts from work_dirs/demo/epoch_13.pth'):
        new('voc', tmp_path / 'demo', base=str(ROOT / 'configs/mmdet/atss_focalnet_t_shapes.py'))
