"""Exports of the zoo: which models are the same, what is kept, and what is said of one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from focalnet_mm.zoo import evaluation, export_run, exports
from focalnet_mm.zoo.evaluation import ToolError
from focalnet_mm.zoo.export_run import measure_export, spread
from focalnet_mm.zoo.exports import export_rows, exports_table, same_models
from focalnet_mm.zoo.rows import read_zoo, select_rows
from tests.helpers.tools import ROOT

FOUND = dict(size='800×1216', bytes=2_500_000, export=61.4, peak=3.25e9, pytorch=1.5, onnxruntime=2.25,
             difference=1e-6, holds=True, words='100 of 100 objects found again')
CLASSIFIER = '''
_base_ = 'mmpretrain::_base_/default_runtime.py'
custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
data_preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True, num_classes=7)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='FocalNet', arch='tiny-srf', embed_dims=8, depths=(1,), out_indices=(0,),
                  init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=7, in_channels=8))
test_dataloader = dict(dataset=dict(type='CustomDataset', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=40), dict(type='CenterCrop', crop_size=32),
    dict(type='PackInputs')]))
'''


def rows(*names):
    return select_rows(read_zoo(ROOT), names)


def test_the_same_models():
    """Schedules and stochastic depth are of the training; variants and classes are not."""
    names = ['dino_focalnet_l_fl4_5scale_o365', 'dino_focalnet_l_fl4_5scale_o365_coco', 'maskrcnn_focalnet_t_1x',
             'maskrcnn_focalnet_t_3x', 'maskrcnn_focalnet_t_srf_1x']
    groups = sorted([row.name for row in group] for group in same_models(rows(*names)))
    assert groups == [names[:1], names[1:2], names[2:4], names[4:]]


@pytest.fixture
def started(monkeypatch):
    """The jobs that were started in processes of their own; one of a Sparse R-CNN fails."""
    jobs = []

    def run_command(name, *arguments, log):
        job = json.loads(arguments[-1])
        jobs.append(Path(job['config']).stem)
        Path(job['file']).write_bytes(b'model')
        if 'sparse' in job['config']:
            raise ToolError('no | memory')
        Path(job['result']).write_text(json.dumps(FOUND))

    monkeypatch.setattr(exports, 'run_command', run_command)
    return jobs


def test_finished_rows_are_kept(started, tmp_path):
    first, second = ([one] for one in rows('maskrcnn_focalnet_t_1x', 'sparsercnn_focalnet_t_3x'))
    other = rows('maskrcnn_focalnet_t_3x')
    results = export_rows([first + other, second], tmp_path)
    assert started == [first[0].name, second[0].name]
    # Of a group that is known by another of its names, too; what failed is tried again.
    assert export_rows([other, second], tmp_path) == results
    assert started[2:] == [second[0].name]
    assert not list(tmp_path.rglob('*.onnx'))
    assert exports_table([first + other, second], results).splitlines()[2:] == [
        '| `maskrcnn_focalnet_t_1x`, `maskrcnn_focalnet_t_3x` | 800×1216 | 2 | 61 | 3.2 | 1.50 | 2.25 | 100 of 100 '
        'objects found again |', '| `sparsercnn_focalnet_t_3x` | | | | | | | failed: no / memory |']
    results[second[0].name] = dict(FOUND, holds=False)
    assert exports_table([second], results).endswith('| differs: 100 of 100 objects found again |\n')


@pytest.mark.slow
def test_one_export(tmp_path, monkeypatch):
    (tmp_path / 'x.py').write_text(CLASSIFIER)
    (tmp_path / 'out').mkdir()
    file = tmp_path / 'out' / 'x.onnx'
    found = measure_export(tmp_path / 'x.py', file, (32, 32))
    assert (found['size'], found['bytes']) == ('32×32', file.stat().st_size)
    assert 0 <= found['difference'] < 1e-4
    assert found['holds']
    assert min(found[name] for name in ('export', 'peak', 'pytorch', 'onnxruntime')) > 0
    # What the picture is compared with is PyTorch's.
    monkeypatch.setattr(export_run, 'export_model', lambda *args, **settings: None)
    part = export_run.exportable
    monkeypatch.setattr(export_run, 'exportable', lambda *args: part(*args)._replace(
        predict=lambda images: [torch.zeros(1, 7)]))
    assert not measure_export(tmp_path / 'x.py', file, (32, 32))['holds']


def test_predictions_are_spread(thin_config):
    """No two boxes of random heads have the same score."""
    cfg = thin_config('mmdet/maskrcnn_focalnet_t_shapes.py')
    cfg.model.backbone.depths = (1, 1, 1, 1)
    model = load_model(cfg)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.rpn_head(model.extract_feat(images))[0][0]
        spread(model)
        after = model.rpn_head(model.extract_feat(images))[0][0]
    assert float(before.std()) < 0.1 < float(after.std())
    assert len(after.unique()) > 0.99 * after.numel()


def test_every_config_says_what_size_it_is_run_at():
    for row in rows('upernet_focalnet_t_160k', 'mask2former_focalnet_l_160k'):
        cfg = load_config(ROOT / row.config)
        assert export_run._size(cfg, row.input_size) == tuple(cfg.crop_size)


def test_no_picture_is_enlarged():
    """What is made for larger pictures is run on one of 800 × 1216 too; of the others nothing changes."""
    def scale(name, change):
        cfg = load_config(str(ROOT / f'configs/mmdet/{name}.py'))
        if change:
            export_run._leave_size(cfg)
        picture = export_run.ImagePipeline(cfg)(np.zeros((800, 1216, 3), np.uint8))
        return tuple(picture.batch['inputs'][0].shape[1:])

    large, usual = 'dino_focalnet_l_fl4_5scale_o365_coco', 'dino_focalnet_l_fl4_5scale_o365'
    assert scale(large, False) == (1200, 1824)
    assert scale(large, True) == scale(usual, True) == scale(usual, False) == (800, 1216)


def test_a_killed_process_is_told_of(monkeypatch, tmp_path):
    """Its last line is no reason."""
    monkeypatch.setattr(evaluation, 'shipped', lambda: tmp_path)
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/x.py').write_text('import os, signal, sys\nprint("all is well", flush=True)\n'
                                         'os.kill(os.getpid(), getattr(signal, sys.argv[1]))\n')
    with pytest.raises(ToolError, match=r'^x was stopped by SIGKILL, as the system does where memory runs out \(see'):
        evaluation.run_command('x', 'SIGKILL', log=tmp_path / 'log.txt')
    with pytest.raises(ToolError, match=r'^x was stopped by SIGTERM \(see .*log\.txt\)$'):
        evaluation.run_command('x', 'SIGTERM', log=tmp_path / 'log.txt')
