"""X-Decoder's Focal-T: equal to its formula, written out in float64 over the names of its checkpoints."""

import pytest
import torch
import torch.nn.functional as F

from focalnet_mm import FocalNet
from focalnet_mm.backbone.archs import guess_arch
from focalnet_mm.backbone.depthwise import DepthwiseBlock
from focalnet_mm.weights import convert, load_into

THIN = dict(embed_dims=8, depths=(2, 1, 1, 1))


def reference(state, x, post_norm=True):
    """Features of all stages (focal_dw.py of X-Decoder)."""
    features = []
    x = embed(state, 'patch_embed.', x, stride=4, padding=3)
    for stage in range(4):
        blocks = 1 + max(int(name.split('.')[3]) for name in state if name.startswith(f'layers.{stage}.blocks.'))
        for i in range(blocks):
            name = f'layers.{stage}.blocks.{i}.'
            x = x + depthwise(state, f'{name}dw1.', x)
            branch = modulation(state, f'{name}modulation.', x if post_norm else norm(state, f'{name}norm1.', x))
            x = x + state[f'{name}gamma_1'][:, None, None] * branch
            x = norm(state, f'{name}norm1.', x) if post_norm else x
            x = x + depthwise(state, f'{name}dw2.', x)
            hidden = pointwise(state, f'{name}mlp.fc1.', x if post_norm else norm(state, f'{name}norm2.', x))
            x = x + state[f'{name}gamma_2'][:, None, None] * pointwise(state, f'{name}mlp.fc2.', gelu(hidden))
            x = norm(state, f'{name}norm2.', x) if post_norm else x
        features.append(norm(state, f'norm{stage}.', x))
        if stage < 3:
            x = embed(state, f'layers.{stage}.downsample.', x, stride=2, padding=1)
    return features


def embed(state, name, x, stride, padding):
    x = F.pad(x, (0, -x.shape[3] % stride, 0, -x.shape[2] % stride))
    x = F.conv2d(x, state[f'{name}proj.weight'], state[f'{name}proj.bias'], stride, padding)
    return norm(state, f'{name}norm.', x)


def depthwise(state, name, x):
    return F.conv2d(x, state[f'{name}weight'], state[f'{name}bias'], padding=1, groups=x.shape[1])


def pointwise(state, name, x):
    weight = state[f'{name}weight']
    return F.conv2d(x, weight.reshape(*weight.shape[:2], 1, 1), state[f'{name}bias'])


def norm(state, name, x):
    centred = x - x.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f'{name}weight'][:, None, None] + state[f'{name}bias'][:, None, None]


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def modulation(state, name, x):
    query, context, gates = pointwise(state, f'{name}f.', x).split([x.shape[1], x.shape[1], 4], 1)
    total = 0
    for level in range(3):
        kernel = state[f'{name}focal_layers.{level}.0.weight']
        context = gelu(F.conv2d(context, kernel, padding=kernel.shape[-1] // 2, groups=x.shape[1]))
        total = total + gates[:, level:level + 1] * context
    total = (total + gates[:, 3:] * gelu(context.mean((2, 3), keepdim=True))) / 4
    return pointwise(state, f'{name}proj.', query * pointwise(state, f'{name}h.', total))


def random_net(**settings):
    torch.manual_seed(0)
    net = FocalNet('tiny-dw', **THIN, **settings)
    for name, parameter in net.named_parameters():
        torch.nn.init.normal_(parameter, mean=float('norm' in name and name.endswith('weight')), std=0.3)
    return net.double().eval()


@pytest.mark.parametrize('post_norm', [True, False])
@pytest.mark.parametrize('implementation', ['auto', 'channels_last'])
def test_equals_the_formula(post_norm, implementation):
    """Features and the gradients of image and parameters, for an image of any size."""
    net = random_net(post_norm=post_norm, implementation=implementation)
    sides = []
    for run in (lambda _, x: net(x), lambda state, x: reference(state, x, post_norm)):
        x = torch.randn(2, 3, 61, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        features = run(dict(net.named_parameters()), x)
        loss = sum(feature.square().sum() for feature in features)
        sides.append([feature.detach() for feature in features] + list(
            torch.autograd.grad(loss, [x, *net.parameters()])))
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_modules_compute_it(dtype):
    """The fast implementation leaves these blocks to their modules."""
    net = random_net().to(dtype)
    x = torch.randn(1, 3, 64, 64, dtype=dtype)
    with torch.no_grad():
        features = net(x)
        net.implementation = 'reference'
        for ours, expected in zip(features, net(x)):
            torch.testing.assert_close(ours, expected, rtol=2e-2, atol=2e-2)
    block = net.block(0, 0)
    assert isinstance(block, DepthwiseBlock)
    calls = []
    block.dw1.register_forward_hook(lambda *_: calls.append(1))
    net.implementation = 'auto'
    net(x)
    assert calls


def test_recomputing_and_dropping():
    """Recomputed blocks give the same gradients; stochastic depth drops both branches and leaves the convolutions."""
    net = random_net().train()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    gradients = []
    for net.with_cp in (False, True):
        gradients.append(torch.autograd.grad(net(x)[-1].square().sum(), list(net.parameters()), allow_unused=True))
    for plain, recomputed in zip(*gradients):
        assert (plain is None and recomputed is None) or torch.equal(plain, recomputed)
    dropping = random_net(drop_path_rate=0.999).train()
    block = dropping.layers[3].blocks[0]
    y = torch.randn(1, 4, 4, 64, dtype=torch.float64)
    torch.manual_seed(3)
    dropped = block(y)
    state = dict(block.named_parameters())
    z = y.permute(0, 3, 1, 2)
    for i in (1, 2):
        z = norm(state, f'norm{i}.', z + depthwise(state, f'dw{i}.', z))
    torch.testing.assert_close(dropped, z.permute(0, 2, 3, 1))


def test_checkpoint_of_x_decoder(tmp_path, same):
    """Its names are the official ones under ``backbone.``, beside those of its heads."""
    with torch.device('meta'):
        published = FocalNet('tiny-dw').state_dict()
    assert guess_arch(published) == 'tiny-dw'
    assert guess_arch({name: tensor for name, tensor in published.items() if '.dw' not in name}) is None
    source = random_net().float()
    torch.save({**{f'backbone.{name}': tensor for name, tensor in source.state_dict().items()},
                'sem_seg_head.pixel_decoder.mask_features.weight': torch.ones(1)}, tmp_path / 'focalt_last.pt')
    net = FocalNet('tiny-dw', **THIN)
    report = load_into(net, tmp_path / 'focalt_last.pt')
    assert not report.new
    same(net.state_dict(), source.state_dict())
    with pytest.raises(ValueError, match=r'depthwise convolutions before the branches: True.*\(arch unknown in'):
        load_into(FocalNet('large-fl4', **{**THIN, 'focal_levels': 3}), tmp_path / 'focalt_last.pt')
    same(convert(convert(source.state_dict(), 'mm'), 'official'), source.state_dict())
    for layout in ('timm', 'transformers'):
        with pytest.raises(ValueError, match=r"X-Decoder's Focal-T \(tiny-dw\), and the FocalNet of the layout "):
            convert(source.state_dict(), layout, arch='tiny-dw', backbone_only=True)


def test_initial_weights():
    net = FocalNet('tiny-dw', **THIN)
    torch.nn.init.zeros_(net.block(0, 0).dw1.weight)
    net.init_weights()
    assert net.block(0, 0).dw1.weight.any()
    assert net.block(0, 0).gamma_1.tolist() == pytest.approx([1e-4] * 8)
