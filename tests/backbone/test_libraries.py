"""Libraries that count, adapt, quantise or offload a network see its layers, and what they return is computed."""

import importlib

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from focalnet_mm import FocalNet
from focalnet_mm.releases import HAS_SAFE_GLOBALS
from tests.helpers.forked import two_ranks

SHALLOW = dict(embed_dims=16, depths=(1, 1, 2, 1))
LINEAR = ('f', 'proj', 'fc1', 'fc2')


def library(name):
    return pytest.importorskip(name, reason=f'{name} is not installed')


def pair(**settings):
    """The default and the reference with the same weights."""
    torch.manual_seed(0)
    nets = [FocalNet('tiny-lrf', implementation=implementation, **{**SHALLOW, **settings}).eval()
            for implementation in ('auto', 'reference')]
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def torch_counter(net, x):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    return counter.get_total_flops() / 2


def torch_counter_while_training(net, x):
    with FlopCounterMode(display=False) as counter:
        features = net(x)
    assert all(feature.requires_grad for feature in features)
    return counter.get_total_flops() / 2


def fvcore_counter(net, x):
    found = library('fvcore.nn').FlopCountAnalysis(net, x)
    found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return found.total()


def mmengine_counter(net, x):
    return importlib.import_module('mmengine.analysis').get_model_complexity_info(
        net, inputs=x, show_table=False, show_arch=False)['flops']


def thop_counter(net, x):
    return library('thop').profile(net, (x,), verbose=False)[0]


def ptflops_counter(backend):
    def count(net, x):
        return library('ptflops').get_model_complexity_info(
            net, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, backend=backend)[0]
    return count


@pytest.mark.parametrize('count', [
    torch_counter, torch_counter_while_training, fvcore_counter, mmengine_counter, thop_counter,
    ptflops_counter('pytorch'), ptflops_counter('aten')])
# Table 12 of the paper (4.49 billion multiply-adds), which counts the classifier's linear layer too.
@pytest.mark.parametrize(('arch', 'expected'), [('tiny-lrf', 4.49e9)])
def test_counters_say_what_the_paper_says(count, arch, expected):
    found = count(FocalNet(arch).eval(), torch.zeros(1, 3, 224, 224))
    assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.skipif(not HAS_SAFE_GLOBALS, reason='the releases of PEFT and torchao that are there need PyTorch 2.5')
class TestPeft:
    """Adapters beside the same network with the adapters merged into its weights."""

    @pytest.mark.parametrize('kind', ['LoraConfig', 'DoRA', 'LoHaConfig', 'IA3Config'])
    def test_adapters(self, kind):
        peft = library('peft')
        targets = dict(target_modules=list(LINEAR))
        if kind == 'IA3Config':
            targets['feedforward_modules'] = ['fc2']
        config = (peft.LoraConfig(use_dora=True, init_lora_weights=False, **targets) if kind == 'DoRA'
                  else getattr(peft, kind)(init_weights=False, **targets) if kind == 'LoHaConfig'
                  else peft.IA3Config(init_ia3_weights=False, **targets) if kind == 'IA3Config'
                  else peft.LoraConfig(init_lora_weights=False, **targets))
        plain, _ = pair()
        x = torch.randn(1, 3, 64, 48)
        with torch.no_grad():
            before = plain(x)[-1]
        net = peft.get_peft_model(plain, config).eval()
        found = net(x)
        sum(feature.square().mean() for feature in found).backward()
        assert all(parameter.grad is not None and parameter.grad.any()
                   for parameter in net.parameters() if parameter.requires_grad)
        assert (found[-1] - before).abs().max() > 1e-3 * before.abs().max()
        with torch.no_grad():
            for actual, expected in zip(found, net.merge_and_unload()(x), strict=True):
                torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not HAS_SAFE_GLOBALS, reason='the releases of PEFT and torchao that are there need PyTorch 2.5')
class TestQuantised:

    @pytest.mark.parametrize('config', ['Int8WeightOnlyConfig', 'Int8DynamicActivationInt8WeightConfig'])
    def test_torchao(self, config):
        quantization = library('torchao.quantization')
        default, reference = pair()
        for net in (default, reference):
            quantization.quantize_(net, getattr(quantization, config)())
        assert type(default.layers[0].blocks[0].mlp.fc1.weight) is not nn.Parameter
        x = torch.randn(1, 3, 64, 48)
        with torch.no_grad():
            for found, expected in zip(default(x), reference(x), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


class TestOffloaded:

    @pytest.mark.parametrize('where', ['cpu', 'disk'])
    def test_accelerate(self, where, tmp_path):
        accelerate = library('accelerate')
        default, reference = pair()
        if where == 'cpu':
            accelerate.cpu_offload(default, execution_device='cpu')
        else:
            accelerate.disk_offload(default, str(tmp_path), execution_device='cpu')
        assert default.layers[0].blocks[0].mlp.fc1.weight.device.type == 'meta'
        x = torch.randn(1, 3, 64, 48)
        with torch.no_grad():
            for found, expected in zip(default(x), reference(x), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


class TestExplained:

    def test_grad_cam(self):
        gradcam = library('pytorch_grad_cam')

        class Classifier(nn.Module):
            def __init__(self, net):
                super().__init__()
                self.net = net
                torch.manual_seed(0)
                self.head = nn.Linear(net.out_channels[-1], 5)

            def forward(self, x):
                return self.head(self.net(x)[-1].mean((2, 3)))

        pictures = []
        for net in pair():
            model = Classifier(net).eval()
            targets = [importlib.import_module('pytorch_grad_cam.utils.model_targets').ClassifierOutputTarget(2)]
            with gradcam.GradCAM(model=model, target_layers=[net.layers[-1].blocks[-1].norm1],
                                 reshape_transform=lambda x: x.permute(0, 3, 1, 2)) as cam:
                pictures.append(cam(torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(1)), targets))
        assert pictures[0].max() > 0
        torch.testing.assert_close(*map(torch.from_numpy, pictures), rtol=1e-3, atol=1e-3)


def train_sharded(rank, folder):
    """Two steps of a network whose blocks FSDP2 shards, on one of two processes."""
    from torch.distributed.fsdp import fully_shard

    from focalnet_mm.backbone.block import Block
    mesh = dist.init_device_mesh('cpu', (2,))
    default = pair(drop_path_rate=0.0)[0].train()
    for module in list(default.modules()):
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(default, mesh=mesh)
    losses = train(default, rank)
    torch.save(losses, f'{folder}/{rank}.pt')


def train(net, *ranks):
    """The losses of two steps of gradient descent on what these ranks see."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses = []
    for step in range(2):
        found = []
        for rank in ranks:
            x = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(10 * step + rank))
            loss = sum((feature - 1).square().mean() for feature in net(x))
            (loss / len(ranks)).backward()
            found.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(found)
    return losses


@pytest.mark.slow
def test_fully_sharded_on_two_processes(tmp_path):
    assert [status for status, _ in two_ranks(lambda rank: train_sharded(rank, tmp_path), tmp_path)] == [0, 0]
    expected = train(pair(drop_path_rate=0.0)[1].train(), 0, 1)
    found = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]
    for step in range(2):
        for rank in range(2):
            assert found[rank][step][0] == pytest.approx(expected[step][rank], rel=1e-4)


def test_averaged_weights():
    from mmengine.model import ExponentialMovingAverage
    default, reference = pair()
    averaged = ExponentialMovingAverage(default, momentum=0.25)
    before = {name: tensor.clone() for name, tensor in default.state_dict().items()}
    with torch.no_grad():
        for parameter in default.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    # Its first call copies the weights, the next ones average.
    averaged.steps += 1
    averaged.update_parameters(default)
    reference.load_state_dict({name: 0.75 * before[name] + 0.25 * tensor for name, tensor in
                               default.state_dict().items()})
    x = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        for found, expected in zip(averaged(x), reference(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
