"""Gates and modulators are those of the paper's formulas, for any model, and reading them changes nothing."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import InstanceData
from torch import nn

from focalnet_mm import FocalNet
from focalnet_mm.backbone.recording import is_as_built
from focalnet_mm.explain import (
    FocalMaps,
    find_backbone,
    focal_maps,
    mean_kernels,
    norm_on_objects,
    plot_focal_maps,
    plot_kernels,
    receptive_fields,
)

THIN = dict(embed_dims=8, depths=(1, 2), focal_levels=2, focal_windows=3)


def net(**settings):
    torch.manual_seed(0)
    net = FocalNet({**THIN, **settings})
    net.init_weights()
    # Gates far from 0, and layer scales that let each block count.
    for name, parameter in net.named_parameters():
        if '.f.' in name or 'gamma' in name:
            nn.init.normal_(parameter, std=0.5)
    return net


def by_the_paper(block, x, levels, pre_norm, normalize):
    """Equations 4 and 5 on a block's input (N, C, H, W), from its parameters alone."""
    weights = {name: value.detach() for name, value in block.state_dict().items()}
    count, channels, height, width = x.shape
    positions = x.permute(0, 2, 3, 1).reshape(-1, channels)
    if pre_norm:
        centred = positions - positions.mean(1, keepdim=True)
        positions = (centred / torch.sqrt((centred**2).mean(1, keepdim=True) + 1e-5)
                     * weights['norm1.weight'] + weights['norm1.bias'])
    mixed = positions @ weights['modulation.f.weight'].T + weights['modulation.f.bias']
    mixed = mixed.reshape(count, height, width, -1).permute(0, 3, 1, 2)
    level, gates = mixed[:, channels:2 * channels], mixed[:, 2 * channels:]

    def gelu(x):
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    out = torch.zeros_like(level)
    for i in range(levels):
        kernel = weights[f'modulation.focal_layers.{i}.0.weight']
        k = kernel.shape[-1]
        padded = F.pad(level, [k // 2] * 4)
        level = gelu(sum(kernel[:, 0, dy, dx, None, None] * padded[..., dy:dy + height, dx:dx + width]
                         for dy in range(k) for dx in range(k)))
        out += gates[:, i:i + 1] * level
    out += gates[:, levels:] * gelu(level.mean((2, 3), keepdim=True))
    if normalize:
        out /= levels + 1
    modulator = torch.einsum('oc,nchw->nohw', weights['modulation.h.weight'][:, :, 0, 0], out)
    return gates, modulator + weights['modulation.h.bias'][:, None, None]


@pytest.mark.parametrize('levels', range(5))
@pytest.mark.parametrize('norms', ['pre', 'post', 'post, inside too'])
@pytest.mark.parametrize('normalize', [False, True])
def test_maps_are_those_of_the_paper(levels, norms, normalize):
    model = net(focal_levels=levels, post_norm=norms != 'pre', post_norm_in_modulation='inside' in norms,
                normalize_modulator=normalize, layer_scale_init_value=0.5).double()
    inputs = {}
    for i, stage in enumerate(model.layers):
        for j, block in enumerate(stage.blocks):
            block.register_forward_pre_hook(lambda _, args, key=(i, j): inputs.update({key: args[0]}))
    found = focal_maps(model, torch.randn(2, 3, 27, 41, dtype=torch.float64))
    assert list(found) == [(0, 0), (1, 0), (1, 1)]
    for (i, j), maps in found.items():
        given = inputs[i, j].permute(0, 3, 1, 2)
        gates, modulator = by_the_paper(model.layers[i].blocks[j], given, levels, norms == 'pre', normalize)
        assert maps.gates.shape[1] == levels + 1
        torch.testing.assert_close(maps.gates, gates, rtol=0, atol=1e-10)
        torch.testing.assert_close(maps.modulator, modulator, rtol=0, atol=1e-10)
        torch.testing.assert_close(maps.norm, (modulator**2).sum(1).sqrt(), rtol=0, atol=1e-10)


@pytest.mark.parametrize('path', ['mmdet/maskrcnn_focalnet_t_1x.py', 'mmseg/upernet_focalnet_t_160k.py',
                                  'mmpretrain/focalnet_t_in1k.py', 'mmdet/mask2former_focalnet_t_50e_instance.py'])
def test_every_kind_of_model(path, batch, build, thin_config):
    cfg = thin_config(path)
    model, _ = build(cfg)
    model.train()
    data = batch(cfg)
    by_model = focal_maps(model, data, stages=-1)
    images = model.data_preprocessor(data, False)['inputs']
    by_backbone = focal_maps(model.backbone, images, stages=3)
    assert list(by_model) == [(3, 0), (3, 1)]
    for key in by_model:
        assert torch.equal(by_model[key].norm, by_backbone[key].norm)
    assert model.training
    assert model.backbone.training


class TestNoTrace:

    def test_hooks_modes_and_weights(self):
        model = FocalNet(THIN, frozen_stages=1, drop_path_rate=0.5).train()
        image = torch.randn(1, 3, 32, 32)
        names, modes = list(model.state_dict()), [part.training for part in model.modules()]
        first, second = (focal_maps(model, image)[1, 1].norm for _ in range(2))
        # Stochastic depth is off while the maps are computed.
        assert torch.equal(first, second)
        assert [part.training for part in model.modules()] == modes
        assert list(model.state_dict()) == names
        assert not any(part._forward_hooks for part in model.modules())
        assert all(is_as_built(block._built, block) for stage in model.layers for block in stage.blocks)
        assert not first.requires_grad

    def test_after_an_error(self):
        model = net().train()
        with pytest.raises(ValueError, match=r'takes images of shape \(N, 3, H, W\), got \(1, 4, 32, 32\)'):
            focal_maps(model, torch.randn(1, 4, 32, 32))
        assert model.training
        assert not any(part._forward_hooks for part in model.modules())

    def test_same_maps_as_in_a_forward_pass_of_the_fused_blocks(self):
        model = net().eval()
        image = torch.randn(1, 3, 64, 48)
        before = model(image)
        focal_maps(model, image)
        for old, new in zip(before, model(image)):
            assert torch.equal(old, new)


def test_upsampled_maps_lie_on_their_pixels():
    """A map that is 1 left of a column of cells and 0 right of it changes at that column's pixels."""
    maps = FocalMaps(torch.zeros(1, 1, 5, 6), torch.zeros(1, 4, 5, 6), torch.zeros(1, 5, 6), 4)
    maps.norm[..., :2] = 1
    large = maps.upsampled(18, 23)
    assert large.gates.shape == (1, 1, 18, 23)
    assert large.modulator.shape == (1, 4, 5, 6)
    # Cell 1 has its middle at pixel 5.5, cell 2 at 9.5: half way lies between pixels 7 and 8.
    assert (large.norm[..., :6] == 1).all()
    assert (large.norm[..., 10:] == 0).all()
    torch.testing.assert_close(large.norm[0, 0, 7] + large.norm[0, 0, 8], torch.tensor(1.0))
    again = large.upsampled(18, 23)
    assert torch.equal(again.norm, large.norm)


def test_bfloat16_weights_give_float32_maps():
    found = focal_maps(net().bfloat16(), torch.randn(1, 3, 32, 32).bfloat16())
    assert {maps.norm.dtype for maps in found.values()} == {torch.float32}


class TestChoice:

    @pytest.mark.parametrize(('stages', 'blocks', 'expected'), [
        (None, -1, [(0, 0), (1, 1)]), (-1, None, [(1, 0), (1, 1)]), ([1, 0], [0], [(1, 0), (0, 0)]),
        (None, 1, [(1, 1)]), ([0, 0], [0, -1], [(0, 0)])])
    def test_blocks(self, stages, blocks, expected):
        assert list(focal_maps(net(), torch.randn(1, 3, 16, 16), stages, blocks)) == expected

    @pytest.mark.parametrize(('stages', 'blocks', 'error', 'message'), [
        (2, None, IndexError, 'There is no stage 2: the backbone has 2, 0 to 1.'),
        (None, -3, IndexError, 'There is no block -3: the chosen stages have at most 2, 0 to 1.'),
        (0, 1, IndexError, 'There is no block 1: the chosen stages have at most 1, 0 to 0.'),
        ([], None, ValueError, 'No stage was chosen.'), (None, [], ValueError, 'No block was chosen')])
    def test_what_does_not_exist(self, stages, blocks, error, message):
        with pytest.raises(error, match=message):
            focal_maps(net(), torch.randn(1, 3, 16, 16), stages, blocks)

    def test_models_without_one_backbone(self):
        with pytest.raises(ValueError, match='the Linear has none'):
            find_backbone(nn.Linear(1, 1))
        both = nn.ModuleDict(dict(student=net(), teacher=net()))
        with pytest.raises(ValueError, match=r'the ModuleDict has 2: student, teacher\. Name one of them as the back'):
            find_backbone(both)
        assert find_backbone(both, 'teacher') is both['teacher']
        for name, count in (('stud', 0), ('teacher.x', 0)):
            with pytest.raises(ValueError, match=f"'{name}' was asked for, but {count} FocalNets of the ModuleD"):
                find_backbone(both, name)
        with pytest.raises(ValueError, match=r"'a' was asked for, but 2 FocalNets .* has: a\.student, a\.teacher"):
            find_backbone(nn.ModuleDict(dict(a=both)), 'a')
        with pytest.raises(TypeError, match='FocalNet has no data_preprocessor: pass images of shape'):
            focal_maps(net(), dict(inputs=[]))

    def test_wrapped_model(self, tmp_path):
        torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
        try:
            model = net()
            assert find_backbone(MMDistributedDataParallel(model, device_ids=None)) is model
        finally:
            torch.distributed.destroy_process_group()


def test_mean_kernels():
    model = net(focal_levels=(1, 2))
    kernels = mean_kernels(model)
    assert {key: tuple(kernel.shape) for key, kernel in kernels.items()} == {
        (0, 0): (3, 3), (1, 0): (3, 3), (1, 1): (5, 5)}
    blocks = [block.modulation.focal_layers[1][0].weight.detach().numpy() for block in model.layers[1].blocks]
    expected = np.mean([blocks[i][channel, 0] for i in range(2) for channel in range(16)], axis=0)
    np.testing.assert_allclose(kernels[1, 1].numpy(), expected, rtol=1e-5, atol=1e-7)
    assert mean_kernels(net(focal_levels=0)) == {}


class TestReceptiveFields:

    def test_paper(self):
        """Kernels 3, 5, 7, 9 see 3, 7, 13 and 21 pixels."""
        fields = receptive_fields(net(focal_levels=4), blocks=0)
        assert [(field.stage, field.level, field.theoretical) for field in fields] == [
            (stage, level, size) for stage in (0, 1) for level, size in ((1, 3), (2, 7), (3, 13), (4, 21))]
        assert {field.stride for field in fields if field.stage == 1} == {8}
        assert all(field.measured is None for field in fields)

    def test_all_of_the_gradient_is_what_the_formula_says(self):
        fields = receptive_fields(net(focal_levels=3).double(), torch.randn(1, 3, 128, 128, dtype=torch.float64),
                                  stages=0, share=1)
        assert [field.measured for field in fields] == [3, 7, 13]

    def test_kernels_of_one_weight_see_one_pixel(self):
        model = net()
        with torch.no_grad():
            for layer in model.layers[0].blocks[0].modulation.focal_layers:
                layer[0].weight.zero_()[:, :, layer[0].kernel_size[0] // 2, layer[0].kernel_size[0] // 2] = 1
        fields = receptive_fields(model, torch.randn(1, 3, 64, 64), stages=0)
        assert [(field.theoretical, field.measured) for field in fields] == [(3, 1), (7, 1)]

    def test_share_out_of_range(self):
        with pytest.raises(ValueError, match=r'share must be in \(0, 1\], got 0'):
            receptive_fields(net(), share=0)


class TestNormOnObjects:

    def sample(self, height, width, objects):
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks
        masks = np.zeros((len(objects), height, width), np.uint8)
        for mask, (top, bottom, left, right) in zip(masks, objects):
            mask[top:bottom, left:right] = 1
        sample = DetDataSample(metainfo=dict(img_shape=(32, 64)))
        sample.gt_instances = InstanceData(masks=BitmapMasks(masks, height, width))
        return sample

    def test_ratio(self, monkeypatch):
        """A norm of 6 on the left and 2 on the right, objects on the left; annotations of twice the size."""
        norm = torch.full((2, 8, 16), 2.0)
        norm[..., :8] = 6
        maps = FocalMaps(torch.zeros(2, 1, 8, 16), torch.zeros(2, 4, 8, 16), norm, 4)
        monkeypatch.setattr('focalnet_mm.explain.maps.focal_maps', lambda *_: {(1, 0): maps})
        # Away from the middle, where the maps are resized; the second image has no object.
        samples = [self.sample(64, 128, [(0, 64, 0, 40), (5, 6, 10, 20)]), self.sample(64, 128, [])]
        found = norm_on_objects(None, [dict(inputs=None, data_samples=samples)])
        outside = 64 * 128 * 2 - 64 * 40
        # The resized maps have their mean; 24 columns of the first and all of the second image are not of objects.
        expected = 6 / ((64 * 24 * 6 + 64 * 64 * 2 + 64 * 64 * 6 + 64 * 64 * 2) / outside)
        assert found == {(1, 0): pytest.approx(expected, rel=1e-6)}

    def test_without_masks(self):
        from mmdet.structures import DetDataSample
        batch = dict(data_samples=[DetDataSample()])
        model = nn.Module()
        model.backbone, model.data_preprocessor = net(), lambda *_: dict(inputs=torch.zeros(1, 3, 32, 32))
        with pytest.raises(ValueError, match='The samples have no masks in gt_instances: use a data set'):
            norm_on_objects(model, [batch])


class TestFigures:

    def test_maps(self):
        model = net(focal_levels=(1, 3))
        image = np.zeros((30, 44, 3), np.uint8)
        figure = plot_focal_maps(image, focal_maps(model, torch.randn(2, 3, 32, 48), blocks=-1), index=1, title='a')
        titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
        assert titles == [
            'stage 0, block 0', 'gate, level 1', 'gate, global context', 'modulator', 'stage 1, block 1',
            'gate, level 1', 'gate, level 2', 'gate, level 3', 'gate, global context', 'modulator']
        labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
        assert labels == ['gate (no unit)', 'L2 norm (no unit)'] * 2
        assert {axis.images[-1].get_array().shape[:2] for axis in figure.axes if axis.get_title()} == {(30, 44)}
        with pytest.raises(ValueError, match='There are no maps to draw'):
            plot_focal_maps(image, {})

    def test_kernels(self):
        figure = plot_kernels(mean_kernels(net(focal_levels=(1, 2))))
        assert [axis.get_title() for axis in figure.axes if axis.get_title()] == [
            'stage 0, level 1', 'stage 1, level 1', 'stage 1, level 2']
        with pytest.raises(ValueError, match='the model has no focal levels'):
            plot_kernels({})
