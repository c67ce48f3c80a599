"""`export --check`: the library's own evaluator over files and PyTorch."""

import argparse
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope

from focalnet_mm.cli import run as command
from focalnet_mm.cli.export import add_arguments
from focalnet_mm.deploy import Runtime
from focalnet_mm.deploy import check as deploy_check
from focalnet_mm.deploy.check import Checked, check_files, checked_table
from tests.helpers import exported

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def checked(thin_config, save_weights, tmp_path_factory):
    """Pictures with the channel that is brightest as their class, but for some."""
    folder = tmp_path_factory.mktemp('check')
    rng, truth = np.random.default_rng(0), []
    for label, name in enumerate(exported.CLASSES):
        # The data set numbers its classes in the order of their folders.
        name = f'{label} {name}'
        (folder / 'val' / name).mkdir(parents=True)
        for i in range(3):
            picture = rng.integers(0, 128, (24 + 7 * i, 40, 3), dtype=np.uint8)
            bright = label if i else (label + 1) % 3
            picture[..., bright] += 100
            cv2.imwrite(str(folder / 'val' / name / f'{i}.png'), picture[..., ::-1])
            truth.append((label, exported.channel_scores(picture).argmax()))
    cfg = thin_config('mmpretrain/focalnet_t_in1k.py')
    cfg.model.backbone.depths = (1, 1, 1, 1)
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 3
    cfg.model.head.topk = 1
    loader = cfg.val_dataloader
    loader.update(num_workers=0, persistent_workers=False, batch_size=4)
    loader.dataset.update(type='CustomDataset', data_root=str(folder / 'val'), ann_file='', data_prefix='',
                          split=None, classes=None)
    for key in ('split', 'classes'):
        loader.dataset.pop(key)
    cfg.val_evaluator = dict(type='Accuracy', topk=(1,))
    files = [exported.classifier(folder / 'x.onnx')]
    return check_files(cfg, save_weights(cfg, folder / 'x.pth'), files), np.array(truth)


def test_metrics_are_those_of_the_file(checked):
    rows, truth = checked
    assert [row.name for row in rows] == ['PyTorch', 'x.onnx']
    expected = 100 * np.mean(truth[:, 0] == truth[:, 1])
    assert 0 < expected < 100
    assert rows[1].metrics['accuracy/top1'] == pytest.approx(expected, abs=1e-3)
    assert rows[0].metrics['accuracy/top1'] != rows[1].metrics['accuracy/top1']
    assert all(row.seconds > 0 for row in rows)


def test_table(checked):
    rows, _ = checked
    first, _, *lines = checked_table(rows).splitlines()
    assert first == '| | MB | ms a picture | accuracy/top1 |'
    values = [float(line.split('|')[4].split()[0]) for line in lines]
    difference = float(lines[1].rpartition('(')[2].rstrip(') |'))
    assert difference == pytest.approx(values[1] - values[0], abs=0.01)


def test_metrics_of_numpy():
    """mmseg's are numbers of NumPy, and some are no numbers at all."""
    rows = [Checked(name, 1, 1.0, dict(mIoU=np.float32(value), classes=('a', 'b')))
            for name, value in (('PyTorch', 4.5), ('x.onnx', 4.25))]
    lines = checked_table(rows).splitlines()
    assert lines[0].endswith('| mIoU |')
    assert lines[2].endswith('| 4.5 |')
    assert lines[3].endswith('| 4.25 (-0.2500) |')


def test_no_validation_set(thin_config):
    cfg = thin_config('mmpretrain/focalnet_t_in1k.py')
    cfg.val_dataloader = None
    with pytest.raises(ValueError, match='has 0 val_dataloaders'):
        check_files(cfg, 'x.pth', [])


def test_tasks():
    """Each task is measured by mmpretrain's metric, on the pictures that it is known of."""
    from mmpretrain.evaluation import MultiTasksMetric
    from mmpretrain.structures import DataSample, MultiTaskDataSample
    init_default_scope('mmpretrain')
    accuracy = [dict(type='Accuracy', topk=(1,))]
    metric = MultiTasksMetric(dict(colour=accuracy, more=[dict(type='MultiTasksMetric',
                                                               task_metrics=dict(size=accuracy))]))
    truth, samples = [(0, 1), (2, None), (1, 0)], []
    for colour, size in truth:
        sample, more = MultiTaskDataSample(), MultiTaskDataSample()
        sample.set_field(DataSample(metainfo=dict(img_path='x.png')).set_gt_label(colour), 'colour')
        if size is not None:
            more.set_field(DataSample().set_gt_label(size), 'size')
            sample.set_field(more, 'more')
        assert deploy_check._path(sample) == 'x.png'
        # Colours are right but for the last, sizes but for the first.
        scores = torch.eye(3)[[0, 2, 2][len(samples)]], torch.eye(2)[0]
        deploy_check._fill(sample, dict(zip(('scores.colour', 'scores.more.size'), scores)), 'classification')
        samples.append(sample)
    evaluator = Evaluator(metric)
    evaluator.process(samples)
    assert evaluator.evaluate(3) == {'colour_accuracy/top1': pytest.approx(200 / 3, abs=1e-3),
                                     'more_size_accuracy/top1': pytest.approx(50)}


@pytest.mark.parametrize(('task', 'metric', 'message'), [
    ('segmentation', dict(metric='mIoU'), 'x.onnx is of a model for detection, and the config is of one for segm'),
    ('detection', dict(metric=['bbox', 'segm']), 'x.onnx returns no masks, which the val_evaluator of the config meas'),
    ('detection', dict(metric='bbox'), None), (None, dict(), None)])
def test_what_does_not_fit_is_said_before_anything_is_evaluated(task, metric, message, tmp_path):
    runtime = Runtime(exported.detector(tmp_path / 'x.onnx'))
    runtime.outputs = ('boxes', 'scores', 'labels')
    if message is None:
        deploy_check._check_fit(runtime, task, [metric])
    else:
        with pytest.raises(ValueError, match=message):
            deploy_check._check_fit(runtime, task, [metric])
    runtime.outputs = ('boxes', 'scores', 'labels', 'roi_masks')
    deploy_check._check_fit(runtime, 'detection', [dict(metric=['bbox', 'segm'])])


def test_masks_of_boxes_are_measured(tmp_path):
    from mmdet.structures import DetDataSample
    cv2.imwrite(str(tmp_path / 'x.png'), np.zeros((40, 60, 3), np.uint8))
    runtime = Runtime(exported.detector(tmp_path / 'x.onnx', roi=True, mask_threshold=0.5))
    batch = dict(data_samples=[DetDataSample(metainfo=dict(img_path=str(tmp_path / 'x.png')))])
    sample, = deploy_check._predicted(runtime, batch)
    masks = sample.pred_instances.masks
    assert (masks.dtype, masks.shape) == (torch.bool, (2, 40, 60))
    assert masks.sum((1, 2)).tolist() == [40 * 30, 40 * 60]


@pytest.mark.parametrize('more', [['--out', 'y.onnx'], ['--masks', 'roi'], ['--no-preprocess'], ['--force']])
def test_what_is_about_writing(more, capsys):
    with pytest.raises(SystemExit):
        command('export', ['x.py', 'x.pth', '--check', 'x.onnx', *more], 'export')
    assert f'{more[0]} is about writing, and --check writes nothing' in capsys.readouterr().err


def test_files_in_any_order():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    behind, *others = (vars(parser.parse_args(args)) for args in (
        ['x.py', 'x.pth', '--check', 'y.onnx', 'z.onnx'], ['--check', 'x.py', 'x.pth', 'y.onnx', 'z.onnx']))
    assert (behind['config'], behind['checkpoint'], behind['check']) == ('x.py', 'x.pth', ['y.onnx', 'z.onnx'])
    assert others == [behind]


def test_what_the_metrics_write_stays_apart(tmp_path):
    """A file that the config's own evaluation left is not replaced by that of an exported model."""
    from mmpretrain.structures import DataSample
    (tmp_path / 'mine.pkl').write_text('mine')
    cfg = Config(dict(val_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'mine.pkl'))))
    evaluator = deploy_check._evaluator(cfg, SimpleNamespace(metainfo={}), tmp_path / 'apart')
    evaluator.process([DataSample().set_pred_label(1)])
    evaluator.evaluate(1)
    assert (tmp_path / 'mine.pkl').read_text() == 'mine'
    assert [path.name for path in (tmp_path / 'apart').iterdir()] == ['mine.pkl']
