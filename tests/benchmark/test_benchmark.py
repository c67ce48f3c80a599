"""The benchmark measures what it says, prints one table and leaves its figures behind."""

import json
from types import SimpleNamespace

import cv2
import pytest
import torch

from focalnet_mm.benchmark import measure
from focalnet_mm.benchmark.jobs import jobs_of
from focalnet_mm.benchmark.measure import wait_for
from focalnet_mm.benchmark.models import build

pytestmark = pytest.mark.slow

PEER = '''
import torch

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return {'maps': [self.layer(x)]}
'''


def test_table(tmp_path, tool):
    (tmp_path / 'peer.py').write_text(PEER)
    printed = tool('benchmark.py', '--models', 'focalnet-mm', 'timm', '--peer', f'mine={tmp_path}/peer.py:Small',
                   '--sizes', '32x64:2:3', '--steps', 'training', '--modes', 'eager', 'with_cp', '--repeats', 2,
                   '--device', 'cpu', '--out', tmp_path / 'out')
    assert (tmp_path / 'out' / 'table.md').read_text() in printed
    rows = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert [(row['model'], row['mode']) for row in rows] == [
        ('focalnet-mm', 'eager'), ('timm', 'eager'), ('mine', 'eager'), ('focalnet-mm', 'with_cp')]
    ours, timm, mine, _ = rows
    assert 0 < mine['seconds'] < min(ours['seconds'], timm['seconds'])
    assert 0 < mine['peak'] < timm['peak']
    # 28 M parameters and their gradients, in float32.
    assert timm['peak'] > 2 * 4 * 28e6
    assert 0 < ours['floor'] == timm['floor'] < ours['seconds']
    line = next(line for line in printed.splitlines() if line.startswith('| focalnet-mm | training | 32×64 b2 w3 |'))
    cells = [cell.strip() for cell in line.split('|')[1:-1]]
    assert float(cells[9]) == pytest.approx(timm['seconds'] / ours['seconds'], abs=0.006)
    assert float(cells[10]) == pytest.approx(ours['peak'] / timm['peak'], abs=0.006)
    assert float(cells[11]) == pytest.approx(ours['seconds'] / ours['floor'], abs=0.06)
    chart = cv2.imread(str(tmp_path / 'out' / 'chart.png'))
    assert chart.std() > 10


def test_frozen(monkeypatch):
    """A training step that computes no gradient but that of the images."""
    layer, wanted = torch.nn.Conv2d(3, 4, 3), []
    layer.register_full_backward_hook(lambda _, inputs, __: wanted.append(inputs[0] is not None))
    monkeypatch.setattr(measure, 'build', lambda job: layer)
    monkeypatch.setattr(measure, '_MEASURED_SECONDS', 0)
    job = dict(model='x', step='training', mode='frozen', dtype='float32', device='cpu', batch=1, height=8, width=8)
    assert measure.time_step(job)['seconds'] > 0
    assert wanted
    assert all(wanted)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    jobs = jobs_of(['focalnet-mm', 'timm'], {}, [(8, 8, 1, 3)], ['inference', 'training'], ['float32'],
                   ['eager', 'with_cp', 'frozen'], 'tiny-lrf', 'cpu', None)
    assert [(job['model'], job['step'], job['mode']) for job in jobs if job['mode'] != 'eager'] == [
        ('focalnet-mm', 'training', 'with_cp'), ('focalnet-mm', 'training', 'frozen'), ('timm', 'training', 'frozen')]


def test_whole_detector(tmp_path, tool):
    tool('benchmark.py', '--config', 'configs/mmdet/maskrcnn_focalnet_t_shapes.py', '--sizes', '64x64:2:3', '--steps',
         'training', '--repeats', 1, '--device', 'cpu', '--out', tmp_path)
    rows = json.loads((tmp_path / 'results.json').read_text())
    assert [row['model'] for row in rows] == ['focalnet-mm', 'focalnet-mm reference']
    assert all(row['seconds'] > 0 and row['peak'] > 0 and row['floor'] is None for row in rows)


def test_targets_go_where_the_images_are(monkeypatch):
    """On a device that only knows shapes: what is not moved there can't be told from it elsewhere."""
    job = dict(model='focalnet-mm', config='configs/mmdet/maskrcnn_focalnet_t_shapes.py')
    model = build(job)
    seen = {}

    def loss(images, samples):
        seen.update({f'{i}.{key}': value.device.type for i, sample in enumerate(samples)
                     for key, value in sample.gt_instances.items() if isinstance(value, torch.Tensor)},
                    images=images.device.type)
        return dict(loss=images.sum())

    monkeypatch.setattr(model.model, 'loss', loss)
    for device in ('cpu', 'meta'):
        seen.clear()
        # As time_step moves it.
        model.to(device)
        assert model(torch.zeros(2, 3, 64, 64, device=device)).device.type == device
        assert set(seen) == {'images', *(f'{i}.{key}' for i in range(2) for key in ('bboxes', 'labels'))}
        assert set(seen.values()) == {device}
        assert {tensor.device.type for tensor in model.model.data_preprocessor.buffers()} == {device}


def test_a_device_with_a_number(monkeypatch):
    """cuda:1 is waited for, and its memory is measured, as cuda's is."""
    calls = []
    monkeypatch.setattr(torch, 'accelerator', SimpleNamespace(
        synchronize=lambda device: calls.append(str(device))), raising=False)
    for name in ('cpu', 'cuda:1', 'xpu'):
        wait_for(torch.device(name))
    assert calls == ['cuda:1', 'xpu']


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--sizes', '224'], '--sizes 224: expected HxW:BATCH:WINDOW, such as 224x224:8:3'),
    (['--peer', 'x=nowhere.py:X'], '--peer x=nowhere.py:X: expected NAME=FILE:CLASS with a Python file that exists'),
    (['--config', 'nowhere.py'], '--config nowhere.py: there is no such file'),
    (['--config', 'setup.py'], '--config measures eager training steps of ours only: add --steps training'),
    (['--models', 'resnet'], "invalid choice: 'resnet'"),
])
def test_bad_arguments(arguments, message, tool):
    out = tool('benchmark.py', *arguments, expect=2)
    assert message in out
    assert 'Traceback' not in out
