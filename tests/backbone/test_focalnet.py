import copy
import io
import pickle

import pytest
import torch
from mmengine.registry import MODELS

from focalnet_mm import FocalNet
from focalnet_mm.releases import HAS_OPERATORS

THIN = dict(embed_dims=8, depths=(1, 1, 2, 1))


def thin(arch='tiny-lrf', **settings):
    torch.manual_seed(0)
    net = FocalNet(arch, **{**THIN, **settings})
    net.init_weights()
    # Weights far from 0, so that every path shows in the output.
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.eval()


class TestShapes:

    @pytest.mark.parametrize('size', [(1, 1), (1, 70), (3, 5), (33, 64), (50, 31)])
    @pytest.mark.parametrize('arch', ['tiny-lrf', 'large-fl4', 'tiny-iso'])
    def test_any_size(self, arch, size):
        net = thin(arch, **(dict(depths=(2,)) if arch == 'tiny-iso' else {}))
        features = net(torch.rand(2, 3, *size))
        expected = [(2, channels, -(-size[0] // stride), -(-size[1] // stride))
                    for channels, stride in zip(net.out_channels, net.out_strides)]
        assert [tuple(feature.shape) for feature in features] == expected

    @pytest.mark.parametrize('conv_stem', [False, True])
    def test_padding_is_zeros_at_the_right_and_at_the_bottom(self, conv_stem):
        net = thin(conv_stem=conv_stem)
        image = torch.rand(1, 3, 61, 37)
        stem = net.patch_embed(image)
        torch.testing.assert_close(stem, net.patch_embed(torch.nn.functional.pad(image, (0, 3, 0, 3))))

    def test_empty_batch(self):
        assert [len(feature) for feature in thin()(torch.rand(0, 3, 32, 32))] == [0] * 4

    def test_isotropic(self):
        net = FocalNet('small-iso')
        assert (net.out_channels, net.out_strides, net.depths) == ((384,), (16,), (12,))

    def test_subset_of_stages_in_the_order_given(self):
        net = thin(out_indices=(2, 0))
        assert net.out_channels == (32, 8)
        shapes = [tuple(feature.shape) for feature in net(torch.rand(1, 3, 64, 64))]
        assert shapes == [(1, 32, 4, 4), (1, 8, 16, 16)]
        assert len(net.layers) == 3
        assert net.layers[2].downsample is None

    def test_outputs_follow_the_memory_format_of_the_images(self):
        net, image = thin(), torch.rand(2, 3, 64, 64)
        assert all(feature.is_contiguous() for feature in net(image))
        channels_last = net(image.contiguous(memory_format=torch.channels_last))
        assert all(feature.is_contiguous(memory_format=torch.channels_last) for feature in channels_last)
        for feature, expected in zip(channels_last, net(image)):
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)


class TestSettings:

    @pytest.mark.parametrize('name', ['in_channels', 'focal_factor', 'mlp_ratio', 'drop_rate', 'drop_path_rate'])
    def test_none_where_no_variant_has_a_value(self, name):
        with pytest.raises((ValueError, TypeError)):
            FocalNet('tiny-lrf', **{name: None})

    def test_every_preset_can_be_overridden(self):
        net = FocalNet('large-fl4', embed_dims=16, depths=(1, 2), focal_levels=(1, 2), focal_windows=(5, 7),
                       focal_factor=(2, 4), patch_size=8, conv_stem=False, layer_scale_init_value=0, post_norm=False,
                       post_norm_in_modulation=True, normalize_modulator=False)
        first, second = net.layers[0].blocks[0], net.layers[1].blocks[0]
        assert [layer[0].kernel_size[0] for layer in second.modulation.focal_layers] == [7, 11]
        assert net.patch_embed.proj.kernel_size == net.patch_embed.proj.stride == (8, 8)
        assert first.gamma_1 is None
        assert not first.post_norm
        assert first.modulation.ln.weight.shape == (16,)
        assert not first.modulation.normalize_modulator

    @pytest.mark.parametrize(('padding', 'expected'), [(2, 2), (3, 3)])
    def test_stem_padding(self, padding, expected):
        assert FocalNet('large-fl3', **THIN, stem_padding=padding).patch_embed.proj.padding == (expected, expected)
        assert FocalNet('large-fl3', **THIN).patch_embed.proj.padding == (2, 2)

    def test_windows_and_levels_per_stage(self):
        net = thin(focal_windows=(11, 9, 9, 7), focal_levels=(3, 2, 1, 0))
        kernels = [[layer[0].kernel_size[0] for layer in stage.blocks[0].modulation.focal_layers]
                   for stage in net.layers]
        assert kernels == [[11, 13, 15], [9, 11], [9], []]

    def test_stochastic_depth_rises_linearly_over_all_blocks(self):
        net = FocalNet(**THIN, drop_path_rate=0.4)
        rates = [getattr(block.drop_path, 'drop_prob', 0) for stage in net.layers for block in stage.blocks]
        assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])

    def test_stochastic_depth_drops_whole_branches(self):
        net = thin(drop_path_rate=0.9).train()
        block, x = net.layers[3].blocks[0], torch.rand(64, 2, 2, 64)
        unchanged = (block(x) == x).flatten(1).all(1)
        # Both branches are dropped with probability 0.9², 52 of 64 on average.
        assert 35 < unchanged.sum() < 64

    def test_without_patch_norm(self):
        net = FocalNet(**THIN, patch_norm=False)
        assert [name for name, _ in net.patch_embed.named_parameters()] == ['proj.weight', 'proj.bias']
        assert 'layers.0.downsample.norm.weight' in net.state_dict()

    @pytest.mark.parametrize(('settings', 'message'), [
        (dict(focal_levels=(3, 3)), 'focal_levels needs one value for each of the 4 stages, or .* got 2'),
        (dict(focal_windows=[9] * 5), 'focal_windows needs one value for each of the 4 stages'),
        (dict(focal_windows=4), 'kernels must be odd and positive'),
        (dict(focal_windows=0), 'focal_windows must be made of integers of at least 1, got 0'),
        (dict(focal_factor=1), 'kernels must be odd'),
        (dict(focal_levels=-1), 'focal_levels must be made of integers of at least 0'),
        (dict(depths=(2, 0, 2, 2)), 'depths must be made of integers of at least 1, got 0'),
        (dict(embed_dims=9.5), 'embed_dims must be made of integers'),
        (dict(out_indices=4), r'out_indices must name stages 0 to 3 of 4, got \(4,\)'),
        (dict(out_indices=(-1,)), 'out_indices must name stages 0 to 3'),
        (dict(out_indices=()), 'out_indices must name stages'),
        (dict(out_indices=(1, 1)), 'must not name a stage twice'),
        (dict(frozen_stages=5), 'frozen_stages must be an integer from -1 to 4, got 5'),
        (dict(drop_path_rate=1.0), r'drop_path_rate must be in \[0, 1\), got 1.0'),
    ])
    def test_bad_values(self, settings, message):
        with pytest.raises(ValueError, match=message):
            FocalNet(**{**THIN, **settings})

    def test_depths_must_be_a_sequence(self):
        with pytest.raises(TypeError, match='depths must be a sequence of integers, got 3'):
            FocalNet(depths=3)

    @pytest.mark.parametrize('shape', [(1, 1, 32, 32), (3, 32, 32), (1, 32, 32, 3)])
    def test_images_of_another_form(self, shape):
        with pytest.raises(ValueError, match=r'FocalNet takes images of shape \(N, 3, H, W\), got \(') as error:
            thin()(torch.rand(shape))
        assert str(shape) in str(error.value)

    def test_one_channel(self):
        assert thin(in_channels=1)(torch.rand(1, 1, 32, 32))[0].shape == (1, 8, 8, 8)


class TestTraining:

    def test_train_returns_the_module(self):
        net = thin()
        assert net.train() is net
        assert net.eval() is net

    @pytest.mark.parametrize('frozen', [-1, 0, 1, 3, 4])
    def test_frozen_stages(self, frozen):
        net = thin(frozen_stages=frozen, drop_rate=0.1, drop_path_rate=0.1).train()
        parts = {'patch_embed': net.patch_embed, **{f'layers.{i}': layer for i, layer in enumerate(net.layers)}}
        expected = list(parts)[:frozen + 1]
        assert [name for name, part in parts.items() if not part.training] == expected
        assert [name for name, part in parts.items()
                if not any(p.requires_grad for p in part.parameters())] == expected
        assert all(net.get_parameter(f'norm{i}.weight').requires_grad for i in range(4))
        sum(feature.sum() for feature in net(torch.rand(1, 3, 32, 32))).backward()
        assert all((parameter.grad is not None) == parameter.requires_grad for parameter in net.parameters())
        assert not net.eval().training

    def test_frozen_stem_drops_nothing(self):
        net = thin(frozen_stages=0, drop_rate=0.5).train()
        image = torch.rand(1, 3, 32, 32)
        stem = [net.pos_drop(net.patch_embed(image)) for _ in range(2)]
        assert torch.equal(*stem)

    @pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), (1,), (0, 2)])
    @pytest.mark.parametrize('arch', ['tiny-lrf', 'large-fl4', 'huge-fl3'])
    def test_every_parameter_gets_a_gradient(self, arch, out_indices):
        net = thin(arch, out_indices=out_indices).train()
        sum(feature.square().sum() for feature in net(torch.rand(2, 3, 64, 64))).backward()
        assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []

    @pytest.mark.parametrize('arch', ['tiny-lrf', 'large-fl4'])
    def test_checkpointing_changes_nothing_but_memory(self, arch):
        gradients, kept = [], []
        for with_cp in (False, True):
            net = thin(arch, with_cp=with_cp, drop_path_rate=0.3, drop_rate=0.1).train()
            torch.manual_seed(1)
            sizes = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):  # noqa: B023
                features = net(torch.rand(2, 3, 64, 64))
            sum(feature.square().sum() for feature in features).backward()
            gradients.append([parameter.grad for parameter in net.parameters()])
            kept.append(sum(sizes))
        for plain, recomputed in zip(*gradients):
            torch.testing.assert_close(plain, recomputed)
        assert kept[1] < 0.5 * kept[0]

    def test_layer_depths(self):
        net = FocalNet(**THIN)
        depths = {name: net.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in net.named_parameters()}
        assert set(depths.values()) == {(i, 7) for i in range(7)}
        for name, expected in {
                'patch_embed.norm.bias': 0, 'layers.0.blocks.0.norm1.weight': 1, 'layers.0.downsample.proj.weight': 1,
                'layers.2.blocks.1.mlp.fc1.bias': 4, 'layers.2.downsample.norm.weight': 4,
                'layers.3.blocks.0.modulation.focal_layers.2.0.weight': 5, 'norm0.weight': 6}.items():
            assert depths[name][0] == expected, name
        assert net.get_layer_depth('head.fc.weight', 'backbone.') == (6, 7)

    def test_layer_wise_decay_of_mmpretrain(self):
        import mmpretrain.engine  # noqa: F401
        from mmengine.optim import build_optim_wrapper
        model = torch.nn.Module()
        model.backbone, model.get_layer_depth = (net := FocalNet(**THIN)), lambda name: net.get_layer_depth(
            name, 'backbone.')
        optimizer = build_optim_wrapper(model, dict(
            constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
            paramwise_cfg=dict(layer_decay_rate=0.5))).optimizer
        rates = {group['param_name']: group['lr'] for group in optimizer.param_groups}
        assert rates['backbone.patch_embed.proj.weight'] == 0.5**6
        assert rates['backbone.layers.3.blocks.0.mlp.fc2.weight'] == 0.5
        assert rates['backbone.norm3.weight'] == 1


class TestInitialisation:

    def test_as_the_paper_says(self):
        torch.manual_seed(0)
        net = FocalNet('base-iso', depths=(1,))
        net.init_weights()
        block = net.layers[0].blocks[0]
        for linear in (block.modulation.f, block.modulation.proj, block.mlp.fc1, block.mlp.fc2):
            assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert linear.weight.abs().max() <= 2
            assert not linear.bias.any()
        for norm in (block.norm1, block.norm2, net.norm0, net.patch_embed.norm):
            assert (norm.weight == 1).all()
            assert not norm.bias.any()
        assert (block.gamma_1 == 1e-4).all()
        assert (block.gamma_2 == 1e-4).all()
        # PyTorch's default for convolutions: uniform within 1 / sqrt(fan-in).
        kernel = block.modulation.focal_layers[0][0].weight
        assert 0.3 < kernel.abs().max() <= 1 / 3

    def test_other_initialisers_come_after_the_papers(self):
        net = FocalNet(**THIN, init_cfg=[dict(type='Constant', layer='Linear', val=0.5, bias=0.25)])
        net.init_weights()
        assert (net.layers[0].blocks[0].mlp.fc1.weight == 0.5).all()
        assert (net.norm0.weight == 1).all()

    def test_layer_scale_value(self):
        net = FocalNet(**THIN, layer_scale_init_value=0.1)
        net.init_weights()
        assert torch.equal(net.layers[1].blocks[0].gamma_2, torch.full((16,), 0.1))


class TestTorchFeatures:

    def test_found_in_every_library(self):
        import mmdet.registry
        import mmpretrain.registry
        import mmseg.registry
        for registry in (MODELS, mmdet.registry.MODELS, mmseg.registry.MODELS, mmpretrain.registry.MODELS):
            assert registry.get('FocalNet') is FocalNet
            assert registry.get('mmengine.FocalNet') is FocalNet

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize('arch', ['tiny-lrf', 'huge-fl4'])
    def test_autocast(self, arch, dtype, relative_error):
        if dtype == torch.float16 and not HAS_OPERATORS:
            pytest.skip('autocast of an old torch computes in bfloat16 alone on CPUs')
        net, image = thin(arch), torch.rand(1, 3, 64, 96)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        with torch.autocast('cpu', dtype):
            features = net(image)
            sum(feature.float().square().mean() for feature in features).backward()
        for feature, expected in zip(features, net(image)):
            assert relative_error(feature, expected) < 30 * torch.finfo(dtype).eps
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())

    @pytest.mark.slow
    def test_compiles_to_one_graph(self):
        net, image = thin('large-fl4'), torch.rand(1, 3, 64, 64)
        compiled = torch.compile(net, fullgraph=True, backend='aot_eager')
        for feature, expected in zip(compiled(image), net(image)):
            torch.testing.assert_close(feature, expected)
        train = torch.compile(thin(drop_path_rate=0.2, with_cp=True).train(), fullgraph=True, backend='aot_eager')
        sum(feature.sum() for feature in train(image)).backward()

    @pytest.mark.parametrize('arch', ['tiny-lrf', 'large-fl4'])
    def test_traced_at_one_size_runs_at_others(self, arch):
        net = thin(arch)
        with torch.no_grad():
            traced = torch.jit.trace(net, torch.rand(1, 3, 64, 64))
            for size in ((64, 64), (50, 71), (96, 33)):
                image = torch.rand(2, 3, *size)
                for feature, expected in zip(traced(image), net(image)):
                    torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize('clone', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
    def test_copies(self, clone):
        net = thin('huge-fl3', frozen_stages=1)
        other, image = clone(net), torch.rand(1, 3, 32, 32)
        assert all(torch.equal(*pair) for pair in zip(net(image), other(image)))
        assert other.train().patch_embed.training is False

    def test_state_dict_round_trip(self):
        net, buffer, image = thin('large-fl4'), io.BytesIO(), torch.rand(1, 3, 32, 32)
        torch.save(net.state_dict(), buffer)
        buffer.seek(0)
        other = FocalNet('large-fl4', **THIN).eval()
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert all(torch.equal(*pair) for pair in zip(net(image), other(image)))

    def test_official_names(self):
        names = set(FocalNet('huge-fl3', **THIN).state_dict())
        block = 'layers.2.blocks.1.'
        assert {f'{block}{name}' for name in (
            'norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias', 'gamma_1', 'gamma_2', 'modulation.f.weight',
            'modulation.f.bias', 'modulation.h.weight', 'modulation.h.bias', 'modulation.proj.weight',
            'modulation.proj.bias', 'modulation.ln.weight', 'modulation.ln.bias',
            'modulation.focal_layers.0.0.weight', 'modulation.focal_layers.1.0.weight',
            'modulation.focal_layers.2.0.weight', 'mlp.fc1.weight', 'mlp.fc1.bias', 'mlp.fc2.weight', 'mlp.fc2.bias',
        )} == {name for name in names if name.startswith(block)}
        assert {name for name in names if not name.startswith('layers.')} == {
            f'{layer}.{kind}' for kind in ('weight', 'bias')
            for layer in ('patch_embed.proj', 'patch_embed.norm', 'norm0', 'norm1', 'norm2', 'norm3')}
        assert {name for name in names if 'downsample' in name} == {
            f'layers.{i}.downsample.{layer}.{kind}'
            for i in range(3) for layer in ('proj', 'norm') for kind in ('weight', 'bias')}
        shapes = FocalNet('huge-fl3', **THIN).state_dict()
        assert shapes[f'{block}modulation.f.weight'].shape == (68, 32)
        assert shapes[f'{block}modulation.h.weight'].shape == (32, 32, 1, 1)
