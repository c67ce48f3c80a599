"""The fused implementations compute what the reference does, forward and backward, for whatever input."""

import copy
import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from focalnet_mm import FocalModulation, FocalNet
from focalnet_mm.backbone.block import Block
from focalnet_mm.backbone.compute import choose
from focalnet_mm.backbone.compute.cpu.block import _block, _block_backward
from focalnet_mm.releases import HAS_OPERATORS

SHALLOW = dict(embed_dims=8, depths=(1, 1, 2, 1))
SETTINGS = {
    'pre-norm': ('tiny-lrf', SHALLOW),
    'post-norm, normalised modulator': ('large-fl4', SHALLOW),
    'norms inside the modulation': ('huge-fl4', SHALLOW),
    'one stage': ('base-iso', dict(embed_dims=12, depths=(2,))),
    'no levels': ('tiny-lrf', dict(SHALLOW, focal_levels=0)),
    'other levels and kernels': ('tiny-lrf', dict(
        embed_dims=5, depths=(1, 1, 1, 1), focal_levels=(1, 2, 3, 4), focal_windows=(13, 1, 9, 3),
        focal_factor=(2, 4, 0, 2))),
}
TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-5}


def pair(name, dtype=torch.float64, **settings):
    """The same random model in both implementations."""
    arch, own = SETTINGS[name]
    torch.manual_seed(0)
    reference = FocalNet(arch, implementation='reference', **{**own, **settings}).to(dtype)
    for key, parameter in reference.named_parameters():
        nn.init.normal_(parameter, mean=float('norm' in key and 'weight' in key), std=0.3)
    fused = FocalNet(arch, implementation='channels_last', **{**own, **settings}).to(dtype)
    fused.load_state_dict(reference.state_dict())
    return reference, fused


def close(found, expected, tolerance):
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1e-30))


def random(*shape, dtype=torch.float64, **settings):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1), **settings)


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('name', SETTINGS)
class TestNetwork:

    @pytest.mark.parametrize('shape', [(2, 3, 37, 50), (1, 3, 64, 64), (1, 3, 1, 1), (3, 3, 1, 90), (0, 3, 32, 32)])
    def test_inference(self, name, dtype, shape):
        reference, fused = pair(name, dtype)
        x = random(*shape, dtype=dtype)
        with torch.no_grad():
            # In float64, for the reference's own rounding in float32 is not what is asked for.
            for found, expected in zip(fused.eval()(x), reference.double().eval()(x.double()), strict=True):
                assert found.is_contiguous()
                if found.numel():
                    close(found.double(), expected, TOLERANCES[dtype])
                assert found.shape == expected.shape

    @pytest.mark.parametrize('input_learns', [False, True])
    def test_gradients(self, name, dtype, input_learns):
        reference, fused = pair(name, dtype)
        grads = []
        # In float64, for the reference's own rounding in float32 is the greater one.
        for net in (reference.double(), fused):
            x = random(2, 3, 45, 70, dtype=dtype).to(next(net.parameters()).dtype).requires_grad_(input_learns)
            sum((feature * feature.sin()).sum() for feature in net(x)).backward()
            grads.append({**{key: parameter.grad for key, parameter in net.named_parameters()}, 'input': x.grad})
        expected, found = grads
        assert (found['input'] is not None) == input_learns
        for key, grad in expected.items():
            if grad is not None:
                # Biases before a norm have gradients of rounding errors.
                scale = max(grad.abs().max().item(), 1e-2 * max(g.abs().max().item() for g in expected.values()
                                                                if g is not None))
                torch.testing.assert_close(found[key].double(), grad, rtol=0, atol=10 * TOLERANCES[dtype] * scale,
                                           msg=key)


@pytest.mark.parametrize('name', ['pre-norm', 'norms inside the modulation'])
@pytest.mark.parametrize('training', [False, True])
def test_bfloat16(name, training):
    """Under autocast it is as near to float32 as the reference is."""
    reference, fused = pair(name, torch.float32)
    x = random(2, 3, 64, 96, dtype=torch.float32)
    with torch.set_grad_enabled(training):
        exact = reference.train(training)(x)
        with torch.autocast('cpu', torch.bfloat16):
            theirs, ours = reference(x), fused.train(training)(x)
    for found, other, expected in zip(ours, theirs, exact, strict=True):
        assert found.dtype == other.dtype
        assert (found - expected).norm() <= 1.3 * (other - expected).norm()
    if training:
        grads = []
        for outputs in (exact, theirs, ours):
            net = fused if outputs is ours else reference
            net.zero_grad()
            sum((feature.float() * 0.01).sin().sum() for feature in outputs).backward()
            grads.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))
        expected, other, found = grads
        assert torch.isfinite(found).all()
        assert (found - expected).norm() <= 1.3 * (other - expected).norm()


@pytest.mark.parametrize('how', ['channels-last', 'transposed', 'strided'])
def test_memory_of_the_input(how):
    reference, fused = pair('pre-norm')
    x = random(2, 3, 50, 64)
    given = dict(
        zip(('channels-last', 'transposed', 'strided'),
            (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3),
             torch.stack([x, x], -1)[..., 0])))[how]
    with torch.no_grad():
        for found, expected in zip(fused(given), reference(x), strict=True):
            close(found, expected, 1e-10)
            assert found.is_contiguous(memory_format=torch.channels_last if how == 'channels-last' else
                                       torch.contiguous_format)


def small_block(levels, normalize, kind):
    torch.manual_seed(2)
    block = Block(
        3, FocalModulation(3, levels, 1, post_norm=kind == 'norms inside', normalize_modulator=normalize),
        mlp_ratio=2.0, drop_rate=0.0, drop_path_rate=0.0, post_norm=kind != 'pre-norm',
        layer_scale_init_value=0.0 if kind == 'pre-norm' else 0.5).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, mean=0.5, std=0.3)
    return block


def operator_arguments(block, x):
    """What the block hands to its operator, which only torch.compile calls."""
    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('focalnet_mm.backbone.compute.operators.is_compiling', lambda: True)
        patch.setattr('focalnet_mm.backbone.compute.cpu.block._block', lambda *args: given.append(args) or [args[0]])
        block(x, 'channels_last')
    return given[0]


@pytest.mark.skipif(not HAS_OPERATORS, reason='blocks learn through operators, which PyTorch 2.4 and later have')
class TestOperator:

    @pytest.mark.parametrize('levels', range(5))
    @pytest.mark.parametrize('normalize', [False, True])
    @pytest.mark.parametrize('kind', ['pre-norm', 'post-norm', 'norms inside'])
    def test_gradients(self, levels, normalize, kind):
        block = small_block(levels, normalize, kind)
        names = [name for name, _ in block.named_parameters()]

        def run(x, *parameters):
            return torch.func.functional_call(block, dict(zip(names, parameters)), (x, 'channels_last'))

        assert torch.autograd.gradcheck(run, (random(2, 3, 4, 3).requires_grad_(), *block.parameters()), fast_mode=True)

    @pytest.mark.parametrize('kind', ['pre-norm', 'post-norm', 'norms inside'])
    def test_torch_is_told_the_truth(self, kind):
        """Shapes, strides and data types of the results, as torch.compile takes them, and what may be written to."""
        block = small_block(3, True, kind)
        arguments = operator_arguments(block, random(2, 6, 7, 3))
        torch.library.opcheck(_block, arguments, test_utils=(
            'test_schema', 'test_autograd_registration', 'test_faketensor'))
        detached = [[tensor.detach() for tensor in part] if isinstance(part, list) and part and isinstance(
            part[0], torch.Tensor) else part for part in arguments]
        for whole in (False, True):
            for wanted in ([True] * 11, [True] + [False] * 10, [False] * 10 + [True]):
                out, *kept = _block(*detached[:-2], True, whole)
                torch.library.opcheck(_block_backward, (out, *detached[:5], kept, *detached[5:9], wanted), test_utils=(
                    'test_schema', 'test_faketensor'))

    @pytest.mark.parametrize('training', [False, True])
    def test_compiled(self, training):
        """As one graph, fused as it is."""
        _, fused = pair('pre-norm', torch.float32)
        compiled = torch.compile(fused.train(training), fullgraph=True, backend='aot_eager')
        x = random(2, 3, 64, 96, dtype=torch.float32)
        with torch.set_grad_enabled(training):
            for found, expected in zip(compiled(x), fused(x), strict=True):
                close(found, expected, 1e-6)
            if training:
                grads = []
                for net in (compiled, fused):
                    fused.zero_grad()
                    sum(feature.sin().sum() for feature in net(x)).backward()
                    grads.append([parameter.grad for parameter in fused.parameters()])
                for found, expected in zip(*grads, strict=True):
                    close(found, expected, 1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize('training', [False, True])
    def test_compiled_by_default_at_several_sizes(self, training):
        """The default backend, one process, three sizes, none of them the first one's multiple."""
        torch._dynamo.reset()
        torch.manual_seed(0)
        net = FocalNet(dict(embed_dims=8, depths=(1,), focal_levels=1, focal_windows=3)).train(training)
        compiled = torch.compile(net)
        for size in ((40, 48), (64, 96), (37, 50)):
            x = random(2, 3, *size, dtype=torch.float32)
            found = []
            with torch.set_grad_enabled(training):
                for run in (compiled, net):
                    features = run(x)
                    net.zero_grad()
                    if training:
                        sum(feature.sin().sum() for feature in features).backward()
                    found.append([*features, *(p.grad for p in net.parameters() if training)])
            for actual, expected in zip(*found, strict=True):
                close(actual, expected, 1e-4)

    @pytest.mark.parametrize('name', SETTINGS)
    @pytest.mark.parametrize('drop_path_rate', [0.0, 0.6])
    def test_pieces(self, monkeypatch, name, drop_path_rate):
        """Maps that are cut into many pieces, the last one smaller, with some branches of some samples dropped."""
        monkeypatch.setattr('focalnet_mm.backbone.compute.cpu.pointwise._PIECE_BYTES', 1 << 12)
        reference, fused = pair(name, drop_path_rate=drop_path_rate)
        x = random(3, 3, 77, 61)
        grads = []
        for net in (reference, fused):
            torch.manual_seed(5)
            features = net.train()(x)
            sum(feature.sin().sum() for feature in features).backward()
            grads.append((features, [parameter.grad for parameter in net.parameters()]))
        for expected, found in zip(*(features for features, _ in grads), strict=True):
            close(found, expected, 1e-10)
        scale = max(grad.abs().max().item() for grad in grads[0][1])
        for expected, found in zip(*(parameters for _, parameters in grads), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * scale)

    @pytest.mark.parametrize('name', SETTINGS)
    def test_second_derivatives(self, name):
        """A penalty on the gradient of the input, as it trains."""
        found = []
        for net in pair(name, drop_path_rate=0.4):
            torch.manual_seed(3)
            x = random(2, 3, 32, 40).requires_grad_()
            loss = sum(feature.sin().sum() for feature in net.train()(x))
            grad, = torch.autograd.grad(loss, x, create_graph=True)
            (grad.square().sum() + loss).backward()
            found.append([x.grad, *(parameter.grad for parameter in net.parameters())])
        scale = max(grad.abs().max().item() for grad in found[0])
        for expected, actual in zip(*found, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10 * scale)


class TestChoice:

    @pytest.mark.skipif(not HAS_OPERATORS, reason='blocks learn through operators, which PyTorch 2.4 and later have')
    def test_by_device_and_dtype(self):
        x = torch.zeros(1, 3, 8, 8)
        assert choose('auto', x) == ('channels_last' if torch.backends.mkldnn.enabled else 'reference')
        assert choose('auto', x.double()) == 'reference'
        assert choose('reference', x) == 'reference'
        assert choose('auto', x.to('meta')) == 'reference'
        with torch.autocast('cpu', torch.float16):
            assert choose('auto', x) == 'reference'
        with pytest.raises(ValueError, match=r"implementation must be one of auto, reference, .*, got 'fast'"):
            FocalNet(implementation='fast')

    @pytest.mark.parametrize('training', [False, True])
    def test_hooks_and_exchanged_layers_are_heeded(self, training):
        """The fused block reads the parameters of its layers; one that is hooked or of another kind is called."""
        reference, fused = pair('pre-norm')
        seen = []
        fused.layers[0].blocks[0].modulation.h.register_forward_hook(lambda *_: seen.append(1))
        x = random(1, 3, 40, 40)

        class Doubled(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return 2 * self.inner(x)

        for net in (reference, fused):
            block = net.layers[2].blocks[1]
            block.mlp.fc2 = Doubled(block.mlp.fc2)
        with torch.set_grad_enabled(training):
            for found, expected in zip(fused.train(training)(x), reference.train(training)(x), strict=True):
                close(found, expected, 1e-10)
        assert seen == [1]

    def test_dropout_and_stochastic_depth(self):
        for settings in (dict(drop_rate=0.3), dict(drop_path_rate=0.5)):
            reference, fused = pair('pre-norm', **settings)
            outputs = []
            for net in (reference, fused):
                torch.manual_seed(5)
                outputs.append(net.train()(random(3, 3, 40, 40)))
            for found, expected in zip(*outputs, strict=True):
                close(found, expected, 1e-10)

    @pytest.mark.parametrize('kind', SETTINGS)
    def test_recomputed_blocks(self, kind):
        """Beside torch's checkpoints of the reference, and the reference that keeps everything."""
        nets = [*pair(kind, with_cp=True, drop_path_rate=0.5), pair(kind, drop_path_rate=0.5)[0]]
        for net in nets:
            net.load_state_dict(nets[0].state_dict())
            torch.manual_seed(5)
            sum(feature.sin().sum() for feature in net.train()(random(3, 3, 40, 40))).backward()
        for expected, *found in zip(*(net.parameters() for net in nets), strict=True):
            for parameter in found:
                close(parameter.grad, expected.grad, 1e-9)


@pytest.mark.slow
def test_memory_does_not_grow():
    net = FocalNet('tiny-lrf', **SHALLOW).train()

    def resident():
        gc.collect()
        return int(next(line for line in Path('/proc/self/status').read_text().splitlines()
                        if line.startswith('VmRSS')).split()[1]) // 1024

    marks = []
    for step in range(200):
        sum(feature.mean() for feature in net(torch.randn(1, 3, 64 + step % 7 * 12, 96 + step % 3 * 20))).backward()
        net.zero_grad()
        if step in (60, 199):
            marks.append(resident())
    assert marks[1] - marks[0] < 20


def test_state_dict_is_the_same():
    reference, fused = pair('pre-norm')
    assert list(reference.state_dict()) == list(fused.state_dict())
    assert copy.deepcopy(fused)(random(1, 3, 32, 32))[0].shape == (1, 8, 8, 8)
