"""Exported models compute what PyTorch does at sizes that they have not seen."""

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.cli import run as command
from focalnet_mm.deploy import export as exports
from focalnet_mm.deploy import formats, part
from focalnet_mm.deploy.export import export_model
from focalnet_mm.deploy.part import Agreement
from focalnet_mm.run.build import load_model
from tests.helpers.classifiers import mmpretrain_classifier
from tests.helpers.tools import ROOT

pytestmark = pytest.mark.slow

# The stem's padding takes the place of what is missing: below a stride, of that size, one more, odd, and larger.
UNSEEN = (1, 33, 47), (3, 64, 64), (1, 97, 250)


def thin(arch, stages=4):
    """The variant with few channels and blocks."""
    torch.manual_seed(0)
    net = FocalNet({**ARCHS[arch], 'embed_dims': 16, 'depths': (1,) * stages})
    net.init_weights()
    for name, parameter in net.named_parameters():
        if 'gamma' in name:
            nn.init.normal_(parameter)
    return net.eval()


def onnx_outputs(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'images': images.numpy()})


def relative(found, expected):
    return float((torch.as_tensor(found) - expected).abs().max() / expected.abs().max())


# Blocks of a kind are alike in all stages; how sizes are kept shows where one stage follows another.
@pytest.mark.parametrize(('arch', 'stages'), [('tiny-srf', 2), ('tiny-lrf', 4), ('large-fl4', 2), ('huge-fl4', 2)])
def test_onnx_backbones(arch, stages, tmp_path):
    net = thin(arch, stages)
    told = []
    difference = export_model(net, tmp_path / 'x.onnx', 'onnx', 'backbone', tell=told.append)
    assert difference < 1e-4
    assert len(told) == 5
    for count, height, width in UNSEEN:
        images = torch.randn(count, 3, height, width)
        with torch.no_grad():
            expected = net(images)
        found = onnx_outputs(tmp_path / 'x.onnx', images)
        assert [array.shape for array in found] == [tuple(feature.shape) for feature in expected]
        assert max(map(relative, found, expected)) < 1e-4
    assert list(tmp_path.iterdir()) == [tmp_path / 'x.onnx']
    nodes = [node.op_type for node in onnx.load(tmp_path / 'x.onnx').graph.node]
    assert nodes.count('Conv') == sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in net.modules())
    assert not {'Gemm', 'MatMul'} & set(nodes)


def test_onnx_with_weights_of_their_own(tmp_path, monkeypatch):
    """What is too large for one file."""
    monkeypatch.setattr(formats, '_INLINE_BYTES', 0)
    net = thin('tiny-srf', stages=2)
    export_model(net, tmp_path / 'x.onnx', 'onnx', 'backbone', tell=lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.onnx', 'x.onnx.data']
    images = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        assert max(map(relative, onnx_outputs(tmp_path / 'x.onnx', images), net(images))) < 1e-4


@pytest.mark.parametrize('to', ['torchscript', 'pt2'])
def test_torch_formats(to, tmp_path):
    # Sizes left open take torch.export a minute for four stages.
    net = thin('large-fl4', stages=2)
    path = tmp_path / f'x{exports.FORMATS[to]}'
    export_model(net, path, to, 'backbone', tell=lambda _: None)
    loaded = torch.jit.load(path) if to == 'torchscript' else torch.export.load(path).module()
    for count, height, width in UNSEEN:
        images = torch.randn(count, 3, height, width)
        with torch.no_grad():
            assert max(map(relative, loaded(images), net(images))) < 1e-5


def test_detector_without_its_heads(tmp_path, thin_config):
    cfg = thin_config('mmdet/maskrcnn_focalnet_t_1x.py')
    cfg.model.backbone.update(depths=(1, 1, 1, 1), focal_levels=1)
    torch.manual_seed(0)
    model = load_model(cfg)
    told = []
    export_model(model, tmp_path / 'x.onnx', 'onnx', 'features', tell=told.append)
    assert 'Heads are left out: run those of the config' in told[-1]
    images = torch.randn(1, 3, 75, 120)
    with torch.no_grad():
        expected = model.extract_feat(images)
    found = onnx_outputs(tmp_path / 'x.onnx', images)
    assert max(map(relative, found, expected)) < 1e-4
    assert len(found) == 5


@pytest.mark.parametrize(('count', 'length'), [(1, 5), (2, 5), (3, 3), (6, 4), (6, 40), (3, 7)])
def test_pooling_by_matrices(count, length):
    x = torch.randn(2, 3, length, 9, dtype=torch.float64)
    torch.testing.assert_close(formats._AdaptiveAvgPool((count, 4))(x), F.adaptive_avg_pool2d(x, (count, 4)))


class TestRefusals:

    def test_a_file_that_differs_is_not_left(self, tmp_path, monkeypatch):
        monkeypatch.setattr(part, '_differences', lambda *both: Agreement(1.0, 'largest relative difference 1'))
        with pytest.raises(ValueError, match=r'x.pt is not written, since it differs from PyTorch: largest rel'):
            export_model(thin('tiny-srf'), tmp_path / 'x.pt', 'torchscript', 'backbone', tell=lambda _: None)
        assert list(tmp_path.iterdir()) == []

    def test_a_model_that_fails_beside_it_is_said(self, tmp_path, monkeypatch):
        def predict(images):
            raise RuntimeError('upper bound and lower bound inconsistent')

        asked = exports.exportable
        monkeypatch.setattr(exports, 'exportable', lambda *args: asked(*args)._replace(predict=predict))
        with pytest.raises(ValueError, match=r'The FocalNet itself does not predict in PyTorch \(RuntimeError: upper '
                                             r'bound .*\): the file cannot be compared with it, and is not kept'):
            export_model(thin('tiny-srf'), tmp_path / 'x.pt', 'torchscript', 'backbone', tell=lambda _: None)
        assert list(tmp_path.iterdir()) == []

    def test_nan_is_a_difference(self, tmp_path):
        net = thin('tiny-srf')
        with torch.no_grad():
            net.norm3.bias.fill_(float('nan'))
        with pytest.raises(ValueError, match='it differs from PyTorch: largest relative difference nan'):
            export_model(net, tmp_path / 'x.pt', 'torchscript', 'backbone', tell=lambda _: None)

    def test_nothing_is_overwritten(self, tmp_path):
        (tmp_path / 'x.onnx').write_text('mine')
        with pytest.raises(FileExistsError, match=r'x.onnx is there already: name another file with --out, or add'):
            export_model(thin('tiny-srf'), tmp_path / 'x.onnx', 'onnx', 'backbone')
        assert (tmp_path / 'x.onnx').read_text() == 'mine'
        (tmp_path / 'y.onnx.data').write_text('mine')
        with pytest.raises(FileExistsError, match=r'y.onnx.data is there already'):
            export_model(thin('tiny-srf'), tmp_path / 'y.onnx', 'onnx', 'backbone')
        (tmp_path / 'z.onnx').mkdir()
        with pytest.raises(IsADirectoryError, match=r'z.onnx is a folder: name a file in it with --out'):
            export_model(thin('tiny-srf'), tmp_path / 'z.onnx', 'onnx', 'backbone', force=True)

    @pytest.mark.parametrize('name', ['base.py', 'instances_val.JSON'])
    def test_what_a_config_reads_is_not_replaced(self, name, tmp_path):
        (tmp_path / name).write_text('mine')
        with pytest.raises(FileExistsError, match=f'{name} is nothing that export wrote, as .* tells, and would be'):
            export_model(thin('tiny-srf'), tmp_path / name, 'onnx', 'backbone', force=True)
        assert (tmp_path / name).read_text() == 'mine'

    @pytest.mark.parametrize(('part', 'masks', 'is_told'), [
        ('model', 'paste', False), ('model', 'roi', True), ('model', 'none', False)])
    def test_masks_of_what_has_none(self, part, masks, is_told, tmp_path):
        told, model = [], mmpretrain_classifier('tiny-srf', embed_dims=16, depths=(1, 1, 1, 1))
        export_model(model, tmp_path / 'x.onnx', 'onnx', part, masks=masks, tell=told.append)
        assert [line for line in told if '--masks' in line] == is_told * [
            '--masks roi changes nothing: what is written returns scores, classes, and no masks.']

    def test_missing_packages(self, tmp_path, monkeypatch):
        monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
        with pytest.raises(ModuleNotFoundError, match='ONNX needs onnx and onnxscript and onnxruntime: pip install'):
            export_model(thin('tiny-srf'), tmp_path / 'x.onnx', 'onnx', 'backbone')


def test_command(tmp_path, save_weights, thin_config, capsys):
    config = 'mmdet/maskrcnn_focalnet_t_shapes.py'
    cfg = thin_config(config)
    cfg.model.backbone.depths = (1, 1, 1, 1)
    words = [str(ROOT / 'configs' / config), save_weights(cfg, tmp_path / 'x.pth'), '--to', 'torchscript', '--out',
             str(tmp_path / 'y.pt'), '--cfg-options', 'model.backbone.embed_dims=16',
             'model.backbone.depths=[1,1,1,1]', 'model.neck.in_channels=[16,32,64,128]']
    command('export', words, 'export')
    assert capsys.readouterr().out.count('largest relative difference') == 3
    assert (tmp_path / 'y.pt').is_file()
    with pytest.raises(SystemExit, match=r'y.pt is there already: name another file with --out, or add --force\.'):
        command('export', words, 'export')
