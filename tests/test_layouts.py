"""Names of other worlds: with the same random weights, their models compute what ours do, and the way back is exact."""

import re

import pytest
import torch
from torch import nn

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.weights import convert, detect_layout, load_into
from tests.timm_weights import timm_features

TIMM = {
    'tiny-srf': 'focalnet_tiny_srf', 'tiny-lrf': 'focalnet_tiny_lrf', 'small-srf': 'focalnet_small_srf',
    'small-lrf': 'focalnet_small_lrf', 'base-srf': 'focalnet_base_srf', 'base-lrf': 'focalnet_base_lrf',
    'large-fl3': 'focalnet_large_fl3', 'large-fl4': 'focalnet_large_fl4', 'xlarge-fl3': 'focalnet_xlarge_fl3',
    'xlarge-fl4': 'focalnet_xlarge_fl4', 'huge-fl3': 'focalnet_huge_fl3', 'huge-fl4': 'focalnet_huge_fl4'}
PUBLIC = ('tiny-srf', 'tiny-lrf', 'base-lrf', 'large-fl3', 'large-fl4', 'huge-fl4')


def classifier(arch, classes=5):
    """An official classifier, narrow, with random tensors everywhere."""
    torch.manual_seed(0)
    last = len(ARCHS[arch]['depths']) - 1
    net = FocalNet(arch, embed_dims=8, out_indices=(last,))
    state = {name.replace(f'norm{last}.', 'norm.') if name.startswith(f'norm{last}.') else name: torch.randn(p.shape)
             for name, p in net.state_dict().items()}
    channels = net.out_channels[0]
    state.update({'head.weight': torch.randn(classes, channels), 'head.bias': torch.randn(classes)})
    return net, state


def transformers_classifier(arch, classes=5):
    from transformers import FocalNetConfig, FocalNetForImageClassification
    settings = ARCHS[arch]
    scaled_up = settings.get('post_norm', False)
    return FocalNetForImageClassification(FocalNetConfig(
        embed_dim=8, depths=list(settings['depths']), focal_levels=[settings['focal_levels']] * 4,
        focal_windows=[settings['focal_windows']] * 4, use_conv_embed=scaled_up, use_layerscale=scaled_up,
        use_post_layernorm=scaled_up, normalize_modulator=settings.get('normalize_modulator', False),
        use_post_layernorm_in_modulation=settings.get('post_norm_in_modulation', False),
        patch_size=4, num_labels=classes)).eval()


def timm_model(arch):
    """timm's model with 8 channels."""
    from timm.models.focalnet import _create_focalnet
    settings = ARCHS[arch]
    scaled_up = settings.get('post_norm', False)
    return _create_focalnet(TIMM[arch], pretrained=False, embed_dim=8, depths=settings['depths'], num_classes=5,
                            focal_levels=[settings['focal_levels']] * 4, focal_windows=[settings['focal_windows']] * 4,
                            use_overlap_down=scaled_up, use_post_norm=scaled_up,
                            use_post_norm_in_modulation=settings.get('post_norm_in_modulation', False),
                            layerscale_value=1e-4 if scaled_up else None).eval()


def logits(net, state, x):
    """What the official classifier computes, from our backbone."""
    last = max(net.out_indices)
    net.load_state_dict({name.replace('norm.', f'norm{last}.') if name.startswith('norm.') else name: tensor
                         for name, tensor in state.items() if not name.startswith('head.')})
    pooled = net.eval()(x)[0].mean((2, 3))
    return nn.functional.linear(pooled, state['head.weight'], state['head.bias'])


@pytest.mark.parametrize('arch', PUBLIC)
@pytest.mark.parametrize('layout', ['timm', 'transformers'])
def test_logits_and_way_back(layout, arch):
    net, state = classifier(arch)
    assert detect_layout(state) == 'official'
    if layout == 'timm':
        if ARCHS[arch].get('normalize_modulator'):
            with pytest.raises(ValueError, match="timm's FocalNet does not normalise the modulator, which large-fl4"):
                convert(state, 'timm', arch=arch)
            return
        theirs = timm_model(arch)
    else:
        theirs = transformers_classifier(arch)
    converted = convert(state, layout, arch=arch)
    theirs.load_state_dict(converted, strict=True)
    assert detect_layout(converted) == layout

    back = convert(converted, 'official')
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) and back[name].shape == state[name].shape for name in state)

    net, theirs = net.double(), theirs.double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    state = {name: tensor.double() for name, tensor in state.items()}
    with torch.no_grad():
        ours = logits(net, state, x)
        reference = theirs(x).logits if layout == 'transformers' else theirs(x)
    assert torch.isfinite(reference).all()
    assert reference.std() > 0
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('layout', ['timm', 'transformers'])
def test_pretrained(tmp_path, layout):
    """Their files load into a backbone as they are."""
    _, state = classifier('huge-fl4')
    torch.save(convert(state, layout, arch='huge-fl4'), tmp_path / 'x.pth')
    dense = FocalNet('huge-fl4', embed_dims=8, focal_windows=9)
    report = load_into(dense, tmp_path / 'x.pth')
    assert report.layout == layout
    assert f'in the layout of {layout}: ' in str(report)
    assert set(report.unused) == {'norm.weight', 'norm.bias', 'head.weight', 'head.bias'}
    assert set(report.new) == {f'norm{i}.{kind}' for i in range(4) for kind in ('weight', 'bias')}
    own = dense.state_dict()
    for name in report.landed:
        assert torch.equal(own[name], state[name]), name
    assert all(re.search(r'focal_layers\.\d\.0\.weight$', name) for name in report.fitted)


def test_features_of_timm(tmp_path):
    theirs = timm_model('large-fl3')
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.save(theirs.state_dict(), tmp_path / 'x.pth')
    net = FocalNet('large-fl3', embed_dims=8).eval()
    load_into(net, tmp_path / 'x.pth')
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, reference in zip(timm_features(net, x), theirs.forward_intermediates(x, intermediates_only=True)):
            torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_transformers_base_model():
    _, state = classifier('tiny-srf')
    bare = {name.removeprefix('focalnet.'): tensor for name, tensor in convert(state, 'transformers').items()
            if name.startswith('focalnet.')}
    assert detect_layout(bare) == 'transformers'
    assert convert(bare, 'official').keys() == {name for name in state if not name.startswith('head.')}


def test_refused():
    _, state = classifier('tiny-srf')
    with pytest.raises(ValueError, match=r"^Unknown layout 'keras': choose from official, timm, transformers\.$"):
        convert(state, 'keras')
    with pytest.raises(ValueError, match=r'These tensors are no FocalNet in the layout official or timm or '
                       r'transformers; its first tensors are conv\.weight\.$'):
        convert({'conv.weight': torch.zeros(1)}, 'timm')
    with pytest.raises(ValueError, match='of no published variant, so that nothing tells whether their norms come'):
        convert(state, 'timm')
