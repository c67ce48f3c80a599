"""The modulations of the paper's tables 12 and 13 against their formulas, position by position, and as blocks."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from focalnet_mm import FocalNet
from focalnet_mm.backbone.variants import MODULATIONS, build_modulation
from focalnet_mm.explain import focal_maps, mean_kernels, receptive_fields
from tests.backbone.test_modulation import depthwise, gelu, paper_modulation
from tests.helpers.variants import all_in_one

OTHERS = tuple(name for name in MODULATIONS if name != 'focal')
SUMS = 'pooling', 'global_pooling', 'sum', 'no_global', 'top_only', 'no_gating'


class Formula:
    """One image (C, H, W) through a modulation, in float64 and with nothing but sums over positions and channels."""

    def __init__(self, module, levels=2, window=3):
        self.weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}
        self.kernels = [window + 2 * level for level in range(levels)]
        self.normalize = module.normalize_modulator

    def linear(self, name, z):
        weight, bias = self.weights[f'{name}.weight'], self.weights[f'{name}.bias']
        return np.einsum('oc,c...->o...', weight.reshape(len(weight), -1), z) + bias.reshape(-1, *[1] * (z.ndim - 1))

    def level(self, z, level):
        return gelu(depthwise(z, self.weights[f'focal_layers.{level}.0.weight'][:, 0]))

    def contexts(self, z):
        """z, each level and the global context."""
        found = [z]
        for level in range(len(self.kernels)):
            found.append(self.level(found[-1], level))
        return [*found, np.broadcast_to(gelu(found[-1].mean((1, 2), keepdims=True)), z.shape)]

    def out(self, z):
        if 'ln.weight' in self.weights:
            z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
            z = z * self.weights['ln.weight'][:, None, None] + self.weights['ln.bias'][:, None, None]
        return self.linear('proj', z)

    def aggregation(self, x, maps=slice(1, None), gated=True, interact=np.multiply):
        contexts = self.contexts(self.linear('f_z', x))[maps]
        gates = self.linear('f_g', x) if gated else np.ones((len(contexts), *x.shape[1:]))
        assert len(gates) == len(contexts)
        total = sum(gate * context for gate, context in zip(gates, contexts))
        if self.normalize:
            total = total / len(contexts)
        return self.out(interact(self.linear('f_q', x), self.linear('h', total)))

    def attention(self, query, tokens, bias=lambda head, index: 0):
        """``tokens(i, j)`` gives the keys, the values and the indices for the biases of a position's tokens."""
        channels, height, width = query.shape
        heads = max(channels // 32, 1)
        size = channels // heads
        out = np.zeros_like(query)
        for i, j, head in itertools.product(range(height), range(width), range(heads)):
            part = slice(head * size, (head + 1) * size)
            keys, values, indices = tokens(i, j)
            scores = np.array([sum(query[part, i, j] * key[part]) / math.sqrt(size) + bias(head, index)
                               for key, index in zip(keys, indices)])
            shares = np.exp(scores) / np.exp(scores).sum()
            for share, value in zip(shares, values):
                out[part, i, j] += share * value[part]
        return self.out(out)

    def sum(self, x):
        return self.aggregation(x, interact=np.add)

    def no_global(self, x):
        return self.aggregation(x, slice(1, -1))

    def top_only(self, x):
        return self.aggregation(x, slice(-2, -1))

    def no_gating(self, x):
        return self.aggregation(x, gated=False)

    def pooling(self, x):
        self.level = self.pooled
        return self.aggregation(x)

    def pooled(self, z, level):
        reach = self.kernels[level] // 2
        out = np.zeros_like(z)
        for i, j in np.ndindex(z.shape[1:]):
            out[:, i, j] = z[:, max(i - reach, 0):i + reach + 1, max(j - reach, 0):j + reach + 1].mean((1, 2))
        return out

    def depthwise_convnet(self, x):
        top = self.contexts(self.linear('f_z', x))[-2]
        return self.out(self.linear('q', gelu(self.linear('h', top))))

    def self_attention_qkv_first(self, x):
        query, key, value = np.split(self.linear('qkv', x), 3)
        keys, values = self.contexts(key), self.contexts(value)
        return self.attention(query, lambda i, j: (
            [z[:, i, j] for z in keys], [z[:, i, j] for z in values], range(len(keys))))

    def self_attention_qkv_later(self, x):
        pairs = [np.split(self.linear('kv', z), 2) for z in self.contexts(x)]
        return self.attention(self.linear('q', x), lambda i, j: (
            [key[:, i, j] for key, _ in pairs], [value[:, i, j] for _, value in pairs], range(len(pairs))))

    def sliding_window(self, x):
        query, key, value = np.split(self.linear('qkv', x), 3)
        table = self.weights['relative_position_bias_table']

        def tokens(i, j):
            around = [(i + down, j + right, 7 * (down + 3) + right + 3)
                      for down in range(-3, 4) for right in range(-3, 4)
                      if 0 <= i + down < x.shape[1] and 0 <= j + right < x.shape[2]]
            return ([key[:, a, b] for a, b, _ in around], [value[:, a, b] for a, b, _ in around],
                    [index for *_, index in around])

        return self.attention(query, tokens, lambda head, index: table[index, head])


@pytest.mark.parametrize(('name', 'post_norm', 'normalize'), [
    *((name, post_norm, False) for name in OTHERS for post_norm in (False, True)),
    *((name, False, True) for name in SUMS)])
def test_equals_the_formula(name, post_norm, normalize):
    torch.manual_seed(0)
    # Two heads where there are heads; a map larger than the window in one direction, smaller in the other.
    channels = 64 if 'attention' in name or name == 'sliding_window' else 5
    module = build_modulation(name, channels, 2, 3, post_norm=post_norm, normalize_modulator=normalize).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, channels, 9, 6, dtype=torch.float64)
    if name == 'global_pooling':
        expected = np.stack([paper_modulation(module, image) for image in x.numpy()])
        assert module.focal_level == 0
    else:
        expected = np.stack([getattr(Formula(module), name)(image) for image in x.numpy()])
    found = module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).detach().numpy()
    error = np.abs(found - expected).max() / np.abs(expected).max()
    print(f'{name}: largest difference {error:.1e} of the greatest value')
    assert error < 1e-12


@pytest.mark.parametrize('name', OTHERS)
def test_gradients(name):
    torch.manual_seed(0)
    module = build_modulation(name, 3, 2, 3).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    names = [key for key, _ in module.named_parameters()]

    def run(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters)), x)

    inputs = torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True), *module.parameters()
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def loss_of(net, x):
    return sum((feature * feature.sin()).sum() for feature in net(x))


def gradients(net, x):
    torch.manual_seed(1)
    return torch.autograd.grad(loss_of(net, x), list(net.parameters()))


def agree(found, expected, tolerance):
    for actual, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance * max(wanted.abs().max().item(), 1e-3))


class TestBlocks:
    """All of them in one network, with layer scale, stochastic depth and every place of the norms."""

    @pytest.mark.parametrize('post_norm', [False, True])
    @pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
    def test_any_implementation(self, post_norm, dtype, tolerance):
        nets = [all_in_one(implementation=name, post_norm=post_norm, drop_path_rate=0.3).to(dtype)
                for name in ('reference', 'auto', 'channels_last')]
        x = torch.randn(2, 3, 37, 50, dtype=dtype)
        with torch.no_grad():
            expected, *found = (net.eval()(x) for net in nets)
        for features in found:
            agree(features, expected, tolerance)
        expected, *found = (gradients(net.train(), x) for net in nets)
        for grads in found:
            agree(grads, expected, tolerance)

    def test_recomputed(self):
        net, x = all_in_one(drop_path_rate=0.3).double().train(), torch.randn(2, 3, 37, 50, dtype=torch.float64)
        expected = gradients(net, x)
        net.with_cp = True
        agree(gradients(net, x), expected, 1e-12)

    @pytest.mark.slow
    def test_compiled(self):
        # What other tests compiled counts towards its limit.
        torch._dynamo.reset()
        net = all_in_one(['focal', 'pooling', 'sliding_window'])
        x = torch.randn(2, 3, 37, 50)
        compiled = torch.compile(net, fullgraph=True, backend='aot_eager')
        agree(gradients(compiled, x), gradients(net, x), 1e-4)

    def test_bfloat16(self):
        net, x = all_in_one(), torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            exact, = net(x)
            with torch.autocast('cpu', torch.bfloat16):
                found, = net(x)
        assert (found - exact).norm() < 0.05 * exact.norm()

    @pytest.mark.parametrize('shape', [(2, 3, 1, 1), (1, 3, 3, 70), (0, 3, 32, 32)])
    def test_sizes(self, shape):
        feature, = all_in_one()(torch.randn(shape))
        assert feature.shape == (shape[0], 8, -(-shape[2] // 4), -(-shape[3] // 4))
        assert torch.isfinite(feature).all()

    def test_dropout(self):
        net, x = all_in_one(drop_rate=0.5), torch.randn(2, 3, 32, 32)
        assert not torch.equal(*(net.train()(x)[0] for _ in range(2)))
        assert torch.equal(*(net.eval()(x)[0] for _ in range(2)))


def one(name='sum', **settings):
    return FocalNet('tiny-lrf', **{'embed_dims': 8, 'depths': (1, 1, 2, 1), 'modulation': name, **settings})


def test_one_argument_chooses():
    for name in MODULATIONS:
        assert {type(block.modulation) for stage in one(name).layers for block in stage.blocks} == {
            type(build_modulation(name, 8, 3, 3))}
    assert one(None).state_dict().keys() == one('focal').state_dict().keys()
    named = FocalNet(dict(embed_dims=8, depths=(1,), focal_levels=1, focal_windows=3, modulation='no_gating'))
    assert named.modulation == 'no_gating'


def test_global_pooling_is_no_levels():
    plain = one('focal', focal_levels=0)
    assert {name: tensor.shape for name, tensor in one('global_pooling').state_dict().items()} == {
        name: tensor.shape for name, tensor in plain.state_dict().items()}


@pytest.mark.parametrize(('name', 'other'), itertools.permutations(MODULATIONS, 2))
def test_no_checkpoint_of_one_fits_another(name, other):
    with pytest.raises(RuntimeError, match=r'Missing key|Unexpected key|size mismatch'):
        build_modulation(other, 8, 2, 3).load_state_dict(build_modulation(name, 8, 2, 3).state_dict())


def test_initialisation():
    net = one('sliding_window', embed_dims=64)
    table = net.layers[0].blocks[0].modulation.relative_position_bias_table
    nn.init.zeros_(table)
    net.init_weights()
    assert table.shape == (49, 2)
    assert table.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(name='summ'), r"^Unknown modulation 'summ': did you mean 'sum'\? There are focal, depthwise_convnet"),
    (dict(name=3), r'^Unknown modulation 3: There are focal'),
    (dict(name=['sum', 'focal']), r"^Unknown modulation \['sum', 'focal'\]: There are focal"),
    (dict(name='no_global', focal_levels=(2, 0, 1, 1)), r'NoGlobalModulation needs 1 focal level or more, got 0'),
    (dict(name='top_only', focal_levels=0), r'TopOnlyModulation needs 1 focal level or more, got 0: raise'),
    (dict(name='sliding_window', normalize_modulator=True), r'SlidingWindowAttention sums no levels up, .* False\.$'),
    (dict(name='depthwise_convnet', normalize_modulator=True), 'DepthwiseConvNet sums no levels up'),
    (dict(name='self_attention_qkv_first', embed_dims=100), 'heads of 32 channels, of which 100 channels are no'),
    (dict(name='pooling', focal_windows=4), 'kernels must be odd and positive')])
def test_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        one(**settings)


def test_what_can_be_looked_at():
    net, x = one('sum'), torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"have the modulation 'sum', and gates and modulators can be shown of 'focal' "
                       r'only: choose a model with that\.$'):
        focal_maps(net, x)
    assert mean_kernels(net)[3, 2].shape == (7, 7)
    assert [field.theoretical for field in receptive_fields(net, stages=0)] == [3, 7, 13]
    assert mean_kernels(one('pooling')) == {}
    assert focal_maps(one('global_pooling'), x)[0, 0].gates.shape == (1, 1, 16, 16)


def test_copied():
    net, x = all_in_one().eval(), torch.randn(1, 3, 32, 32)
    assert torch.equal(copy.deepcopy(net)(x)[0], net(x)[0])
