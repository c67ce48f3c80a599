"""What load_from names is fitted before it is loaded, in a training, and in nothing else."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from focalnet_mm.run.checks import build_runner
from focalnet_mm.run.loading import FitCheckpoint, public_classes
from tests.helpers.training import tiny_runner

# Trained for four classes, of which the data has two, in another order.
TRAINED = ('c', 'x', 'a', 'y')


@pytest.fixture
def trained(tmp_path):
    """A checkpoint of a training on other classes."""
    runner = tiny_runner(tmp_path / 'before')
    state = {name: torch.randn(tensor.shape) if tensor.is_floating_point() else tensor
             for name, tensor in runner.model.state_dict().items()}
    state['head.fc.weight'], state['head.fc.bias'] = torch.randn(4, 64), torch.randn(4)
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=TRAINED), epoch=3)), tmp_path / 'x.pth')
    return state, str(tmp_path / 'x.pth')


class StopError(Exception):
    pass


def start(runner):
    """The weights that a training starts from."""
    class Before(FitCheckpoint):
        priority = 'LOWEST'

        def after_load_checkpoint(self, runner, checkpoint):
            pass

        def before_train(self, runner):
            raise StopError

    runner.register_hook(FitCheckpoint())
    runner.register_hook(Before())
    with pytest.raises(StopError):
        runner.train()
    return runner.model.state_dict()


class TestTraining:

    def test_rows_by_name(self, trained, tmp_path):
        state, path = trained
        runner = tiny_runner(tmp_path / tmp_path.name, load_from=path)
        found = start(runner)
        assert torch.equal(found['head.fc.weight'][0], state['head.fc.weight'][2])
        assert torch.equal(found['head.fc.weight'][2], state['head.fc.weight'][0])
        assert not any(torch.equal(found['head.fc.weight'][1], row) for row in state['head.fc.weight'])
        name = 'backbone.patch_embed.proj.weight'
        assert torch.equal(found[name], state[name])
        said = next(line for line in runner.told if 'landed' in line)
        assert said.startswith(f'{path}: ')
        assert '4 → 3 classes: a, c by name; 1 new (b), in head.fc; 0 of the model new; 0 of the file unused.' in said

    def test_the_averaged_model_too(self, trained, tmp_path):
        _, path = trained
        runner = tiny_runner(tmp_path / tmp_path.name, hook=dict(type='EMAHook'), load_from=path)
        found = start(runner)
        averaged = next(hook for hook in runner.hooks if hasattr(hook, 'ema_model')).ema_model.module.state_dict()
        assert torch.equal(averaged['head.fc.weight'], found['head.fc.weight'])

    def test_nothing_for_the_model(self, tmp_path):
        torch.save(dict(state_dict=dict(a=torch.ones(1))), tmp_path / 'x.pth')
        runner = tiny_runner(tmp_path / tmp_path.name, load_from=str(tmp_path / 'x.pth'))
        runner.register_hook(FitCheckpoint())
        with pytest.raises(ValueError, match=r'x.pth has nothing for this model: none of its 1 tensors \(a\) is one'):
            runner.train()


@pytest.mark.parametrize('how', ['resume', 'test'])
def test_everything_else_is_left_as_it_is(how, trained, tmp_path):
    """A run that goes on takes what it wrote, and a test tests what it is given."""
    _, path = trained
    runner = tiny_runner(tmp_path / tmp_path.name, load_from=path)
    runner._resume = how == 'resume'
    if how == 'resume':
        runner._train_loop = runner.build_train_loop(runner._train_loop)
    checkpoint = dict(state_dict={'head.fc.weight': torch.ones(4, 64)}, meta={})
    FitCheckpoint().after_load_checkpoint(runner, checkpoint)
    assert checkpoint['state_dict']['head.fc.weight'].shape == (4, 64)


def test_the_command_registers_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: tiny_runner(tmp_path))
    runner, _ = build_runner(Config(dict(model=dict(type='x'))))
    assert any(isinstance(hook, FitCheckpoint) for hook in runner.hooks)


class TestPublicClasses:

    @pytest.mark.parametrize(('layer', 'rows', 'module', 'dataset'), [
        ('roi_head.bbox_head.fc_cls', 81, 'mmdet', 'CocoDataset'),
        ('roi_head.bbox_head.0.fc_cls', 81, 'mmdet', 'CocoDataset'),
        ('roi_head.bbox_head.0.fc_cls', 80, 'mmdet', 'CocoDataset'),
        ('bbox_head.cls_branches.0', 80, 'mmdet', 'CocoDataset'),
        ('panoptic_head.cls_embed', 134, 'mmdet', 'CocoPanopticDataset'),
        ('decode_head.conv_seg', 150, 'mmseg', 'ADE20KDataset'),
        ('decode_head.cls_embed', 151, 'mmseg', 'ADE20KDataset'),
        ('head.fc', 1000, 'mmpretrain', 'ImageNet'),
    ])
    def test_by_their_number(self, layer, rows, module, dataset, log):
        import importlib
        expected = getattr(importlib.import_module(f'{module}.datasets'), dataset).METAINFO['classes']
        found = public_classes({f'{layer}.weight': torch.empty(rows, 2)}, 'x.pth')
        assert found['classes'] == expected
        assert log[-1].startswith(f'x.pth does not name its {len(expected)} classes: they are taken for ')

    @pytest.mark.parametrize('tensors', [
        {}, {'bbox_head.cls_branches.0.weight': torch.empty(365, 2)}, {'head.fc.weight': torch.empty(21842, 2)},
        {'bbox_head.atss_cls.weight': torch.empty(81, 2, 3, 3)}, {'decode_head.conv_seg.weight': torch.empty(19, 2)},
        {'bbox_head.atss_cls.weight': torch.empty(80, 2, 3, 3), 'head.fc.weight': torch.empty(1000, 2)},
    ])
    def test_not_certain(self, tensors, log):
        assert public_classes(tensors, 'x.pth') == {}
        assert not log

    def test_as_many_of_other_names(self, log):
        """ImageNet from a folder has the names of its folders: the authors' classifiers keep their rows."""
        pytest.importorskip('mmpretrain')
        tensors, folders = {'head.fc.weight': torch.empty(1000, 2)}, [f'n{i:08}' for i in range(1000)]
        assert public_classes(tensors, 'x.pth', folders) == {}
        assert not log
        assert public_classes(tensors, 'x.pth', [*folders[:-1], 'Goldfish, Carassius auratus'])
        assert public_classes(tensors, 'x.pth', folders[:10])

    def test_a_training_that_names_none(self, trained, tmp_path):
        """It had its own classes, whatever their number."""
        state, path = trained
        torch.save(dict(state_dict=state, meta=dict(epoch=3)), path)
        runner = tiny_runner(tmp_path / tmp_path.name, load_from=path)
        start(runner)
        assert any('4 → 3 classes: 3 new, since the checkpoint does not name its classes, in head.fc' in line
                   for line in runner.told)
