"""The modulation against the paper's formula, written position by position with nothing but sums."""

import math

import numpy as np
import pytest
import torch

from focalnet_mm import FocalModulation


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def depthwise(z, kernel):
    """(C, H, W) with (C, k, k), zeros around."""
    channels, height, width = z.shape
    size = kernel.shape[-1]
    padded = np.zeros((channels, height + size - 1, width + size - 1))
    padded[:, size // 2:size // 2 + height, size // 2:size // 2 + width] = z
    out = np.zeros_like(z)
    for i in range(height):
        for j in range(width):
            out[:, i, j] = (padded[:, i:i + size, j:j + size] * kernel).sum((1, 2))
    return out


def paper_modulation(module, x):
    """Equations 4 to 6 of arXiv 2203.11926v3 for one image (C, H, W), in float64 numpy."""
    weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}

    def linear(name, z):
        weight = weights[f'{name}.weight'].reshape(len(weights[f'{name}.weight']), -1)
        return np.einsum('oc,chw->ohw', weight, z) + weights[f'{name}.bias'][:, None, None]

    channels, levels = len(x), module.focal_level
    projected = linear('f', x)
    query, context, gates = projected[:channels], projected[channels:2 * channels], projected[2 * channels:]
    contexts = []
    for level in range(levels):
        context = gelu(depthwise(context, weights[f'focal_layers.{level}.0.weight'][:, 0]))
        contexts.append(context)
    contexts.append(np.broadcast_to(gelu(context.mean((1, 2), keepdims=True)), context.shape))
    assert len(gates) == len(contexts) == levels + 1
    aggregated = sum(gate * context for gate, context in zip(gates, contexts))
    if module.normalize_modulator:
        aggregated = aggregated / (levels + 1)
    out = query * linear('h', aggregated)
    if 'ln.weight' in weights:
        out = (out - out.mean(0)) / np.sqrt(out.var(0) + 1e-5)
        out = out * weights['ln.weight'][:, None, None] + weights['ln.bias'][:, None, None]
    return linear('proj', out)


@pytest.mark.parametrize('levels', range(5))
@pytest.mark.parametrize(('post_norm', 'normalize'), [(False, False), (True, False), (False, True)])
def test_equals_the_paper(levels, post_norm, normalize):
    torch.manual_seed(levels)
    module = FocalModulation(6, levels, 3, post_norm=post_norm, normalize_modulator=normalize).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    expected = np.stack([paper_modulation(module, image) for image in x.numpy()])
    found = module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(('window', 'factor', 'kernels'), [(3, 2, [3, 5, 7]), (9, 2, [9, 11, 13]), (1, 4, [1, 5, 9])])
def test_kernels_of_the_levels(window, factor, kernels):
    module = FocalModulation(4, 3, window, factor)
    assert [layer[0].kernel_size[0] for layer in module.focal_layers] == kernels


@pytest.mark.parametrize(('window', 'factor', 'message'), [
    (4, 2, r'focal level 0 is .* = 4, but kernels must be odd and positive'),
    (3, 3, r'focal level 1 is .* = 6, but'),
    (-1, 2, r'focal level 0 is .* = -1, but'),
])
def test_even_and_negative_kernels(window, factor, message):
    with pytest.raises(ValueError, match=message):
        FocalModulation(4, 2, window, factor)


def test_negative_levels():
    with pytest.raises(ValueError, match='focal_level must be 0 or more, got -1'):
        FocalModulation(4, -1, 3)


def test_second_derivatives_are_right():
    torch.manual_seed(0)
    module = FocalModulation(2, 2, 3).double()
    x = torch.randn(1, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)
    assert torch.autograd.gradgradcheck(module, x)
