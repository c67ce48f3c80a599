"""What watches or transforms the computation sees all of it: counters, modes, torch.func, derivatives of any kind."""

import contextlib

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.backbone.compute import TABLE, choose
from focalnet_mm.backbone.compute.measured import is_faster
from focalnet_mm.releases import HAS_OPERATORS

SHALLOW = dict(embed_dims=8, depths=(1, 1, 2, 1))


def pair(arch='tiny-lrf', dtype=torch.float64, **settings):
    torch.manual_seed(0)
    reference = FocalNet(arch, implementation='reference', **{**SHALLOW, **settings}).to(dtype).eval()
    for name, parameter in reference.named_parameters():
        nn.init.normal_(parameter, mean=float('norm' in name and 'weight' in name), std=0.3)
    default = FocalNet(arch, **{**SHALLOW, **settings}).to(dtype).eval()
    default.load_state_dict(reference.state_dict())
    return default, reference


def scalar(net, x):
    return sum(feature.double().square().mean() for feature in net(x))


class TestCounters:

    @pytest.mark.parametrize('training', [False, True])
    def test_flops_are_those_of_the_reference(self, training):
        counts = []
        for implementation in ('auto', 'reference'):
            net = FocalNet('tiny-lrf', implementation=implementation)
            with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
                features = net(torch.zeros(1, 3, 64, 64))
                if training:
                    sum(feature.sum() for feature in features).backward()
            counts.append(counter.get_total_flops())
        assert counts[0] == counts[1] > 0

    def test_a_compiled_model_is_counted_as_the_reference(self):
        default, reference = pair(dtype=torch.float32)
        x = torch.zeros(1, 3, 64, 64)
        counts = []
        for net in (torch.compile(default, backend='aot_eager'), reference):
            with torch.no_grad():
                net(x)
                with FlopCounterMode(display=False) as counter:
                    net(x)
            counts.append(counter.get_total_flops())
        assert counts[0] == counts[1] > 0


class Doubling(TorchFunctionMode):
    """What each linear layer returns, twice."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        return found * 2 if function is nn.functional.linear else found


class Counting(TorchDispatchMode):

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


class TestModes:

    def test_functions(self):
        default, reference = pair(dtype=torch.float32)
        x = torch.randn(1, 3, 40, 48)
        with Doubling(), torch.no_grad():
            for found, expected in zip(default(x), reference(x), strict=True):
                torch.testing.assert_close(found, expected)

    def test_a_default_device_is_no_such_mode(self):
        with torch.device('cpu'), torch.no_grad():
            assert choose('auto', torch.zeros(1, 3, 8, 8)) == 'channels_last'

    def test_operators(self):
        default, _ = pair(dtype=torch.float32)
        with Counting() as counting, torch.no_grad():
            default(torch.randn(1, 3, 40, 48))
        assert not [name for name in counting.names if 'focalnet' in name]
        assert any('gelu' in name for name in counting.names)

    def test_hooks_of_all_modules(self):
        seen = []
        handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
        try:
            net, _ = pair(dtype=torch.float32)
            net(torch.randn(1, 3, 40, 48))
        finally:
            handle.remove()
        assert nn.GELU in seen
        assert seen.count(nn.Linear) == 4 * 5

    def test_a_function_that_was_replaced(self, monkeypatch):
        default, reference = pair(dtype=torch.float32)
        gelu = nn.functional.gelu
        monkeypatch.setattr(nn.functional, 'gelu', lambda *args, **kwargs: gelu(*args, **kwargs) * 2)
        x = torch.randn(1, 3, 40, 48)
        with torch.no_grad():
            for found, expected in zip(default(x), reference(x), strict=True):
                torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
class TestFunctionalTransforms:

    def tolerance(self, dtype):
        return dict(rtol=1e-9, atol=1e-10) if dtype == torch.float64 else dict(rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize('transform', [torch.func.grad, torch.func.jacrev, torch.func.jacfwd])
    def test_derivatives(self, dtype, transform):
        default, reference = pair(dtype=dtype)
        x = torch.randn(1, 3, 8, 8, dtype=dtype)
        found, expected = (transform(lambda x, net=net: scalar(net, x))(x) for net in (default, reference))
        torch.testing.assert_close(found, expected, **self.tolerance(dtype))

    def test_vmap(self, dtype):
        default, reference = pair(dtype=dtype)
        x = torch.randn(3, 2, 3, 16, 16, dtype=dtype)
        with torch.no_grad():
            found, expected = (torch.func.vmap(lambda x, net=net: net(x)[-1])(x) for net in (default, reference))
        torch.testing.assert_close(found, expected, **self.tolerance(dtype))

    def test_jvp_and_forward_mode(self, dtype):
        default, reference = pair(dtype=dtype)
        x, direction = torch.randn(2, 1, 3, 16, 16, dtype=dtype)
        found, expected = (torch.func.jvp(lambda x, net=net: scalar(net, x), (x,), (direction,))[1]
                           for net in (default, reference))
        torch.testing.assert_close(found, expected, **self.tolerance(dtype))
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, direction)
            tangent = forward_ad.unpack_dual(scalar(default, dual)).tangent
        torch.testing.assert_close(tangent, expected, **self.tolerance(dtype))

    def test_hessian_vector_product(self, dtype):
        default, reference = pair(dtype=dtype)
        x, direction = torch.randn(2, 1, 3, 16, 16, dtype=dtype)
        found, expected = (torch.autograd.functional.vhp(lambda x, net=net: scalar(net, x), x, direction)[1]
                           for net in (default, reference))
        torch.testing.assert_close(found, expected, **self.tolerance(dtype))

    def test_per_sample_gradients(self, dtype):
        default, reference = pair(dtype=dtype)
        x = torch.randn(3, 3, 16, 16, dtype=dtype)
        found = []
        for net in (default, reference):
            parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}

            def loss(parameters, image, net=net):
                return sum(feature.square().mean() for feature in torch.func.functional_call(
                    net, parameters, (image[None],)))

            found.append(torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x))
        for name, expected in found[1].items():
            torch.testing.assert_close(found[0][name], expected, **self.tolerance(dtype))


class TestWanted:
    """Only the gradients that are asked for, and those right."""

    @pytest.mark.parametrize('frozen', [[], ['layers'], ['layers.2'], ['f.weight'], ['norm1'], ['focal_layers'],
                                        ['fc1.bias', 'h.'], ['gamma']])
    @pytest.mark.parametrize('arch', ['tiny-lrf', 'huge-fl4'])
    @pytest.mark.parametrize('of_images', [False, True])
    def test_frozen_parts(self, arch, frozen, of_images):
        found = []
        for net in pair(arch):
            for name, parameter in net.named_parameters():
                parameter.requires_grad_(not any(part in name for part in frozen))
            net.implementation = 'channels_last' if net.implementation == 'auto' else 'reference'
            x = torch.randn(1, 3, 40, 48, dtype=torch.float64,
                            generator=torch.Generator().manual_seed(1)).requires_grad_(of_images)
            scalar(net, x).backward()
            found.append([x.grad, *(parameter.grad for parameter in net.parameters())])
        for actual, expected in zip(*found, strict=True):
            assert (actual is None) == (expected is None)
            if expected is not None:
                torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-12)


class TestChoice:

    def test_another_device_is_refused_by_name(self):
        net = FocalNet('tiny-lrf', implementation='channels_last', **SHALLOW).to('meta')
        with pytest.raises(ValueError, match="implementation='channels_last' runs on cpu, but the images are on meta"):
            net(torch.zeros(1, 3, 8, 8, device='meta'))

    @torch.no_grad()
    def test_without_onednn(self):
        assert choose('auto', torch.zeros(1, 3, 8, 8)) == 'channels_last'
        with torch.backends.mkldnn.flags(enabled=False):
            assert choose('auto', torch.zeros(1, 3, 8, 8)) == 'reference'

    def test_every_row_says_where_it_runs(self):
        assert TABLE[-1].name == 'reference'
        assert not TABLE[-1].device_types
        assert all(row.device_types and (row.dtypes or row.is_faster is is_faster) for row in TABLE[:-1])


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('device', ['cuda', 'meta'])
def test_other_devices(arch, device):
    """Shapes, data types and devices of features and gradients, without such a device."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    if device == 'cuda' and not torch.backends.cuda.is_built():
        pytest.skip('a CPU build of torch ends in an error where it copies imitated CUDA tensors')
    if device == 'cuda' and not HAS_OPERATORS and not torch.cuda.is_available():
        pytest.skip('an old torch asks for a driver where CUDA tensors are imitated too')
    # A device is asked for where imitated tensors are differentiated.
    learning = device != 'cuda' or torch.cuda.is_available()
    depths = tuple(min(depth, 2) for depth in ARCHS[arch]['depths'])
    with FakeTensorMode() if device == 'cuda' else contextlib.nullcontext(), torch.device(device):
        net = FocalNet(arch, depths=depths)
        x = torch.empty(2, 3, 60, 70, device=device, requires_grad=True)
        with torch.set_grad_enabled(learning):
            features = net(x)
        for feature, channels, stride in zip(features, net.out_channels, net.out_strides, strict=True):
            assert feature.shape == (2, channels, -(-60 // stride), -(-70 // stride))
            assert (feature.device.type, feature.dtype) == (device, torch.float32)
        if not learning:
            return
        sum(feature.sum() for feature in features).backward()
        for parameter in [x, *net.parameters()]:
            assert parameter.grad.shape == parameter.shape
            assert (parameter.grad.device.type, parameter.grad.dtype) == (device, torch.float32)
