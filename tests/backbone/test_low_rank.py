"""mmpretrain's low-rank updates of linear layers, beside the same network with the updates added to its weights."""

import pytest
import torch

from focalnet_mm import FocalNet

SHALLOW = dict(arch='tiny-lrf', embed_dims=16, depths=(1, 1, 2, 1))


@pytest.mark.parametrize('learning', [False, True])
def test_lora_model(learning):
    from mmpretrain.models.peft.lora import LoRALinear, LoRAModel
    from mmpretrain.utils import register_all_modules
    register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    model = LoRAModel(module=dict(type='mmengine.FocalNet', **SHALLOW), alpha=16, rank=4, drop_rate=0.0,
                      targets=[dict(type=pattern) for pattern in (r'.*modulation\.f', r'.*proj', r'.*fc1', r'.*fc2')])
    merged = FocalNet(**SHALLOW)
    changed = 0
    for name, layer in model.module.named_modules():
        if isinstance(layer, LoRALinear):
            torch.nn.init.normal_(layer.lora_up.weight, std=0.1)
            update = layer.scaling * layer.lora_up.weight @ layer.lora_down.weight
            own = merged.get_submodule(name)
            own.weight.data, own.bias.data = (layer.original_layer.weight + update).detach(), layer.original_layer.bias
            changed += 1
    own = merged.state_dict()
    merged.load_state_dict({name: tensor for name, tensor in model.module.state_dict().items() if name in own
                            and 'original_layer' not in name}, strict=False)
    assert changed == 4 * 5
    x = torch.randn(1, 3, 64, 48)
    with torch.set_grad_enabled(learning):
        for found, expected in zip(model.train(learning)(x), merged.train(learning)(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            if learning:
                found.sum().backward(retain_graph=True)
    if learning:
        assert all(parameter.grad is not None and parameter.grad.any() for name, parameter in model.named_parameters()
                   if 'lora' in name)
