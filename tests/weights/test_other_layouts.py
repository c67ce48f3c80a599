"""Layouts of other codes and wrappers of other trainers, each made by or written over the names of that code."""

import pytest
import torch
from torch import nn

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.weights import convert, detect_layout, load_into, read_checkpoint, read_model, trained_classes
from tests.helpers.classifiers import TIMM_NAMES


def randomise(module):
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=float('norm' in name and name.endswith('weight')), std=0.1)
    return module.eval()


@pytest.mark.parametrize('arch', ['tiny-srf', 'huge-fl3'])
def test_timm_features(tmp_path, arch, timm_features, same):
    """timm's own model of features, from its file and back into it."""
    from timm.models.focalnet import _create_focalnet
    settings = ARCHS[arch]
    scaled_up = settings.get('post_norm', False)
    theirs = randomise(_create_focalnet(
        TIMM_NAMES[arch], pretrained=False, features_only=True, embed_dim=8, depths=settings['depths'],
        focal_levels=[settings['focal_levels']] * 4, focal_windows=[settings['focal_windows']] * 4,
        use_overlap_down=scaled_up, use_post_norm=scaled_up,
        use_post_norm_in_modulation=settings.get('post_norm_in_modulation', False),
        layerscale_value=1e-4 if scaled_up else None))
    state = theirs.state_dict()
    assert detect_layout(state) == 'timm-features'
    torch.save(state, tmp_path / 'x.pth')
    net = FocalNet(arch, embed_dims=8).eval()
    report = load_into(net, tmp_path / 'x.pth')
    assert report.layout == 'timm-features'
    assert set(report.new) == {f'norm{i}.{kind}' for i in range(4) for kind in ('weight', 'bias')}
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, reference in zip(timm_features(net, x), theirs(x), strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4 * reference.abs().max())
    same(convert(convert(state, 'official'), 'timm-features', arch=arch), state)
    with pytest.raises(ValueError, match=r'timm-features has no norms and no place for norm0.weight.*backbone_only'):
        convert(net.state_dict(), 'timm-features', arch=arch)
    same(convert(net.state_dict(), 'timm-features', arch=arch, backbone_only=True), state)


def relation_detr(net):
    """A detector of Relation-DETR's or Salience-DETR's names: the backbone is Sequential(network, output norms)."""
    network = nn.ModuleDict(dict(net.named_children()))
    norms = nn.ModuleDict({name: network.pop(name) for name in list(network) if name.startswith('norm')})
    return nn.ModuleDict(dict(
        backbone=nn.Sequential(network, norms),
        neck=nn.Sequential(nn.Conv2d(16, 8, 1))))


def test_relation_detr(tmp_path, same):
    """The output norms are found beside the network."""
    source = randomise(FocalNet('large-fl4', embed_dims=8, depths=(1, 1, 1, 1)))
    state = relation_detr(source).state_dict()
    assert 'backbone.1.norm3.weight' in state
    assert detect_layout(state) == 'relation-detr'
    torch.save({'model': state}, tmp_path / 'x.pth')
    net = FocalNet('large-fl4', embed_dims=8, depths=(1, 1, 1, 1)).eval()
    report = load_into(net, tmp_path / 'x.pth')
    assert not report.new
    assert set(report.unused) == {'neck.0.weight', 'neck.0.bias'}
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(net(x), source(x), strict=True):
            assert torch.equal(ours, expected)
    backbone = {name: tensor for name, tensor in state.items() if name.startswith('backbone.')}
    same(convert(source.state_dict(), 'relation-detr'), backbone)
    same(convert(convert(backbone, 'mm'), 'relation-detr'), backbone)
    assert read_model(tmp_path / 'x.pth')['state_dict'].keys() >= {
        f'backbone.{name}' for name in source.state_dict()}


def test_relation_detr_of_a_classifier(classifier):
    _, state = classifier('tiny-srf')
    with pytest.raises(ValueError, match=r'relation-detr has no place for a classifier'):
        convert(state, 'relation-detr')
    converted = convert(state, 'relation-detr', backbone_only=True)
    assert torch.equal(converted['backbone.1.norm3.weight'], state['norm.weight'])


def test_lightning(tmp_path, classifier, same):
    """A LightningModule keeps its model as an attribute: the whole model lies under its name."""
    _, state = classifier('tiny-srf')
    whole = {**convert(state, 'mm'), 'head.extra.weight': torch.ones(1)}
    torch.save({'state_dict': {f'model.{name}': tensor for name, tensor in whole.items()}, 'epoch': 3,
                'pytorch-lightning_version': '2.4.0', 'optimizer_states': [], 'callbacks': {},
                'hyper_parameters': {'lr': 0.1}}, tmp_path / 'x.ckpt')
    same(read_model(tmp_path / 'x.ckpt')['state_dict'], whole)
    # Beside a loss with parameters nothing tells which of the names are the model's.
    torch.save({'state_dict': {**{f'model.{name}': tensor for name, tensor in whole.items()},
                               'loss.scale': torch.ones(1)}}, tmp_path / 'y.ckpt')
    assert 'model.head.extra.weight' in read_model(tmp_path / 'y.ckpt')['state_dict']


def test_deepspeed(tmp_path, classifier, same):
    """A run's folder, a checkpoint's folder, and its file; parts are refused."""
    _, state = classifier('tiny-srf')
    run = tmp_path / 'run'
    step = run / 'global_step10'
    step.mkdir(parents=True)
    for gone in ('global_step9', '../x', ''):
        (run / 'latest').write_text(gone)
        with pytest.raises(FileNotFoundError, match=rf"latest names '{gone}', which is no folder beside it: give the"):
            read_checkpoint(run)
    (run / 'latest').write_text('global_step10')
    file = step / 'mp_rank_00_model_states.pt'
    torch.save({'module': {f'module.{name}': tensor for name, tensor in state.items()}, 'buffer_names': [],
                'optimizer': None, 'param_shapes': [{'a': torch.Size([1])}], 'ds_version': '0.15'}, file)
    for source in (run, step, file):
        same(convert(read_checkpoint(source), 'official'), state)
        assert read_model(source)['state_dict'].keys() == convert(state, 'mm').keys()
    (step / 'mp_rank_01_model_states.pt').touch()
    with pytest.raises(ValueError, match=r'global_step10 has the tensors in parts, .* join them .* zero_to_fp32\.py'):
        read_checkpoint(run)
    for path in step.iterdir():
        path.unlink()
    (step / 'zero_pp_rank_0_mp_rank_00_model_states.pt').touch()
    with pytest.raises(ValueError, match=r'\(zero_pp_rank_0_mp_rank_00_model_states\.pt, …\)'):
        read_checkpoint(run)


@pytest.fixture(scope='module')
def mask2former():
    """mmdet 3's Mask2Former, thin, and mmcv's layers as mmdet 2.28 built its transformers of."""
    from mmcv.cnn.bricks.transformer import BaseTransformerLayer
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    from tests.helpers.tools import ROOT
    register_all_modules()
    cfg = Config.fromfile(ROOT / 'configs/mmdet/mask2former_focalnet_t_50e_instance.py').model
    cfg.backbone.update(embed_dims=8, depths=(1, 1, 1, 1), init_cfg=None)
    cfg.panoptic_head.update(in_channels=[8, 16, 32, 64], num_queries=10)
    cfg.panoptic_head.pixel_decoder.encoder.num_layers = 1
    cfg.panoptic_head.transformer_decoder.num_layers = 1
    model = randomise(MODELS.build(cfg))
    ffn = dict(type='FFN', embed_dims=256, feedforward_channels=2048, num_fcs=2, ffn_drop=0.0,
               act_cfg=dict(type='ReLU', inplace=True))
    attention = dict(type='MultiheadAttention', embed_dims=256, num_heads=8, attn_drop=0.0, proj_drop=0.0,
                     batch_first=True)
    decoder = BaseTransformerLayer([dict(attention), dict(attention)], ffn_cfgs=ffn, batch_first=True,
                                   operation_order=('cross_attn', 'norm', 'self_attn', 'norm', 'ffn', 'norm'))
    encoder = BaseTransformerLayer(
        [dict(type='MultiScaleDeformableAttention', embed_dims=256, num_heads=8, num_levels=3, num_points=4,
              batch_first=True, dropout=0.0)], ffn_cfgs=dict(ffn, feedforward_channels=1024), batch_first=True,
        operation_order=('self_attn', 'norm', 'ffn', 'norm'))
    return model, randomise(encoder), randomise(decoder)


@pytest.mark.slow
def test_mask2former_of_mmdet_2(tmp_path, mask2former, same):
    """Its tensors by the names of mmcv's layers do in mmdet 3 what those layers do."""
    model, encoder, decoder = mask2former
    head = 'panoptic_head.'
    state = {name: tensor for name, tensor in model.state_dict().items()
             if '.encoder.layers.' not in name and '.transformer_decoder.layers.' not in name}
    state.update({f'{head}pixel_decoder.encoder.layers.0.{name}': tensor
                  for name, tensor in encoder.state_dict().items()})
    state.update({f'{head}transformer_decoder.layers.0.{name}': tensor
                  for name, tensor in decoder.state_dict().items()})
    assert detect_layout(state) == 'mm2'
    torch.save({'state_dict': state, 'meta': dict(CLASSES=('a', 'b'), mmdet_version='2.28.2')}, tmp_path / 'x.pth')
    read = read_model(tmp_path / 'x.pth')
    same(convert(read['state_dict'], 'mm2'), state)
    assert trained_classes(read['meta']) == {'classes': ('a', 'b')}
    assert detect_layout(read['state_dict']) == 'mm'
    model.load_state_dict(read['state_dict'], strict=True)

    query, place, memory, place_of_memory = (torch.randn(1, count, 256) for count in (10, 10, 30, 30))
    layer = model.panoptic_head.transformer_decoder.layers[0]
    with torch.no_grad():
        torch.testing.assert_close(
            layer(query=query, key=memory, value=memory, query_pos=place, key_pos=place_of_memory),
            decoder(query=query, key=memory, value=memory, query_pos=place, key_pos=place_of_memory),
            rtol=1e-5, atol=1e-5)
    shapes = torch.tensor([[1, 2], [2, 3], [4, 6]])
    starts = torch.tensor([0, 2, 8])
    tokens, places = torch.randn(1, 32, 256), torch.randn(1, 32, 256)
    points = torch.rand(1, 32, 3, 2)
    layer = model.panoptic_head.pixel_decoder.encoder.layers[0]
    common = dict(query_pos=places, spatial_shapes=shapes, level_start_index=starts, reference_points=points)
    with torch.no_grad():
        torch.testing.assert_close(
            layer(query=tokens, key_padding_mask=None, **common),
            encoder(query=tokens, key=None, value=None, **common), rtol=1e-5, atol=1e-5)
