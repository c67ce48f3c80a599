"""The backbone beside timm with the same weights."""

import copy

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from focalnet_mm import ARCHS, FocalNet
from tests.helpers.classifiers import TIMM_NAMES

ARCHS_BY_SPEED = [arch if arch.startswith('tiny') else pytest.param(arch, marks=pytest.mark.slow)
                  for arch in TIMM_NAMES]


class TestAgainstTimm:
    """Same random weights, so same stage outputs and gradients. timm 1.0.31 leaves normalize_modulator out of its
    large-fl4, so there ours is compared with it off (and with it on in test_modulation.py, against the formula)."""

    @staticmethod
    def pair(arch, dtype, load_timm):
        torch.manual_seed(0)
        # From large on with fewer blocks, which are all alike; all else is the variant's.
        depths = ARCHS[arch]['depths'] if ARCHS[arch]['embed_dims'] <= 128 else (1, 1, 2, 1)
        with torch.device('meta'):
            reference = timm.create_model(TIMM_NAMES[arch], pretrained=False, num_classes=0)
        for stage, depth in zip(reference.layers, depths):
            stage.blocks = stage.blocks[:depth]
        reference.to_empty(device='cpu')
        for parameter in reference.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        net = FocalNet(arch, depths=depths, normalize_modulator=False)
        load_timm(net, reference)
        return net.eval().to(dtype), reference.eval().to(dtype)

    @pytest.mark.parametrize('arch', ARCHS_BY_SPEED)
    @pytest.mark.parametrize(('dtype', 'tolerance', 'size'), [
        (torch.float32, 1e-4, (224, 224)), (torch.float32, 1e-4, (96, 160)), (torch.float64, 1e-9, (96, 160))])
    def test_features(self, arch, dtype, tolerance, size, load_timm, timm_features, relative_error):
        net, reference = self.pair(arch, dtype, load_timm)
        x = torch.randn(1, 3, *size, dtype=dtype)
        with torch.no_grad():
            ours, theirs = timm_features(net, x), reference.forward_intermediates(x, intermediates_only=True)
        assert [relative_error(*pair) < tolerance for pair in zip(ours, theirs)] == [True] * 4

    @pytest.mark.parametrize('arch', [
        'tiny-srf', 'tiny-lrf', *(pytest.param(arch, marks=pytest.mark.slow) for arch in ('large-fl3', 'large-fl4'))])
    def test_gradients(self, arch, load_timm, timm_features, relative_error):
        net, reference = self.pair(arch, torch.float64, load_timm)
        x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
        inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
        targets = [torch.randn_like(feature) for feature in timm_features(net, x)]
        for features in (timm_features(net, inputs[0]),
                         reference.forward_intermediates(inputs[1], intermediates_only=True)):
            sum((feature * target).sum() for feature, target in zip(features, targets)).backward()
        assert relative_error(inputs[0].grad, inputs[1].grad) < 1e-9

        gradients = copy.deepcopy(reference)
        for parameter, source in zip(gradients.parameters(), reference.parameters()):
            parameter.data = torch.zeros_like(source) if source.grad is None else source.grad
        expected = FocalNet(arch, depths=net.depths, normalize_modulator=False).double()
        load_timm(expected, gradients)
        for (name, parameter), gradient in zip(net.named_parameters(), expected.parameters()):
            if not name.startswith('norm'):
                assert relative_error(parameter.grad, gradient) < 1e-8, name


def costs(*modules):
    """Parameters and multiply-adds at 224×224."""
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        x = torch.empty(1, 3, 224, 224)
        for module in modules:
            x = module(x)
    return sum(p.numel() for module in modules for p in module.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize('arch', ARCHS_BY_SPEED)
def test_size_is_timms(arch):
    """A classifier of 1000 classes; tests/configs compares it with the paper's figures."""
    with torch.device('meta'):
        net = FocalNet(arch, out_indices=3)
        head = torch.nn.Linear(net.out_channels[0], 1000)
        reference = timm.create_model(TIMM_NAMES[arch], num_classes=1000)
    assert costs(net, lambda_module(lambda features: features[0].mean((2, 3))), head) == costs(reference)


def lambda_module(function):
    """A module without parameters."""
    module = torch.nn.Module()
    module.forward = function
    return module
