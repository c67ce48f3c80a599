import pytest
import timm
import torch

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.backbone.archs import resolve_arch
from tests.helpers.classifiers import TIMM_NAMES


def test_every_timm_variant_has_an_arch():
    assert set(TIMM_NAMES.values()) == set(timm.list_models('focalnet_*'))


def test_deep_and_isotropic_variants_are_published_ones():
    assert {name for name in ARCHS if name not in TIMM_NAMES} == {
        'tiny-dw', *(f'{size}-{kind}' for size in ('tiny', 'small', 'base')
                     for kind in ('deep', 'iso', 'srf-overlap', 'deep-srf'))}


def test_base_iso_is_as_its_weights_are():
    """Their keys are listed in issue 23 of microsoft/FocalNet, ``modulation.ln`` among them; commit 9253a7f, which
    trained them, has no other form of block than pre-norm."""
    with torch.device('meta'):
        net = FocalNet('base-iso')
        block = net.layers[0].blocks[0]
    assert 'layers.0.blocks.11.modulation.ln.weight' in net.state_dict()
    assert not block.post_norm
    assert 'layers.0.blocks.0.gamma_1' in net.state_dict()


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown FocalNet arch 'base_lrf': did you mean 'base-lrf'\?.*xlarge-fl4"):
        FocalNet('base_lrf')


def test_dict_instead_of_a_name():
    net = FocalNet(dict(embed_dims=8, depths=[1, 2], focal_levels=(2, 1), focal_windows=5, post_norm=True))
    assert net.out_channels == (8, 16)
    assert net.depths == (1, 2)
    assert [len(stage.blocks[0].modulation.focal_layers) for stage in net.layers] == [2, 1]


@pytest.mark.parametrize(('arch', 'message'), [
    (dict(embed_dims=8, depths=[1]), 'missing focal_levels, focal_windows'),
    (dict(ARCHS['tiny-lrf'], window=9), 'unknown window'),
])
def test_dict_with_wrong_keys(arch, message):
    with pytest.raises(ValueError, match=message):
        FocalNet(arch)


def test_neither_name_nor_dict():
    with pytest.raises(TypeError, match='arch must be a name or a dict of settings, got int'):
        FocalNet(3)


def test_resolving_leaves_the_table_alone():
    resolve_arch('tiny-lrf')['embed_dims'] = 1
    assert ARCHS['tiny-lrf']['embed_dims'] == 96
