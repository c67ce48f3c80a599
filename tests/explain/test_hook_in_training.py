"""FocalMapsHook changes nothing of a training, and never ends one."""

import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS

import focalnet_mm.explain.hook as hook_module
from focalnet_mm.explain import FocalMapsHook, focal_maps
from tests.helpers import two_processes
from tests.helpers.forked import two_ranks
from tests.helpers.training import THIN, tiny_runner


def state(runner):
    """Weights, random states and modes after a training."""
    return dict(weights={name: tensor.clone() for name, tensor in runner.model.state_dict().items()},
                torch=torch.get_rng_state(), numpy=np.random.get_state()[1].tolist(), python=random.getstate(),
                modes=[module.training for module in runner.model.modules()], steps=runner.iter,
                grads=[p.requires_grad for p in runner.model.parameters()],
                hooks=[len(module._forward_hooks) for module in runner.model.modules()])


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected['weights'].items():
        assert torch.equal(found['weights'][name], tensor), name
    assert torch.equal(found['torch'], expected['torch'])
    for key in expected.keys() - {'weights', 'torch'}:
        assert found[key] == expected[key], key


@pytest.mark.train
def test_a_training_is_the_same_whatever_happens(tmp_path):
    plain = tiny_runner(tmp_path / 'plain')
    plain.train()
    expected = state(plain)
    assert expected['steps'] == 6
    for name, hook, settings, warnings in (
            ('shown', {}, {}, 0),
            ('failing', {}, dict(failing=True), 1),
            ('stage', dict(stage=7), {}, 1),
            ('backbone', dict(backbone='teacher'), {}, 1)):
        runner = tiny_runner(tmp_path / name, dict(type='FocalMapsHook', **hook), **settings)
        runner.train()
        same(state(runner), expected)
        told = [line for line in runner.told if 'FocalMapsHook' in line]
        assert len(told) == warnings, told
        assert len(runner.pictures) == (0 if warnings else 2 * 4)
        if name == 'failing':
            assert told == ['FocalMapsHook could not show an image, and the training goes on without: ConnectionError: '
                            'the server that takes focal_maps_picture 0 is gone']
        elif name == 'stage':
            assert 'There is no stage 7: the backbone has 4, 0 to 3.' in told[0]
        elif not warnings:
            # Two pictures of one name, in two folders, are two pictures.
            assert [picture[:2] for picture in runner.pictures[:4]] == [
                (f'focal_maps_picture {number}', 3) for number in ('0', '0_2', '1', '1_2')]
            assert len({picture[2].tobytes() for picture in runner.pictures}) == 8


@pytest.mark.train
def test_a_model_without_focalnet(tmp_path):
    @MODELS.register_module(force=True)
    class Other(BaseModel):
        def __init__(self):
            super().__init__(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'))
            self.layer = torch.nn.Conv2d(3, 1, 1)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            if mode == 'loss':
                return dict(loss=self.layer(inputs).mean())
            return [sample.set_pred_score(torch.rand(3)) for sample in data_samples]

    runner = tiny_runner(tmp_path, dict(type='FocalMapsHook'), model=dict(type='Other'))
    runner.train()
    assert runner.iter == 6
    assert [line for line in runner.told if 'FocalMapsHook' in line] == [
        'FocalMapsHook could not show an image, and the training goes on without: ValueError: One FocalNet was '
        'expected in the model, but the Other has none.']


@pytest.mark.train
@pytest.mark.parametrize(('data', 'note'), [
    (dict(), ''), (dict(names=False), ''), (dict(channels=1), ''), (dict(channels=2), 'channel 1 of 2'),
    (dict(channels=4), 'channels 1 to 3 of 4'), (dict(channels=6), 'channels 1 to 3 of 6'),
    (dict(dtype=torch.int32, greatest=4095), 'each image scaled from its own range'),
    (dict(dtype=torch.float32, greatest=60000, channels=5),
     'channels 1 to 3 of 5, each image scaled from its own range')])
def test_pictures_of_any_kind(data, note, tmp_path, monkeypatch):
    titles = []
    plot = hook_module.plot_focal_maps
    monkeypatch.setattr(hook_module, 'plot_focal_maps', lambda image, maps, title: titles.append(title) or plot(
        image, maps, title=title))
    runner = tiny_runner(tmp_path, dict(type='FocalMapsHook'), dict(THIN, in_channels=data.get('channels', 3)), data,
                         epochs=1)
    runner.train()
    assert len(runner.pictures) == 4
    assert not [line for line in runner.told if 'FocalMapsHook' in line]
    for title in titles:
        assert (note in title) if note else '(' not in title
    assert titles[0].startswith('picture 0' if data.get('names', True) else '0_0')


class TestChannelOrder:
    """The picture of the figure has the channels that the model sees as red, green and blue."""

    def shown(self, preprocessor, cfg, monkeypatch):
        model = MODELS.build(dict(
            type='mmpretrain.ImageClassifier', backbone=THIN, data_preprocessor=preprocessor))
        images = []
        monkeypatch.setattr(hook_module, 'plot_focal_maps', lambda image, maps, title: images.append(image))
        monkeypatch.setattr(hook_module, 'pixels', lambda figure: figure)
        visualizer = SimpleNamespace(add_image=lambda *_: None)
        runner = SimpleNamespace(model=model, iter=0, visualizer=visualizer, cfg=dict(
            cfg, model=dict(data_preprocessor=preprocessor)))
        hook = FocalMapsHook(num_images=1)
        hook.before_val_epoch(runner)
        from mmpretrain.structures import DataSample
        batch = dict(inputs=[torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1).expand(3, 32, 32).contiguous()],
                     data_samples=[DataSample()])
        hook.after_val_iter(runner, 0, batch)
        seen = model.data_preprocessor(copy.deepcopy(batch), False)['inputs'][0, :, 0, 0].tolist()
        return images[0][0, 0].tolist(), [int(value) for value in seen]

    @pytest.mark.parametrize('conversion', ['bgr_to_rgb', 'rgb_to_bgr'])
    def test_of_the_data_preprocessor(self, conversion, monkeypatch):
        import mmdet.models  # noqa: F401
        preprocessor = dict(type='mmdet.DetDataPreprocessor', **{conversion: True})
        drawn, seen = self.shown(preprocessor, {}, monkeypatch)
        # A model that gets RGB sees what is drawn, one that gets BGR the reverse of it.
        assert drawn == (seen if conversion == 'bgr_to_rgb' else seen[::-1])

    @pytest.mark.parametrize(('pipeline', 'expected'), [
        ([dict(type='LoadImageFromFile')], [2, 1, 0]),
        ([dict(type='LoadImageFromFile'), dict(type='NumpyToPIL', to_rgb=True), dict(type='Resize')], [0, 1, 2]),
        ([dict(type='NumpyToPIL', to_rgb=True), dict(type='PILToNumpy', to_bgr=True)], [2, 1, 0])])
    def test_of_the_pipeline(self, pipeline, expected, monkeypatch):
        cfg = dict(val_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(pipeline=pipeline))))
        assert self.shown(dict(type='mmpretrain.ClsDataPreprocessor'), cfg, monkeypatch)[0] == expected


class TestSemiSupervised:

    @pytest.fixture(scope='class')
    def model(self, thin_config):
        cfg = thin_config('mmdet/maskrcnn_focalnet_t_1x.py')
        cfg.model.backbone.depths = (1, 1, 1, 1)
        from mmengine.registry import init_default_scope
        init_default_scope('mmdet')
        preprocessor = cfg.model.data_preprocessor
        model = MODELS.build(dict(
            type='SoftTeacher', detector=cfg.model, semi_train_cfg=dict(freeze_teacher=True), semi_test_cfg={},
            data_preprocessor=dict(type='MultiBranchDataPreprocessor', data_preprocessor=preprocessor)))
        model.init_weights()
        return model.eval()

    @pytest.mark.parametrize(('settings', 'backbone', 'expected'), [
        ({}, None, 'teacher'), (dict(predict_on='teacher'), None, 'teacher'),
        (dict(predict_on='student'), None, 'student'),
        ({}, 'student.backbone', 'student'), ({}, 'student', 'student'), (None, None, 'student')])
    @pytest.mark.parametrize('wrapped', [False, True])
    def test_the_one_that_predicts(self, settings, backbone, expected, wrapped, model, batch, thin_config, monkeypatch,
                                   log):
        data = batch(thin_config('mmdet/maskrcnn_focalnet_t_1x.py'))
        model.semi_test_cfg = settings
        shown = []
        monkeypatch.setattr(hook_module, 'plot_focal_maps', lambda image, maps, title: shown.append(maps))
        monkeypatch.setattr(hook_module, 'pixels', lambda figure: figure)
        runner = SimpleNamespace(model=torch.nn.DataParallel(model) if wrapped else model, iter=0,
                                 visualizer=SimpleNamespace(add_image=lambda *_: None))
        hook = FocalMapsHook(num_images=1, backbone=backbone)
        for _ in range(2):
            hook.before_val_epoch(runner)
            hook.after_val_iter(runner, 0, data)
        maps = {side: focal_maps(getattr(model, side), copy.deepcopy({key: values[:1] for key, values in data.items()}),
                                 -2, -1) for side in ('student', 'teacher')}
        assert not torch.equal(maps['student'][2, 0].gates, maps['teacher'][2, 0].gates)
        assert len(shown) == 2
        for found in shown:
            assert torch.equal(found[2, 0].gates, maps[expected][2, 0].gates)
        told = [line for line in log if 'FocalMapsHook' in line]
        assert told == ([] if backbone else [
            f'FocalMapsHook shows the maps of {expected}.backbone. The model has 2 FocalNets, student.backbone, '
            "teacher.backbone: choose another one with backbone='NAME'."])


@pytest.mark.slow
@pytest.mark.parametrize('way', ['ddp', 'fsdp1', 'fsdp2'])
def test_two_processes(way, tmp_path):
    """Ranks with different numbers of images; 0 draws, and nobody waits for it."""
    (drew, first), (none, second) = two_ranks(lambda rank: two_processes.main(way, tmp_path, rank), tmp_path)
    out = first + second
    assert (drew, none) == (0, 0), out
    assert 'rank 0 drew 3 pictures, with the maps of the model' in first
    assert 'rank 1 drew 0 pictures' in second
    assert 'could not' not in out
