"""Checkpoints of the modulations that the paper compares: read, fitted, converted, or refused in a sentence."""

import pytest
import torch

from focalnet_mm import FocalNet
from focalnet_mm.backbone.archs import guess_arch, read_settings
from focalnet_mm.backbone.variants import MODULATIONS
from focalnet_mm.weights import convert, detect_layout, load_into
from focalnet_mm.weights.write import convert_file

# Those whose tensors no focal modulation has.
OTHERS = [name for name in MODULATIONS if name not in ('focal', 'global_pooling')]


@pytest.fixture
def random_variant(random_net):
    """A narrow backbone with random tensors and a modulation, of two stages."""
    return lambda name, **settings: random_net(modulation=name, **{'depths': (1, 2), **settings})


@pytest.mark.parametrize('name', MODULATIONS)
def test_starts_a_detector(name, random_variant, classification_state, tmp_path):
    """From a classifier of its own, whose kernels grow as those of focal modulation do."""
    state = classification_state(random_variant(name))
    torch.save({'model': state}, tmp_path / 'x.pth')
    dense = random_variant(name, focal_windows=9)
    report = load_into(dense, tmp_path / 'x.pth')
    own = dense.state_dict()
    for key in report.landed:
        assert torch.equal(own[key], state[key])
    kernels = [key for key in own if 'focal_layers' in key]
    assert set(report.fitted) == set(kernels)
    for key in kernels:
        assert torch.equal(own[key][..., 3:-3, 3:-3], state[key])
        assert own[key].count_nonzero() == state[key].count_nonzero()
    assert {*report.landed, *report.fitted, *report.new} == set(own)
    assert all(key.startswith('norm') for key in report.new)


@pytest.mark.parametrize(('name', 'other'), [('focal', 'sum'), ('sum', 'focal'), ('no_gating', 'top_only'),
                                             ('self_attention_qkv_first', 'sliding_window'), ('pooling', 'focal')])
def test_another_is_refused(name, other, random_variant, classification_state, tmp_path):
    torch.save({'model': classification_state(random_variant(name))}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=rf'^The checkpoint .*x\.pth does not fit: .*: the checkpoint has modulation '
                       rf'{name}.*, this model modulation {other}'):
        load_into(random_variant(other), tmp_path / 'x.pth')


@pytest.mark.parametrize('name', OTHERS)
def test_is_seen_in_the_tensors(name, random_variant):
    found = read_settings(random_variant(name).state_dict())
    assert found['modulation'] == name
    assert found['focal_levels'] == ((0, 0) if name == 'sliding_window' else (3, 3))
    assert guess_arch(FocalNet('tiny-lrf', modulation=name).state_dict()) is None


@pytest.mark.parametrize('name', OTHERS)
def test_conversion(name, random_variant, same, tmp_path):
    net = random_variant(name, out_indices=1)
    state = net.state_dict()
    assert detect_layout(state) == 'official'
    model = convert(state, 'mm')
    assert detect_layout(model) == 'mm'
    same(convert(model, 'official'), {key.replace('norm1.', 'norm.') if key.startswith('norm1.') else key: tensor
                                      for key, tensor in state.items()})
    torch.save(model, tmp_path / 'x.pth')
    for to in ('timm', 'transformers', 'detrex'):
        with pytest.raises(ValueError, match=rf"The layout {to} has no place for modulation='{name}': only focal "
                           'modulation is known there, and official and mm take any'):
            convert(state, to, arch='tiny-lrf')
        with pytest.raises(ValueError, match=rf"x\.pth: The layout {to} has no place for modulation='{name}'"):
            convert_file(tmp_path / 'x.pth', tmp_path / ('y' if to == 'transformers' else 'y.pth'), to)
    assert 'layout official' in convert_file(tmp_path / 'x.pth', tmp_path / 'z.safetensors', 'official')
