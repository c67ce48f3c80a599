"""Names of other worlds: with the same random weights, their models compute what ours do, and the way back is exact."""

import re

import pytest
import torch
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.weights import convert, detect_layout, load_into
from tests.helpers.classifiers import TIMM_NAMES


@pytest.mark.parametrize('arch', TIMM_NAMES)
@pytest.mark.parametrize('layout', ['timm', 'transformers'])
def test_ours_go_out(layout, arch, classifier, logits, same, timm_model, transformers_classifier):
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
    same(convert(converted, 'official'), state)

    net, theirs = net.double(), theirs.double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    state = {name: tensor.double() for name, tensor in state.items()}
    with torch.no_grad():
        ours = logits(net, state, x)
        reference = theirs(x).logits if layout == 'transformers' else theirs(x)
    assert torch.isfinite(reference).all()
    assert reference.std() > 0
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('arch', TIMM_NAMES)
@pytest.mark.parametrize('layout', ['timm', 'transformers'])
def test_theirs_come_in(tmp_path, layout, arch, mmpretrain_classifier, timm_features, timm_model,
                        transformers_classifier):
    """Their file in mmpretrain's classifier and in a backbone: logits and features of all stages."""
    theirs = timm_model(arch) if layout == 'timm' else transformers_classifier(arch)
    torch.manual_seed(0)
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float('norm' in name and name.endswith('weight')), std=0.1)
    save_file(theirs.state_dict(), tmp_path / 'x.safetensors')
    # timm's model leaves the normalisation of large-fl4 out.
    settings = dict(embed_dims=8, normalize_modulator=False) if layout == 'timm' else dict(embed_dims=8)
    net = FocalNet(arch, **settings).eval()
    load_into(net, tmp_path / 'x.safetensors')
    model = mmpretrain_classifier(arch, **settings)
    load_checkpoint(model, f'focalnet://{tmp_path}/x.safetensors', strict=True)

    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        net, model, theirs = net.to(dtype), model.to(dtype), theirs.to(dtype)
        x = torch.randn(2, 3, 64, 96, dtype=dtype, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected, features = outputs(theirs, x)
            assert expected.std() > 0
            torch.testing.assert_close(model(x), expected, rtol=tolerance, atol=tolerance * expected.abs().max())
            for ours, reference in zip(timm_features(net, x), features, strict=True):
                torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance * reference.abs().max())


def outputs(theirs, x):
    """Logits, and the features of all stages before the downsampling that follows, of timm's or transformers' model."""
    if not hasattr(theirs, 'focalnet'):
        return theirs(x), theirs.forward_intermediates(x, intermediates_only=True)
    features, height, width = [], x.shape[2] // 4, x.shape[3] // 4
    hooks = [stage.layers[-1].register_forward_hook(lambda _, __, out: features.append(out))
             for stage in theirs.focalnet.encoder.stages]
    logits = theirs(x).logits
    for hook in hooks:
        hook.remove()
    return logits, [feature.transpose(1, 2).unflatten(2, (height >> i, width >> i))
                    for i, feature in enumerate(features)]


@pytest.mark.parametrize('arch', [*TIMM_NAMES, 'base-iso', 'tiny-deep', 'tiny-srf-overlap'])
def test_classifier_of_mmpretrain(arch, classifier, mmpretrain_classifier, same):
    """Every tensor of a classifier has its place there, and the way back is exact."""
    _, state = classifier(arch)
    converted = convert(state, 'mm')
    assert detect_layout(converted) == 'mm'
    mmpretrain_classifier(arch, embed_dims=8).load_state_dict(converted, strict=True)
    same(convert(converted, 'official'), state)
    same(convert(convert(converted, 'transformers'), 'mm'), converted)


@pytest.mark.parametrize('prefix', ['module.', 'model.', 'visual.', 'module.backbone.', 'backbone.0.', 'a.b.'])
@pytest.mark.parametrize('layout', ['official', 'timm', 'transformers'])
def test_prefixes(tmp_path, layout, prefix, classifier, same):
    net, state = classifier('tiny-srf')
    inside = convert(state, layout, arch='tiny-srf')
    wrapped = {f'{prefix}{name}': tensor for name, tensor in inside.items()}
    torch.save({'model': {**wrapped, 'epoch': torch.ones(1)}}, tmp_path / 'x.pth')
    report = load_into(net, tmp_path / 'x.pth')
    assert report.prefix == prefix
    assert 'epoch' in report.unused
    own = net.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in report.landed)
    assert len(report.landed) == len(state) - 4
    same(convert(wrapped, 'official'), state)


def test_averaged_weights(tmp_path, classifier):
    net, state = classifier('tiny-srf')
    averaged = {name: tensor + 1 for name, tensor in state.items()}
    stem = 'patch_embed.proj.weight'
    # timm's trainer writes both, and timm opens the averaged ones; mmengine writes the averaged ones as state_dict.
    for content, expected in (
            ({'state_dict': state, 'state_dict_ema': averaged}, averaged),
            ({'model': state, 'model_ema': averaged}, averaged),
            ({'state_dict': averaged, 'ema_state_dict': state}, averaged),
            ({f'{prefix}.{name}': tensor for prefix, tensors in (('model', state), ('model_ema', averaged))
              for name, tensor in tensors.items()}, state)):
        torch.save(content, tmp_path / 'x.pth')
        load_into(net, tmp_path / 'x.pth')
        assert torch.equal(net.state_dict()[stem], expected[stem])
    load_into(net, tmp_path / 'x.pth', prefix='model_ema.')
    assert torch.equal(net.state_dict()[stem], averaged[stem])


def test_detector_goes_out(same, timm_model):
    """Its backbone does, with the norm behind the last stage; the rest is named, and refused unless left out."""
    net = FocalNet('tiny-srf', embed_dims=8)
    detector = {**{f'backbone.{name}': tensor for name, tensor in net.state_dict().items()},
                'neck.convs.0.weight': torch.zeros(2)}
    with pytest.raises(ValueError, match=r'The layout timm has no place for 1 tensors of the heads \(neck.convs.0.'
                       r'weight\): convert the backbone alone, with backbone_only'):
        convert(detector, 'timm', arch='tiny-srf')
    with pytest.raises(ValueError, match=r'transformers has one norm, behind the last stage, and no place for norm0'):
        convert(net.state_dict(), 'transformers')
    same(convert(detector, 'mm'), detector)
    same(convert(detector, 'official', backbone_only=True), net.state_dict())
    converted = convert(detector, 'timm', arch='tiny-srf', backbone_only=True)
    theirs = timm_model('tiny-srf')
    theirs.reset_classifier(0)
    theirs.load_state_dict(converted, strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), net.eval()(x)[3].mean((2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('layout', ['timm', 'transformers'])
def test_pretrained(tmp_path, layout, classifier):
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


def test_transformers_base_model(classifier):
    _, state = classifier('tiny-srf')
    bare = {name.removeprefix('focalnet.'): tensor for name, tensor in convert(state, 'transformers').items()
            if name.startswith('focalnet.')}
    assert detect_layout(bare) == 'transformers'
    assert convert(bare, 'official').keys() == {name for name in state if not name.startswith('head.')}


def test_refused(classifier):
    _, state = classifier('tiny-srf')
    with pytest.raises(ValueError, match=r"^Unknown layout 'keras': choose from official, timm, timm-features, t"):
        convert(state, 'keras')
    with pytest.raises(ValueError, match=r'^These tensors cannot be converted: it holds no FocalNet in the layout '
                       r'official, timm, .*, detrex or idea-dino; its first tensors are conv\.weight\.$'):
        convert({'conv.weight': torch.zeros(1)}, 'timm')
    with pytest.raises(ValueError, match='of no published variant, so that nothing tells whether their norms come'):
        convert(state, 'timm')
    with pytest.raises(ValueError, match=r"timm's FocalNet has patches of 4×4 pixels, tiny-iso has 16×16"):
        convert(state, 'timm', arch='tiny-iso')


def test_warns_of_what_timm_leaves_out(log):
    with torch.device('meta'):
        state = FocalNet('large-fl4', out_indices=(3,)).state_dict()
    state = {name.replace('norm3.', 'norm.') if name.startswith('norm3.') else name: tensor
             for name, tensor in state.items()}
    # What timm's converter made of the authors' file.
    theirs = {name.replace('patch_embed.', 'stem.'): tensor for name, tensor in state.items()}
    assert detect_layout(theirs) == 'timm'
    convert(theirs, 'official')
    assert any("timm's model of them leaves the normalisation out" in line for line in log)
