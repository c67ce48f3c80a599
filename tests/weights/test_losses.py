"""What would be lost in silence is said aloud, with the way out; what can be kept of channels and norms is kept."""

import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from focalnet_mm import FocalNet
from focalnet_mm.run.build import check_checkpoint, load_weights
from focalnet_mm.weights import fit_model, load_into
from tests.helpers.training import THIN


@pytest.fixture
def warnings():
    """The warnings of mmengine's logger."""
    found, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


class TestLosses:

    def load(self, tmp_path, state, net):
        torch.save({'model': state}, tmp_path / 'x.pth')
        return load_into(net, tmp_path / 'x.pth')

    def test_nothing_is_lost_of_a_classifier(self, tmp_path, random_net, classification_state, warnings):
        assert not self.load(tmp_path, classification_state(random_net()), random_net()).losses
        assert not warnings

    @pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
    def test_not_finite(self, value, dtype, tmp_path, random_net, warnings):
        state = {name: tensor.to(dtype) for name, tensor in random_net().state_dict().items()}
        state['layers.1.blocks.0.mlp.fc1.bias'][3] = value
        report = self.load(tmp_path, state, random_net())
        assert warnings == [f'The checkpoint {tmp_path / "x.pth"}: {report.losses[0]}']
        assert report.losses[0].startswith(f'1 of its {len(state)} tensors hold NaN or infinity (layers.1.blocks.0.mlp.'
                                           'fc1.bias): its training diverged')

    def test_zeros(self, tmp_path, random_net, warnings):
        """Biases may be zero; a weight that is zero everywhere was never trained."""
        state = random_net().state_dict()
        state['patch_embed.proj.bias'].zero_()
        state['layers.1.blocks.0.mlp.fc1.weight'].zero_()
        report = self.load(tmp_path, state, random_net())
        assert [each.partition(':')[0] for each in report.losses] == [
            f'1 of its {len(state)} tensors are weights of zeros alone (layers.1.blocks.0.mlp.fc1.weight)']
        assert len(warnings) == 1

    def test_output_norms_elsewhere(self, tmp_path, random_net, warnings):
        """Under a name that no layout has: they start fresh, which nobody would see in the features' shapes."""
        state = {(f'trained.{name}' if name.startswith('norm') else f'body.{name}'): tensor
                 for name, tensor in random_net().state_dict().items()}
        report = self.load(tmp_path, state, random_net())
        assert len(report.new) == 8
        assert report.losses == (
            'trained output norms are unused (trained.norm0.weight, trained.norm0.bias, trained.norm1.weight, '
            'trained.norm1.bias, … 4 more), and those of the backbone start fresh: give them the prefix of the '
            "backbone's other tensors, so that norm0.bias is among these, and load again.",)

    def test_a_branch_of_another_network(self, tmp_path, random_net, warnings):
        state = {**random_net().state_dict(), 'layers.0.attention.qkv.weight': torch.ones(3, 3),
                 'side.0.weight': torch.ones(2), 'side.1.weight': torch.ones(2), 'layers.9.blocks.0.x': torch.ones(1)}
        report = self.load(tmp_path, state, random_net())
        assert [each.partition(',')[0] for each in report.losses] == [
            'parts of its network are unused (layers.0.attention.qkv']

    def test_norms_that_are_not_asked_for(self, tmp_path, random_net):
        state = random_net().state_dict()
        assert not self.load(tmp_path, state, random_net(out_indices=(1, 2))).losses


class TestOutputNorm:

    def test_a_classifier_loses_its_norm(self, tmp_path, random_net, classification_state, warnings):
        """A backbone with its last stage alone, as mmpretrain's classifiers have it, could have used it."""
        torch.save({'model': classification_state(random_net())}, tmp_path / 'x.pth')
        report = load_into(random_net(out_indices=(3,)), tmp_path / 'x.pth')
        assert report.losses == (
            'the norm behind its last stage is unused (norm.weight), and that of the backbone starts fresh '
            '(norm3.bias, norm3.weight): to keep it, load the classifier as a whole with load_from.',)


class TestChannels:

    @staticmethod
    def load(tmp_path, source, channels):
        """Through the init_cfg of a config."""
        torch.save({'model': source.state_dict()}, tmp_path / 'x.pth')
        net = FocalNet(in_channels=channels, embed_dims=8, depths=(1, 1, 2, 1), init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))).double().eval()
        net.init_weights()
        return net

    @pytest.mark.parametrize('channels', [1, 4, 5])
    def test_the_same_for_grey_and_rgb(self, channels, tmp_path, random_net, log):
        """A grey picture gives what it gave in three channels; other channels do not count until they are trained."""
        source = random_net().double().eval()
        for parameter in source.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        net = self.load(tmp_path, source, channels)
        grey, more = torch.randn(1, 1, 40, 56).double(), torch.randn(1, channels, 40, 56).double()
        given, expected = (grey, grey.expand(1, 3, 40, 56)) if channels == 1 else (more, more[:, :3])
        for found, feature in zip(net(given), source(expected)):
            torch.testing.assert_close(found, feature, rtol=0, atol=1e-10)
        how = 'stem summed over RGB for 1 channel' if channels == 1 else (
            f'stem given zeros for {channels - 3} more channels than RGB')
        assert f'1 fitted (1 {how})' in log[-1]

    @pytest.mark.parametrize(('theirs', 'ours'), [(3, 2), (1, 3), (4, 3), (4, 6)])
    def test_what_means_nothing(self, theirs, ours, tmp_path, random_net):
        torch.save(random_net(in_channels=theirs).state_dict(), tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=rf'patch_embed.proj.weight has shape \(8, {theirs}, 4, 4\) in the checkp'):
            load_into(random_net(in_channels=ours), tmp_path / 'x.pth')


class TestWholeModels:

    @staticmethod
    def model(classes=3, **backbone):
        from mmpretrain.registry import MODELS
        from mmpretrain.utils import register_all_modules
        register_all_modules()
        return MODELS.build(dict(
            type='ImageClassifier', backbone={**THIN, **backbone}, neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=classes, in_channels=64)))

    def test_channels_kernels_and_classes_at_once(self):
        source, model = self.model(3), self.model(2, in_channels=1, focal_windows=5)
        ready, report = fit_model(source.state_dict(), model, dict(classes=('a', 'b', 'c')), {}, 'x.pth')
        assert torch.equal(ready['backbone.patch_embed.proj.weight'],
                           source.backbone.patch_embed.proj.weight.sum(1, keepdim=True))
        assert str(report).startswith(
            f'x.pth: {len(report.landed)} tensors landed as they are; 1 stem summed over RGB for 1 channel; 5 kernels '
            'padded with zeros from 3 to 5; 5 kernels padded with zeros from 5 to 7; 3 → 2 classes: 2 new')
        assert not report.losses
        assert not any(model.load_state_dict(ready))

    def test_nothing_for_this_model(self):
        with pytest.raises(ValueError, match=r'x.pth has nothing for this model: none of its 1 tensors \(conv.weig'):
            fit_model({'conv.weight': torch.ones(1)}, self.model(), {}, {}, 'x.pth')

    def test_other_shapes_and_other_parts(self):
        source, model = self.model(), self.model()
        state = {name.replace('head.', 'old_head.'): tensor for name, tensor in source.state_dict().items()}
        state['backbone.norm3.weight'] = torch.ones(5)
        _, report = fit_model(state, model, {}, {}, 'x.pth')
        assert report.losses == (
            "1 of its tensors have other shapes, and the model's start fresh (backbone.norm3.weight: (5,) in the "
            "checkpoint, (64,) in the model): build the model as the checkpoint's was, to use them.",
            'its old_head is unused, while head of the model starts fresh: if these are the same under other names, '
            'rename them; else all is well.')
        assert '2 of the model new (2 of head); 2 of the file unused (2 of old_head)' in str(report)

    def test_output_norms_elsewhere(self):
        """As Relation-DETR's backbones have them, where the rest was renamed by hand."""
        state = {name.replace('backbone.norm', 'backbone.1.norm'): tensor
                 for name, tensor in self.model().state_dict().items()}
        _, report = fit_model(state, self.model(), {}, {}, 'x.pth')
        assert report.losses[0].startswith('trained output norms are unused (backbone.1.norm3.weight, backbone.1.norm3')

    def test_models_that_give_tensors_out_themselves(self):
        """As mmdet's semi-supervised detectors do, to teacher and student (models/detectors/semi_base.py)."""
        class Both(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.teacher, self.student = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

            def _load_from_state_dict(self, state_dict, *args):
                for name in list(state_dict):
                    state_dict[f'teacher.{name}'] = state_dict[f'student.{name}'] = state_dict.pop(name)
                super()._load_from_state_dict(state_dict, *args)

        model, source = Both(), torch.nn.Linear(2, 2)
        ready, _ = fit_model(source.state_dict(), model, {}, {}, 'x.pth')
        model.load_state_dict(ready, strict=False)
        assert torch.equal(model.teacher.weight, source.weight)
        assert torch.equal(model.student.weight, source.weight)

    def test_what_is_tested_and_predicted_with(self, tmp_path, warnings):
        model = self.model()
        state = {name: tensor * float('nan') if name == 'head.fc.bias' else tensor
                 for name, tensor in model.state_dict().items()}
        torch.save(dict(state_dict=state, meta={}), tmp_path / 'x.pth')
        check_checkpoint(model, str(tmp_path / 'x.pth'))
        load_weights(model, Config(), str(tmp_path / 'x.pth'))
        assert len(warnings) == 2
        assert all('tensors hold NaN or infinity (head.fc.bias)' in line for line in warnings)


@pytest.mark.parametrize('dtype', [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers(dtype, tmp_path, random_net):
    """What torch would copy into floats: rounded without its scale, or without its imaginary part."""
    net = random_net()
    state = {name: tensor.to(dtype) if tensor.dim() == 2 else tensor for name, tensor in net.state_dict().items()}
    torch.save(state, tmp_path / 'x.pth')
    message = rf'x.pth holds \d+ weights as {dtype} \(layers.0.blocks.0.modulation.f.weight, .*, expected floating'
    with pytest.raises(ValueError, match=message):
        load_into(net, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message):
        fit_model(state, net, {}, {}, 'x.pth')


def test_what_transformers_pretrains_with_is_no_branch(tmp_path, random_net):
    from transformers import FocalNetConfig, FocalNetForMaskedImageModeling
    FocalNetForMaskedImageModeling(FocalNetConfig(
        embed_dim=8, depths=[1, 1, 2, 1], hidden_sizes=[16, 32, 64, 64])).save_pretrained(tmp_path / 'masked')
    assert load_into(random_net('tiny-srf', embed_dims=8, depths=(1, 1, 2, 1)), tmp_path / 'masked').losses == ()
