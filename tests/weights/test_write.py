"""What goes out opens in timm and transformers and computes the same; nothing of the user's is lost on the way."""

import json
import re
import subprocess
import sys

import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file

from focalnet_mm import FocalNet
from focalnet_mm.weights import convert, convert_file, detect_layout, publish, read_checkpoint, read_model
from tests.helpers.classifiers import TIMM_NAMES
from tests.helpers.tools import ROOT


@pytest.fixture
def official(tmp_path, classifier):
    """A narrow T-SRF classifier, its tensors and its file."""
    net, state = classifier('tiny-srf')
    torch.save({'model': state}, tmp_path / 'official.pth')
    return net, state, tmp_path / 'official.pth'


def run_python(*arguments):
    return subprocess.run([sys.executable, '-W', 'ignore', *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, check=False, timeout=300)


def opened(report):
    """What the printed line opens."""
    import timm
    import transformers
    call = report.split('opens with: ')[1]
    model, _, then = call.partition(', then ')
    names = dict(timm=timm, transformers=transformers)
    names['model'] = eval(model, names)
    if then:
        eval(then, names)
    return names['model'].eval()


# timm has no normalised modulator and no patches of 16 pixels.
@pytest.mark.parametrize(('to', 'arch'), [
    *(('timm', arch) for arch in (*TIMM_NAMES, 'tiny-deep', 'tiny-deep-srf') if arch != 'large-fl4'),
    *(('transformers', arch) for arch in (*TIMM_NAMES, 'tiny-deep', 'base-iso')),
])
def test_opens_elsewhere(tmp_path, to, arch, classifier, logits, same):
    """The printed line opens what was written, strictly, and computes what ours does."""
    net, state = classifier(arch)
    # Random tensors of unit variance overflow float32 in 24 blocks.
    state = {name: tensor * 0.1 for name, tensor in state.items()}
    torch.save({'model': state}, tmp_path / 'x.pth')
    destination = tmp_path / ('y' if to == 'transformers' else 'y.safetensors')
    report = convert_file(tmp_path / 'x.pth', destination, to, arch)
    assert f'layout {to}, {len(state)} tensors' in report
    theirs = opened(report)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found = theirs(x)
        expected = logits(net, state, x)
    torch.testing.assert_close(found if to == 'timm' else found.logits, expected, rtol=1e-4,
                               atol=1e-4 * expected.abs().max().item())
    assert convert_file(destination, tmp_path / 'back.pth', 'official', arch)
    same(read_checkpoint(tmp_path / 'back.pth'), state)


def test_full_width_opens_by_name(tmp_path):
    net = FocalNet('tiny-lrf', out_indices=(3,))
    state = convert({f'backbone.{name}': tensor for name, tensor in net.state_dict().items()}, 'official')
    torch.save(state, tmp_path / 'x.pth')
    report = convert_file(tmp_path / 'x.pth', tmp_path / 'y.pth', 'timm')
    assert 'variant tiny-lrf' in report
    assert report.endswith(f"timm.create_model('focalnet_tiny_lrf', num_classes=0, checkpoint_path='{tmp_path}/y.pth')")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(opened(report)(x), net.eval()(x)[0].mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_dense_kernels_go_to_transformers(tmp_path):
    """Kernels that detection enlarged are in its config."""
    from transformers import FocalNetModel
    net = FocalNet('base-lrf', embed_dims=8, focal_windows=(11, 9, 9, 7)).eval()
    torch.save({'state_dict': {f'backbone.{name}': tensor for name, tensor in net.state_dict().items()}},
               tmp_path / 'x.pth')
    report = convert_file(tmp_path / 'x.pth', tmp_path / 'y', 'transformers', 'base-lrf', backbone_only=True)
    config = json.loads((tmp_path / 'y' / 'config.json').read_text())
    assert config['focal_windows'] == [11, 9, 9, 7]
    model = opened(report)
    assert isinstance(model, FocalNetModel)
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        found = model(x).last_hidden_state.transpose(1, 2).unflatten(2, (3, 2))
        torch.testing.assert_close(found, net(x)[3], rtol=1e-4, atol=1e-5)
    state = net.state_dict()
    state['layers.0.blocks.0.modulation.focal_layers.1.0.weight'] = torch.zeros(8, 1, 17, 17)
    torch.save(state, tmp_path / 'z.pth')
    with pytest.raises(ValueError, match=r'grow by 2 from level to level; those of stage 0 are \[11, 17, 15\]'):
        convert_file(tmp_path / 'z.pth', tmp_path / 'w', 'transformers', 'base-lrf', backbone_only=True)


class TestDestination:

    def test_never_over_a_file(self, official, tmp_path):
        _, _, source = official
        for name in ('y.pth', 'y.safetensors'):
            (tmp_path / name).write_text('precious')
            with pytest.raises(FileExistsError, match=rf'{name} is there already: give another name, or replace it'):
                convert_file(source, tmp_path / name, 'mm')
            assert (tmp_path / name).read_text() == 'precious'
            convert_file(source, tmp_path / name, 'mm', force=True)
            assert detect_layout(read_checkpoint(tmp_path / name)) == 'mm'
        with pytest.raises(FileExistsError, match=r'official.pth is there already'):
            convert_file(source, source, 'mm')
        convert_file(source, source, 'mm', force=True)
        assert detect_layout(read_checkpoint(source)) == 'mm'

    def test_folder(self, official, tmp_path):
        _, _, source = official
        folder = tmp_path / 'y'
        folder.mkdir()
        (folder / 'README.md').write_text('precious')
        convert_file(source, folder, 'transformers', 'tiny-srf')
        with pytest.raises(FileExistsError, match=r'y/model.safetensors is there already'):
            convert_file(source, folder, 'transformers', 'tiny-srf')
        convert_file(source, folder, 'transformers', 'tiny-srf', force=True)
        assert sorted(path.name for path in folder.iterdir()) == ['README.md', 'config.json', 'model.safetensors']
        with pytest.raises(ValueError, match=r'y.pth is the name of a file: for transformers give that of a folder'):
            convert_file(source, tmp_path / 'y.pth', 'transformers')
        (tmp_path / 'y.pth').mkdir()
        with pytest.raises(FileExistsError, match=r'y.pth is there already: give another name\.$'):
            convert_file(source, tmp_path / 'y.pth', 'mm', force=True)

    def test_ending(self, official, tmp_path):
        with pytest.raises(ValueError, match=r'y.bin must end in .safetensors or .pth'):
            convert_file(official[2], tmp_path / 'y.bin', 'mm')

    def test_nothing_is_left_of_a_failure(self, official, tmp_path, monkeypatch):
        from focalnet_mm.weights import write
        _, state, source = official
        monkeypatch.setattr(write, 'read_checkpoint', lambda path: (
            read_checkpoint(path) if path == source else {name: tensor + 1 for name, tensor in state.items()}))
        for destination, to in (('y.safetensors', 'official'), ('y', 'transformers')):
            with pytest.raises(OSError, match='does not read back as it was written'):
                convert_file(source, tmp_path / destination, to, 'tiny-srf')
        assert sorted(path.name for path in tmp_path.rglob('*') if path.is_file()) == ['official.pth']

    def test_home(self, official, tmp_path, monkeypatch):
        """Where a shell does not know it for a path, as in --out=~/x."""
        monkeypatch.setenv('HOME', str(tmp_path))
        monkeypatch.chdir(tmp_path)
        convert_file('~/official.pth', '~/mm.pth', 'mm')
        convert_file('~/official.pth', '~/folder', 'transformers', 'tiny-srf')
        path, _ = publish('~/mm.pth', '~/published.pth')
        assert (tmp_path / 'mm.pth').is_file()
        assert (tmp_path / 'folder' / 'config.json').is_file()
        assert path.parent == tmp_path
        assert not (tmp_path / '~').exists()

    def test_worthless_weights_are_told(self, official, tmp_path, log):
        torch.save({'state_dict': {f'backbone.{name}': tensor * float('nan') for name, tensor in official[1].items()}},
                   tmp_path / 'x.pth')
        for write in (lambda path: convert_file(tmp_path / 'x.pth', path, 'official'),
                      lambda path: publish(tmp_path / 'x.pth', path)):
            write(tmp_path / f'y{len(log)}.pth')
            assert any('tensors hold NaN or infinity' in line for line in log)
            log.clear()

    def test_sizes(self, official, tmp_path):
        """A file holds each tensor once: not the storage that others are part of too."""
        _, state, first = official
        size = sum(tensor.nbytes for tensor in state.values())
        for source, destination in ((first, 'a.safetensors'), (tmp_path / 'a.safetensors', 'b.pth'),
                                    (tmp_path / 'b.pth', 'c.pth')):
            convert_file(source, tmp_path / destination, 'timm', 'tiny-srf')
            assert size < (tmp_path / destination).stat().st_size < 1.3 * size
            assert (tmp_path / destination).stat().st_mode == first.stat().st_mode

    def test_classes_travel_along(self, official, tmp_path):
        _, state, _ = official
        torch.save({'state_dict': convert(state, 'mm'), 'meta': {'dataset_meta': {'classes': ['x', 'y']}}},
                   tmp_path / 'mm.pth')
        convert_file(tmp_path / 'mm.pth', tmp_path / 'y.safetensors', 'mm')
        assert read_model(tmp_path / 'y.safetensors')['meta'] == {'dataset_meta': {'classes': ['x', 'y']}}


@pytest.mark.slow
class TestCommands:

    def test_convert(self, official, tmp_path, same):
        _, state, source = official
        done = run_python('tools/convert_checkpoint.py', source, tmp_path / 'y.safetensors', '--to', 'timm', '--arch',
                   'tiny-srf')
        assert done.returncode == 0, done.stderr
        assert f'read     {source}: layout official, {len(state)} tensors, variant tiny-srf' in done.stdout
        assert 'read back and equal' in done.stdout
        same(convert(load_file(tmp_path / 'y.safetensors'), 'official'), state)

        done = run_python('tools/convert_checkpoint.py', source, tmp_path / 'y.safetensors', '--to', 'timm')
        assert done.returncode == 1
        assert done.stderr.strip() == (f'convert_checkpoint.py: {tmp_path}/y.safetensors is there already: give '
                                       'another name, or replace it with --force.')
        done = run_python('tools/convert_checkpoint.py', source, tmp_path / 'z.safetensors', '--to', 'timm')
        assert done.stderr.strip() == (
            f'convert_checkpoint.py: The checkpoint {source}: These tensors are of no published variant, so that '
            'nothing tells whether their norms come before or after: give arch.')

    def test_publish(self, tmp_path, same):
        import numpy as np
        history = HistoryBuffer()
        history.update(0.5)
        state = {'backbone.a': torch.randn(300, 300), 'head.b': torch.ones(2)}
        torch.save(dict(
            state_dict=state, optimizer={'state': {0: {'exp_avg': torch.zeros(500, 500)}}},
            message_hub=dict(log_scalars={'loss': history}), param_schedulers=[{}],
            meta=dict(epoch=np.int64(12), iter=300, time='now', experiment_name='x', cfg='model = 1',
                      dataset_meta=dict(classes=('circle', 'star'), palette=np.zeros((2, 3), np.int64)))),
                   tmp_path / 'epoch_12.pth')
        for ending in ('safetensors', 'pth'):
            done = run_python('tools/publish_model.py', tmp_path / 'epoch_12.pth', tmp_path / f'y.{ending}')
            assert done.returncode == 0, done.stderr
            path = next(tmp_path.glob(f'y-*.{ending}'))
            assert re.fullmatch(rf'y-[0-9a-f]{{8}}\.{ending}', path.name)
            assert 'left out: optimizer, message_hub, param_schedulers, meta.time, meta.experiment_name' in done.stdout
            assert path.stat().st_size < 400_000
            found = read_model(path)
            same(found['state_dict'], state)
            assert found['meta'] == dict(epoch=12, iter=300, dataset_meta=dict(
                classes=['circle', 'star'], palette=[[0, 0, 0], [0, 0, 0]]))
            done = run_python('tools/publish_model.py', tmp_path / 'epoch_12.pth', tmp_path / f'y.{ending}')
            if ending == 'safetensors':
                # The same weights give the same file.
                assert 'is there already' in done.stderr
        with pytest.raises(ValueError, match=r'y must end in .safetensors or .pth'):
            publish(tmp_path / 'epoch_12.pth', tmp_path / 'y')


