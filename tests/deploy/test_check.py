"""`export --check`: the library's own evaluator over files and PyTorch."""

import cv2
import numpy as np
import pytest

from focalnet_mm.deploy.check import check_files, checked_table
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


def test_no_validation_set(thin_config):
    cfg = thin_config('mmpretrain/focalnet_t_in1k.py')
    cfg.val_dataloader = None
    with pytest.raises(ValueError, match='has 0 val_dataloaders'):
        check_files(cfg, 'x.pth', [])
