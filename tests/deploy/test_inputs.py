"""What the last line of an export says of images is what the library's own data preprocessor does with them."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn

from focalnet_mm.deploy.inputs import describe_inputs

KINDS = dict(mmdet='DetDataPreprocessor', mmseg='SegDataPreProcessor', mmpretrain='ClsDataPreprocessor')


def with_preprocessor(scope, **settings):
    __import__(f'{scope}.models')
    init_default_scope(scope)
    model = nn.Module()
    model.data_preprocessor = MODELS.build(dict(type=KINDS[scope], **settings))
    return model


def config(*steps, loader=None):
    pipeline = [loader or dict(type='LoadImageFromFile'), *steps, dict(type='PackInputs')]
    return Config(dict(test_dataloader=dict(dataset=dict(type='X', pipeline=pipeline))))


def follow(facts, image):
    """What somebody does who reads the facts: an image (C, H, W) in the order in which OpenMMLab loads it."""
    if facts['order'] in ('RGB', 'as loaded, reversed'):
        image = image.flip(0)
    mean, std = (torch.tensor(facts[name], dtype=torch.float64)[:, None, None] for name in ('mean', 'std'))
    return (image.double() - mean) / std


@pytest.mark.parametrize('scope', KINDS)
@pytest.mark.parametrize(('channels', 'settings'), [
    (3, dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], rgb=True)),
    (3, dict(mean=[103.53, 116.28, 123.675], std=[1., 1., 1.], rgb=False)),
    (3, dict(rgb=True)),
    (1, dict(mean=[30000.], std=[9000.5], rgb=False)),
    (4, dict(mean=[0.5, 10, 200, 3], std=[2, 4, 8, 0.25], rgb=False)),
    (4, dict(mean=[127.5], std=[127.5], rgb=False)),
    (6, dict(mean=[1, 2, 3, 4, 5, 6], std=[6, 5, 4, 3, 2, 1], rgb=True)),
])
def test_as_the_library_does(scope, channels, settings):
    settings = dict(settings)
    reverse = settings.pop('rgb')
    settings['to_rgb' if scope == 'mmpretrain' else 'bgr_to_rgb'] = reverse
    if scope == 'mmdet' and channels not in (1, 3) and (reverse or len(settings['mean']) > 1):
        pytest.skip('mmdet normalises 1 or 3 channels')
    if scope == 'mmseg' and len(settings.get('mean', [0])) not in (1, 3):
        from mmseg.models import SegDataPreProcessor
        if issubclass(SegDataPreProcessor, ImgDataPreprocessor):
            pytest.skip("the forks' mmseg normalises 1 or 3 channels")
    model = with_preprocessor(scope, **settings)
    text, facts = describe_inputs(model, channels, config())
    image = torch.randint(256, (channels, 20, 24), dtype=torch.uint8)
    expected = model.data_preprocessor(dict(inputs=[image], data_samples=[BaseDataElement()]), False)['inputs'][0]
    torch.testing.assert_close(follow(facts, image), expected.double(), rtol=1e-4, atol=1e-4)
    assert f'(N, {channels}, H, W)' in text
    if channels == 3:
        assert facts['order'] == ('RGB' if reverse else 'BGR')
    written = settings.get('mean') or [0.]
    assert facts['mean'] == written * (channels // len(written))


def test_not_normalised():
    text, facts = describe_inputs(with_preprocessor('mmpretrain', to_rgb=True), 3, config())
    assert 'channels RGB, as they are, not normalised' in text
    assert (facts['mean'], facts['std']) == ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize(('scope', 'settings'), [
    ('mmdet', dict(pad_size_divisor=32)), ('mmpretrain', dict(pad_size_divisor=32, pad_value=7)),
    ('mmseg', dict(test_cfg=dict(size_divisor=32)))])
def test_padding(scope, settings):
    text, _ = describe_inputs(with_preprocessor(scope, **settings), 3, config())
    value = 7.0 if scope == 'mmpretrain' else 0.0
    assert f'padded with {value} below and on the right to multiples of 32 pixels' in text


def test_the_order_is_told_only_where_it_is_known():
    model = with_preprocessor('mmdet', bgr_to_rgb=True)
    for cfg in (None, config(loader=dict(type='LoadMyTiff')), config(dict(type='Normalize', to_rgb=True)),
                config(loader=dict(type='LoadImageFromFile', imdecode_backend='tifffile'))):
        assert describe_inputs(model, 3, cfg)[1]['order'] == 'as loaded, reversed'
    assert describe_inputs(with_preprocessor('mmdet'), 3, None)[1]['order'] == 'as loaded'


def test_steps_before_are_named():
    from mmdet.datasets.transforms import Resize
    text, facts = describe_inputs(with_preprocessor('mmdet'), 3, config(
        dict(type=Resize, scale=(1333, 800), keep_ratio=True), dict(type='mmdet.Pad', size_divisor=32),
        loader=dict(type='LoadImageFromFile', backend_args=dict(access_key='k3y'))))
    assert facts['pipeline'] == ['Resize(scale=(1333, 800), keep_ratio=True)', 'Pad(size_divisor=32)']
    assert text.endswith('; the test pipeline of the config comes first: ' + ', '.join(facts['pipeline']))
    assert 'k3y' not in str(facts)


def test_a_preprocessor_of_anybodys():
    class Squares(nn.Module):
        def forward(self, data, training=False):
            return dict(inputs=torch.stack(data['inputs']).float() ** 2 + torch.rand(()))

    class Fails(nn.Module):
        def forward(self, data, training=False):
            raise RuntimeError('no')

    for kind in (Squares, Fails):
        model = nn.Module()
        model.data_preprocessor = kind()
        text, facts = describe_inputs(model, 3, None)
        assert re.search(f'as {kind.__name__} of the config prepares them$', text)
        assert facts['mean'] == []
