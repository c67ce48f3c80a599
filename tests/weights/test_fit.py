"""Fitting checkpoints to a backbone, or saying why they do not fit."""


import pytest
import torch
from mmengine.model.weight_init import PretrainedInit

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.weights import convert_file, fit_tensor, guess_arch, load_into, read_checkpoint, select_backbone

THIN = dict(embed_dims=8, depths=(1, 1, 2, 1))


def body(net):
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith('norm')}


class TestFit:

    @pytest.mark.parametrize(('small', 'large'), [(3, 9), (5, 11), (1, 13)])
    def test_kernels_grow_by_zeros_around_the_centre(self, small, large):
        kernel = torch.randn(4, 1, small, small)
        name = 'layers.0.blocks.0.modulation.focal_layers.1.0.weight'
        fitted, how = fit_tensor(name, kernel, torch.Size([4, 1, large, large]))
        margin = (large - small) // 2
        assert torch.equal(fitted[..., margin:margin + small, margin:margin + small], kernel)
        assert fitted.count_nonzero() == kernel.count_nonzero()
        assert how == f'kernels padded with zeros from {small} to {large}'
        again, how = fit_tensor(name, fitted, kernel.shape)
        assert torch.equal(again, kernel)
        assert how == f'kernels cropped from {large} to {small}'

    @pytest.mark.parametrize('kind', ['weight', 'bias'])
    def test_gates_of_more_levels(self, kind):
        channels, old, added = 4, 2, 2
        tensor = torch.randn(2 * channels + old + 1, *([channels] if kind == 'weight' else []))
        fitted, how = fit_tensor(f'layers.1.blocks.0.modulation.f.{kind}', tensor,
                                 torch.Size([len(tensor) + added, *tensor.shape[1:]]))
        assert torch.equal(fitted[:2 * channels], tensor[:2 * channels])
        assert torch.equal(fitted[2 * channels:2 * channels + old], tensor[2 * channels:2 * channels + old])
        assert not fitted[2 * channels + old:-1].any()
        assert torch.equal(fitted[-1], tensor[-1])
        assert how == 'gates widened by 2'

    @pytest.mark.parametrize(('name', 'source', 'target'), [
        ('layers.0.blocks.0.mlp.fc1.weight', (32, 8), (64, 8)),
        ('layers.0.blocks.0.modulation.f.weight', (20, 8), (19, 8)),
        ('layers.0.blocks.0.modulation.f.weight', (20, 8), (36, 16)),
        ('layers.0.blocks.0.modulation.focal_layers.0.0.weight', (8, 1, 3, 3), (16, 1, 3, 3)),
        ('patch_embed.proj.weight', (8, 3, 4, 4), (8, 3, 7, 7)),
    ])
    def test_what_cannot_be_fitted(self, name, source, target):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            fit_tensor(name, torch.zeros(source), torch.Size(target))
        assert str(error.value) == f'{name} has shape {source} in the checkpoint and {target} in the model'


class TestLoadInto:

    @pytest.mark.parametrize('prefix', ['', 'module.', 'backbone.', 'module.backbone.', 'backbone.0.', 'visual.'])
    def test_classification_files(self, tmp_path, prefix, log, classification_state, random_net):
        source, net = random_net(), random_net()
        norms = {name: tensor.clone() for name, tensor in net.state_dict().items() if name.startswith('norm')}
        torch.save({'model': {f'{prefix}{name}': tensor for name, tensor in classification_state(source).items()}},
                   tmp_path / 'x.pth')
        report = load_into(net, tmp_path / 'x.pth')
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in body(source).items())
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in norms.items())
        assert set(report.landed) == set(body(source))
        assert set(report.new) == set(norms)
        assert set(report.unused) == {f'{prefix}{name}' for name in
                                      ('norm.weight', 'norm.bias', 'head.weight', 'head.bias')}
        assert report.prefix == prefix
        assert not report.fitted
        assert log == [str(report)]
        assert f'{len(report.landed)} tensors landed as they are, 0 fitted, 8 new (norm0.weight' in log[0]

    def test_compiled_blocks(self, tmp_path, random_net):
        """torch.compile names what it compiles, a block of the network as here or all of it; so files are converted."""
        net, target = random_net(), random_net()
        state = {f'backbone.{name}': tensor for name, tensor in net.state_dict().items()}
        net.layers[2].blocks[1] = torch.compile(net.layers[2].blocks[1])
        compiled = {f'_orig_mod.backbone.{name}': tensor for name, tensor in net.state_dict().items()}
        assert any('.blocks.1._orig_mod.' in name for name in compiled)
        torch.save(compiled, tmp_path / 'x.pth')
        for prefix in (None, '_orig_mod.backbone', 'backbone.'):
            assert len(load_into(target, tmp_path / 'x.pth', prefix).landed) == len(state)
        convert_file(tmp_path / 'x.pth', tmp_path / 'y.pth', 'mm')
        assert read_checkpoint(tmp_path / 'y.pth').keys() == state.keys()

    def test_whole_detector(self, tmp_path, random_net):
        source, net = random_net(), random_net()
        heads = {'neck.lateral_convs.0.conv.weight': torch.randn(2, 2), 'rpn_head.rpn_cls.bias': torch.randn(3)}
        torch.save({'meta': {}, 'state_dict': {
            **{f'backbone.{name}': tensor for name, tensor in source.state_dict().items()}, **heads}},
            tmp_path / 'x.pth')
        report = load_into(net, tmp_path / 'x.pth')
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in source.state_dict().items())
        assert (report.unused, report.new) == (tuple(heads), ())

    def test_init_weights_fits_kernels_and_levels(self, tmp_path, log, classification_state, random_net):
        source = random_net('tiny-srf')
        torch.save({'model': classification_state(source)}, tmp_path / 'x.pth')
        net = FocalNet('tiny-lrf', **THIN, focal_windows=(11, 9, 9, 7),
                       init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth')))
        torch.manual_seed(1)
        net.init_weights()
        old, new = source.state_dict(), net.state_dict()
        kernel = 'layers.0.blocks.0.modulation.focal_layers.1.0.weight'
        assert new[kernel].shape[-1] == 13
        assert torch.equal(new[kernel][..., 4:9, 4:9], old[kernel])
        gates = 'layers.3.blocks.0.modulation.f.bias'
        assert torch.equal(new[gates], torch.cat([old[gates][:-1], torch.zeros(1), old[gates][-1:]]))
        assert new['layers.0.blocks.0.modulation.focal_layers.2.0.weight'].std() > 0.01
        assert '10 gates widened by 1; 1 kernels padded with zeros from 3 to 11' in log[-1]
        assert '4 kernels padded' not in log[-1]

    def test_larger_kernels_compute_the_same(self, tmp_path, random_net):
        source = random_net().double().eval()
        for parameter in source.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.save(source.state_dict(), tmp_path / 'x.pth')
        net = FocalNet(**THIN, focal_windows=(11, 9, 9, 7)).double().eval()
        load_into(net, tmp_path / 'x.pth')
        x = torch.randn(1, 3, 70, 50, dtype=torch.float64)
        for feature, expected in zip(net(x), source(x)):
            torch.testing.assert_close(feature, expected, rtol=0, atol=1e-12)

    def test_a_model_of_fewer_stages(self, tmp_path, random_net):
        torch.save(random_net().state_dict(), tmp_path / 'x.pth')
        report = load_into(FocalNet(**THIN, out_indices=1), tmp_path / 'x.pth')
        assert not report.new
        assert all(name.startswith(('layers.2.', 'layers.3.', 'layers.1.downsample', 'norm'))
                   for name in report.unused)

    def test_two_backbones_in_one_file(self, tmp_path, random_net):
        student, teacher, net = random_net(), random_net(), random_net()
        torch.save({f'{prefix}.backbone.{name}': tensor for prefix, model in
                    (('student', student), ('teacher', teacher)) for name, tensor in model.state_dict().items()},
                   tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r"several FocalNets, under 'student.backbone.', 'teacher.backbone.': "
                                             r"name one with init_cfg=.*prefix"):
            load_into(net, tmp_path / 'x.pth')
        net.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), prefix='teacher.backbone.')
        net.init_weights()
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in teacher.state_dict().items())
        with pytest.raises(ValueError, match=r"no FocalNet under the prefix 'x.' \(prefixes with one: 'student"):
            load_into(net, tmp_path / 'x.pth', prefix='x.')


class TestMisfits:
    """Each leaves the model as it was and ends in one sentence that says what differs."""

    @staticmethod
    def refuse(tmp_path, state, net, *messages):
        torch.save(state, tmp_path / 'x.pth')
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        net.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
        with pytest.raises(ValueError, match=r'x\.pth does not fit: ') as error:
            load_into(net, tmp_path / 'x.pth')
        for message in messages:
            assert message in str(error.value)
        assert '\n' not in str(error.value)
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
        with pytest.raises(ValueError, match='does not fit'):
            net.init_weights()

    def test_other_stem(self, tmp_path):
        with torch.device('meta'):
            published = FocalNet('base-lrf')
        state = {name: torch.zeros(tensor.shape) if 'patch_embed' in name else torch.zeros(1).expand(tensor.shape)
                 for name, tensor in published.state_dict().items()}
        with torch.device('meta'):
            shapes = FocalNet('large-fl4', embed_dims=128).state_dict()
        net = FocalNet('large-fl4', **THIN)
        net.state_dict = lambda *_, **__: shapes
        torch.save(state, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r'patch_embed.proj.weight has shape \(128, 3, 4, 4\) in the checkpoint '
                           r'and \(128, 3, 7, 7\) in the model: the checkpoint has a 4×4 stem, .* this model a 7×7 '
                           r'stem, .* \(arch base-lrf in the checkpoint, a custom one in the model\?\)'):
            load_into(net, tmp_path / 'x.pth')

    def test_other_width(self, tmp_path, random_net):
        self.refuse(tmp_path, random_net(embed_dims=16).state_dict(), random_net(), 'patch_embed.proj.weight has shape '
                    '(16, 3, 4, 4) in the checkpoint and (8, 3, 4, 4) in the model', '16 channels')

    def test_shallower(self, tmp_path, random_net):
        self.refuse(tmp_path, random_net().state_dict(), random_net(depths=(1, 1, 3, 1)),
                    'it lacks 17 tensors (layers.2.blocks.2.norm1.weight', 'stages of (1, 1, 2, 1) blocks')

    def test_deeper(self, tmp_path, random_net):
        self.refuse(tmp_path, random_net(depths=(1, 1, 4, 1)).state_dict(), random_net(),
                    'it has, beyond what the model has, 34 tensors (layers.2.blocks.2.norm1.weight')

    def test_fewer_levels(self, tmp_path, random_net):
        self.refuse(tmp_path, random_net('tiny-lrf').state_dict(), random_net('tiny-srf'),
                    'layers.0.blocks.0.modulation.f.weight has shape (20, 8)', '(3, 3, 3, 3) levels')

    def test_layer_scale(self, tmp_path, random_net):
        self.refuse(tmp_path, random_net().state_dict(), random_net(layer_scale_init_value=1e-4),
                    'it lacks 10 tensors (layers.0.blocks.0.gamma_1', 'layer scale: False')

    def test_half_missing(self, tmp_path, random_net):
        state = {name: tensor for i, (name, tensor) in enumerate(random_net().state_dict().items())
                 if i % 2 == 0 or 'layers.0.blocks.0.modulation.f' in name}
        self.refuse(tmp_path, state, random_net(), 'it lacks ')

    def test_self_attention(self, tmp_path, random_net):
        self.refuse(tmp_path, {'patch_embed.proj.weight': torch.zeros(96, 3, 4, 4),
                               'layers.0.blocks.0.attn.qkv.weight': torch.zeros(288, 96)}, random_net(),
                    'it holds no FocalNet, but a network with self-attention')

    def test_something_else(self, tmp_path, random_net):
        self.refuse(tmp_path, {'conv1.weight': torch.zeros(1)}, random_net(), 'its first tensors are conv1.weight')


@pytest.mark.parametrize('arch', ARCHS)
def test_variants_are_recognised(arch):
    with torch.device('meta'):
        state = FocalNet(arch, focal_windows=9).state_dict()
    assert guess_arch(select_backbone(state)[0]) == arch
    assert guess_arch({**state, 'patch_embed.proj.weight': torch.empty(17, 3, 4, 4)}) is None


class TestInitCfg:

    @pytest.mark.parametrize('kind', ['Pretrained', 'mmengine.Pretrained', 'mmdet.Pretrained', PretrainedInit])
    def test_pretrained_in_any_form(self, tmp_path, kind, random_net):
        source = random_net()
        torch.save({'model': source.state_dict()}, tmp_path / 'x.pth')
        net = random_net(init_cfg=dict(type=kind, checkpoint=str(tmp_path / 'x.pth'), map_location='cpu'))
        net.init_weights()
        assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in net.state_dict().items())

    def test_a_misspelt_key(self, tmp_path, random_net):
        torch.save({'model': random_net().state_dict()}, tmp_path / 'x.pth')
        net = random_net(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), prefx='a.'))
        with pytest.raises(TypeError, match='prefx'):
            net.init_weights()
