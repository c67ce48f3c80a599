"""The paper's ablations and smaller tables: the main config with one thing exchanged, of the published size."""

import copy
import functools

import pytest
from mmengine.config import Config

from focalnet_mm.backbone.archs import resolve_arch
from focalnet_mm.zoo.rows import read_zoo
from focalnet_mm.zoo.sizes import model_size
from tests.helpers.tools import ROOT

ROWS = {row.name: row for row in read_zoo(ROOT)}
# arXiv 2203.11926v3, tables 12 to 14, of T-LRF: arguments, parameters (M), FLOPs (G), top-1 accuracy.
ABLATIONS = {f'focalnet_t_{name}_in1k': row for name, row in {
    'depthwise_convnet': (dict(modulation='depthwise_convnet'), 28.6, 4.47, 81.6),
    'pooling': (dict(modulation='pooling'), 28.3, 4.37, 80.5),
    'global_pooling': (dict(modulation='global_pooling'), 28.3, 4.36, 75.7),
    'self_attention_qkv_first': (dict(modulation='self_attention_qkv_first'), 28.6, 4.61, 81.5),
    'self_attention_qkv_later': (dict(modulation='self_attention_qkv_later'), 28.6, 7.26, 80.8),
    'sliding_window': (dict(modulation='sliding_window'), 28.3, 4.49, 81.5),
    'sum': (dict(modulation='sum'), None, None, 81.5),
    'no_global': (dict(modulation='no_global'), None, None, 82.0),
    'top_only': (dict(modulation='top_only'), None, None, 81.9),
    'no_gating': (dict(modulation='no_gating'), None, None, 81.9),
    'fl0': (dict(focal_levels=0), 28.3, 4.36, 75.7),
    'fl1': (dict(focal_levels=1), None, None, 82.0),
    'fl4': (dict(focal_levels=4), None, None, 82.2),
    'fl1_k13': (dict(focal_levels=1, focal_windows=13), 28.8, None, 81.9),
}.items()}
# Table 13 with Mask R-CNN 1x: box AP, mask AP.
DETECTORS = dict(sum=(45.6, 41.1), no_global=(45.8, 41.2), top_only=(45.7, 41.2), no_gating=(45.6, 41.1))
# Table 2, then 3: parameters (M), FLOPs (G), top-1 accuracy.
NETWORKS = {
    't_srf_overlap': (30.4, None, 82.4), 's_srf_overlap': (51.8, None, 83.4), 'b_srf_overlap': (91.6, None, 84.0),
    't_deep_srf': (25.1, 4.0, 82.7), 's_deep_srf': (38.2, 6.4, 83.5), 'b_deep_srf': (85.1, 14.3, 84.1)}
# Table 7: parameters (M), FLOPs (G), box AP.
SRF = dict(cascade_maskrcnn=(86.4, 746, 51.5), atss=(36.5, 215, 49.2), sparsercnn=(110.5, 172, 49.6))


# Configs with the recipe of another one: that these differ in the backbone alone is tested here.
SAME_RECIPE = {*ABLATIONS, *(f'maskrcnn_focalnet_t_{name}_1x' for name in DETECTORS)}


@functools.cache
def config(name):
    return Config.fromfile(ROOT / ROWS[name].config).to_dict()


def with_backbone(name, **arguments):
    cfg = copy.deepcopy(config(name))
    cfg['model']['backbone'].update(arguments)
    return cfg


@pytest.mark.parametrize('name', ABLATIONS)
def test_classifier(name):
    arguments, parameters, flops, accuracy = ABLATIONS[name]
    row = ROWS[name]
    assert config(name) == with_backbone('focalnet_t_in1k', **arguments)
    assert row.results == {'ImageNet-1k': {'Top 1 Accuracy': accuracy}}
    assert (row.published_parameters, row.published_flops) == (parameters, flops)
    # That these sizes are measured ones is what test_configs tests.
    if parameters:
        assert row.size.parameters / 1e6 == pytest.approx(parameters, rel=0.01)
    if flops:
        assert row.size.flops / 1e9 == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize('name', DETECTORS)
def test_detector(name):
    row = ROWS[f'maskrcnn_focalnet_t_{name}_1x']
    expected = with_backbone('maskrcnn_focalnet_t_1x', modulation=name)
    expected['model']['backbone'].pop('init_cfg')
    assert config(row.name) == expected
    assert row.results == {'COCO': dict(zip(('box AP', 'mask AP'), DETECTORS[name]))}


@pytest.mark.parametrize('name', NETWORKS)
def test_network(name):
    row = ROWS[f'focalnet_{name}_in1k']
    size, base, _ = name.split('_')
    arch = config(row.name)['model']['backbone']['arch']
    main = resolve_arch(config(f'focalnet_{size}_{base}_in1k')['model']['backbone']['arch'])
    # Two levels and patches that overlap, in the place of what the main one has.
    assert resolve_arch(arch) == {**main, 'focal_levels': 2, 'conv_stem': True}
    assert config(row.name) == with_backbone(f'focalnet_{size}_{base}_in1k', arch=arch)
    parameters, flops, accuracy = NETWORKS[name]
    assert (row.published_parameters, row.published_flops) == (parameters, flops)
    assert row.results == {'ImageNet-1k': {'Top 1 Accuracy': accuracy}}
    assert row.size.parameters / 1e6 == pytest.approx(parameters, rel=0.002)
    if flops:
        # The authors' counter takes patches that overlap for ones that do not.
        assert row.note
        cfg = Config.fromfile(ROOT / row.config)
        cfg.model.backbone.conv_stem = False
        assert model_size(cfg, row.input_size).flops / 1e9 == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize('method', SRF)
def test_smaller_receptive_fields(method):
    row = ROWS[f'{method}_focalnet_t_srf_3x']
    assert (row.published_parameters, row.published_flops, row.results) == (
        *SRF[method][:2], {'COCO': {'box AP': SRF[method][2]}})
