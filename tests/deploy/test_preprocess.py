"""What the graph does with pictures is what the config's own pipeline and data preprocessor do with them."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from onnx import helper
from torch import nn

from focalnet_mm.deploy.preprocess import compare_with_pipeline, make_plan, prepend, preprocess_model
from focalnet_mm.releases import HAS_EXPORT
from focalnet_mm.run.images import ImagePipeline
from tests.deploy.test_inputs import with_preprocessor

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
PACK = dict(mmdet='PackDetInputs', mmseg='PackSegInputs', mmpretrain='PackInputs')
KEEP = dict(type='Resize', scale=(133, 80), keep_ratio=True)
EDGE = dict(type='ResizeEdge', scale=64, edge='short', backend='pillow', interpolation='bicubic')
# Height and width: wide, tall, odd, of one pixel, smaller and larger than the goal.
SIZES = (60, 90), (171, 33), (37, 131), (1, 7), (160, 267)


def config(scope, *steps, loader=None):
    pack = dict(type=PACK[scope])
    if scope != 'mmpretrain':
        pack['meta_keys'] = ('img_shape', 'ori_shape', *(['scale_factor'] if scope == 'mmdet' and steps else []))
    pipeline = [loader or dict(type='LoadImageFromFile'), *steps, pack]
    return Config(dict(default_scope=scope, test_dataloader=dict(dataset=dict(type='X', pipeline=pipeline))))


def session(model):
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])


def pictures(seed=0):
    random = np.random.default_rng(seed)
    for height, width in SIZES:
        yield random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_the_library(pipeline, model, rgb):
    """The prepared images of a library, and their shape before its data preprocessor pads them."""
    batch = pipeline(np.ascontiguousarray(rgb[..., ::-1])).batch
    inside = batch['inputs'][0].shape[1:]
    return model.data_preprocessor(batch, False)['inputs'].numpy(), inside


CASES = {
    'detector': ('mmdet', [KEEP], dict(**IMAGENET, bgr_to_rgb=True, pad_size_divisor=32)),
    'bgr': ('mmdet', [dict(KEEP, scale=(80, 133))], dict(mean=[103.53, 116.28, 123.675], std=[1.] * 3,
                                                         pad_size_divisor=16, pad_value=7)),
    'fixed size': ('mmdet', [dict(type='Resize', scale=(97, 64))], dict(bgr_to_rgb=True)),
    'factor': ('mmdet', [dict(type='Resize', scale_factor=0.7)], dict(**IMAGENET, bgr_to_rgb=True)),
    'limits by a factor': ('mmdet', [dict(type='Resize', scale_factor=0.7, keep_ratio=True)], dict(bgr_to_rgb=True)),
    'limits by two factors': ('mmdet', [dict(type='Resize', scale_factor=(1.3, 0.6), keep_ratio=True)],
                              dict(bgr_to_rgb=True)),
    'one limit': ('mmdet', [dict(KEEP, scale=(float('inf'), 40))], dict(bgr_to_rgb=True)),
    'square': ('mmdet', [KEEP, dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114, 114, 114)))],
               dict(**IMAGENET, bgr_to_rgb=True)),
    'multiples': ('mmdet', [KEEP, dict(type='Pad', size_divisor=32)], dict(**IMAGENET, bgr_to_rgb=True)),
    'flips of no picture': ('mmdet', [KEEP, dict(type='RandomFlip', prob=0.0),
                                      dict(type='RandomFlip', prob=[0.0, 0.0], direction=['horizontal', 'vertical'])],
                            dict(**IMAGENET, bgr_to_rgb=True)),
    'segmenter': ('mmseg', [dict(KEEP, scale=(256, 64))], dict(**IMAGENET, bgr_to_rgb=True, size=(64, 64), pad_val=0,
                                                               test_cfg=dict(size_divisor=32))),
    'segmenter of a size': ('mmseg', [dict(type='Resize', scale=(64, 64), keep_ratio=True)], dict(
        **IMAGENET, bgr_to_rgb=True, pad_val=3, test_cfg=dict(size=(80, 96)))),
    'classifier': ('mmpretrain', [EDGE, dict(type='CenterCrop', crop_size=56)], dict(**IMAGENET, to_rgb=True)),
    'long edge': ('mmpretrain', [dict(EDGE, edge='long', interpolation='bilinear'),
                                 dict(type='CenterCrop', crop_size=(48, 31))], dict(**IMAGENET, to_rgb=True)),
    'cv2': ('mmpretrain', [dict(type='ResizeEdge', scale=64), dict(type='CenterCrop', crop_size=57)],
            dict(**IMAGENET, to_rgb=False, pad_size_divisor=32, pad_value=0.5)),
    'Pillow to a size': ('mmpretrain', [dict(type='Resize', scale=(90, 60), backend='pillow')],
                         dict(**IMAGENET, to_rgb=True)),
    'bicubic to a size': ('mmpretrain', [dict(type='Resize', scale=(31, 60), backend='pillow',
                                              interpolation='bicubic')], dict(**IMAGENET, to_rgb=True)),
}

floats = pytest.mark.skipif(
    onnxruntime.__version__.startswith('1.23.'), reason='onnxruntime 1.23 fails on images of floats once it optimises')
FLOATS = [KEEP], [dict(KEEP, interpolation='bicubic'), dict(type='Pad', size_divisor=32)], [
    dict(type='Resize', scale_factor=0.5), dict(type='CenterCrop', crop_size=30)], []


def compare(model, cfg, tolerance):
    """The graph beside the library, on all pictures, with the images that the library made of them."""
    pipeline, ours = ImagePipeline(cfg), session(preprocess_model(make_plan(model, 3, cfg)))
    for rgb in pictures():
        expected, inside_shape = by_the_library(pipeline, model, rgb)
        found, inside, original = ours.run(['prepared', 'inside', 'original'], {'pictures': np.stack([rgb, rgb])})
        np.testing.assert_allclose(found, np.concatenate([expected] * 2), rtol=0, atol=tolerance)
        assert (inside.shape, original.shape) == (tuple(inside_shape), rgb.shape[:2])
        yield expected


@floats
@pytest.mark.parametrize('steps', FLOATS)
def test_floats_are_not_rounded(steps):
    """Behind ``to_float32``, as in mmdet's Mask2Former, OpenCV resizes in floating point."""
    model = with_preprocessor('mmdet', bgr_to_rgb=True, pad_size_divisor=32)
    images = list(compare(model, config('mmdet', *steps, loader=dict(type='LoadImageFromFile', to_float32=True)), 5e-3))
    assert not steps or any((image % 1 != 0).any() for image in images)


@pytest.mark.parametrize('case', CASES)
def test_as_the_library_prepares(case):
    scope, steps, settings = CASES[case]
    assert len(list(compare(with_preprocessor(scope, **settings), config(scope, *steps), 1e-6))) == len(SIZES)


@pytest.mark.parametrize('case', CASES)
def test_no_constant_is_idle(case):
    scope, steps, settings = CASES[case]
    graph = preprocess_model(make_plan(with_preprocessor(scope, **settings), 3, config(scope, *steps))).graph

    def taken(nodes):
        for node in nodes:
            yield from node.input
            for attribute in node.attribute:
                yield from taken(attribute.g.node)

    assert {value.name for value in graph.initializer} <= set(taken(graph.node))


@pytest.mark.parametrize('backend', ['pillow', 'pillow 13'])
@pytest.mark.parametrize('case', CASES)
def test_the_same_in_front_of_a_model(case, backend, tmp_path):
    """With what each release of Pillow computes, whichever is installed."""
    scope, steps, settings = CASES[case]
    plan = make_plan(with_preprocessor(scope, **settings), 3, config(scope, *steps))
    for step in plan['steps']:
        if step.get('backend', '').startswith('pillow'):
            step['backend'] = backend
    images, same = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ['N', 3, 'H', 'W'])
                    for name in ('images', 'same'))
    graph = helper.make_graph([helper.make_node('Identity', ['images'], ['same'])], 'model', [images], [same])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10), tmp_path / 'x.onnx')
    prepend(tmp_path / 'x.onnx', plan)
    onnx.checker.check_model(tmp_path / 'x.onnx', full_check=True)
    joined, alone = session(onnx.load(tmp_path / 'x.onnx')), session(preprocess_model(plan))
    for rgb in pictures():
        found, = joined.run(None, {'images': rgb[None]})
        np.testing.assert_array_equal(found, alone.run(['prepared'], {'pictures': rgb[None]})[0])


@pytest.mark.parametrize(('step', 'size'), [
    (dict(EDGE, edge='long'), (130, 1)), (dict(EDGE, edge='long', backend='cv2', interpolation='bilinear'), (1, 120)),
    (dict(type='Resize', scale=64, keep_ratio=True), (200, 1))])
def test_a_picture_of_which_no_pixel_is_left(step, size):
    """The library fails, and so does the graph."""
    model = with_preprocessor('mmpretrain', **IMAGENET, to_rgb=True)
    cfg = config('mmpretrain', step, dict(type='Pad', size=(100, 100)))
    picture = np.zeros((*size, 3), np.uint8)
    with pytest.raises(Exception, match=r'.'):
        by_the_library(ImagePipeline(cfg), model, picture)
    ours = session(preprocess_model(make_plan(model, 3, cfg)))
    with pytest.raises(Exception, match='out of data bounds'):
        ours.run(['prepared'], {'pictures': picture[None]})


def test_bicubic_of_opencv_is_off_by_one_grey_level_at_most():
    """Its vectorised code rounds in an order of its own."""
    model = with_preprocessor('mmdet', bgr_to_rgb=True)
    cfg = config('mmdet', dict(KEEP, interpolation='bicubic'))
    pipeline, ours = ImagePipeline(cfg), session(preprocess_model(make_plan(model, 3, cfg)))
    for rgb in pictures():
        expected, _ = by_the_library(pipeline, model, rgb)
        difference = np.abs(ours.run(['prepared'], {'pictures': rgb[None]})[0] - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.06


@pytest.mark.skipif(not HAS_EXPORT, reason='PyTorch 2.7 and later write ONNX by dynamo')
def test_joined_to_a_model(tmp_path):
    """The model's own inputs, outputs and facts stay; the carriers have the sizes."""
    class Net(nn.Module):
        def forward(self, images, original):
            return torch.nn.functional.interpolate(images.mean(1, keepdim=True), original.shape),

    model = with_preprocessor('mmdet', **IMAGENET, bgr_to_rgb=True, pad_size_divisor=32)
    program = torch.onnx.export(
        Net().eval(), (torch.rand(2, 3, 40, 48), torch.zeros(30, 36, dtype=torch.uint8)), dynamo=True, verbose=False,
        input_names=['images', 'original'], output_names=['grey'],
        dynamic_shapes=({0: 'N', 2: 'H', 3: 'W'}, {0: 'height', 1: 'width'}))
    program.model.metadata_props['classes'] = '[]'
    program.save(str(tmp_path / 'x.onnx'))
    cfg = config('mmdet', KEEP)
    prepend(tmp_path / 'x.onnx', make_plan(model, 3, cfg))
    joined = session(onnx.load(tmp_path / 'x.onnx'))
    assert [(value.name, value.type, value.shape) for value in joined.get_inputs()] == [
        ('images', 'tensor(uint8)', ['N', 'H', 'W', 3])]
    assert joined.get_modelmeta().custom_metadata_map == {'classes': '[]'}
    pipeline = ImagePipeline(cfg)
    for rgb in pictures():
        images = torch.from_numpy(by_the_library(pipeline, model, rgb)[0])
        expected, = Net()(images, torch.empty(rgb.shape[:2]))
        np.testing.assert_allclose(joined.run(['grey'], {'images': rgb[None]})[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('steps', 'words'), [
    ([dict(type='AutoContrast')], 'the step AutoContrast'),
    ([dict(type='RandomFlip', prob=0.5)], 'the step RandomFlip'),
    ([dict(type='RandomFlip', prob=[0.0, 0.1])], 'the step RandomFlip'),
    ([dict(type='Resize', scale=(64, 64), interpolation='lanczos')],
     'the interpolation lanczos of cv2 in the step Resize of the config does; it knows bilinear of cv2'),
    ([dict(type='CenterCrop', crop_size=8, auto_pad=True)], 'auto_pad=True of the step CenterCrop'),
    ([dict(type='Pad', size=(64, 64), pad_val=dict(img=(1, 2, 3)))], r'pad_val=\(1, 2, 3\) of the step Pad'),
    ([dict(type='Pad', size=(64, 64), pad_val=dict(img=114.0))], r'pad_val=114\.0 of the step Pad'),
    ([dict(type='Resize', scale=(64, 64), scale_by='x')], 'scale_by of the step Resize')])
def test_what_the_graph_cannot_do_is_said(steps, words):
    model = with_preprocessor('mmdet', bgr_to_rgb=True)
    with pytest.raises(ValueError, match=f'{words}.*--no-preprocess'):
        make_plan(model, 3, config('mmdet', *steps))


@pytest.mark.parametrize(('loader', 'words'), [
    (dict(type='LoadImageFromFile', color_type='unchanged'), "color_type='unchanged'"),
    (dict(type='LoadImageFromFile', imdecode_backend='pillow'), "imdecode_backend='pillow'"),
    (dict(type='LoadMyFile'), 'the loading step LoadMyFile')])
def test_loaders_of_another_kind_are_said(loader, words):
    model = with_preprocessor('mmdet', bgr_to_rgb=True)
    with pytest.raises(ValueError, match=words):
        make_plan(model, 3, config('mmdet', loader=loader))


def test_floats_and_pillow_are_said():
    model = with_preprocessor('mmpretrain', to_rgb=True)
    with pytest.raises(ValueError, match='resizing with pillow behind to_float32=True'):
        make_plan(model, 3, config('mmpretrain', EDGE, loader=dict(type='LoadImageFromFile', to_float32=True)))


def test_preprocessors_of_anybodys_are_said():
    model = nn.Module()
    model.data_preprocessor = nn.Identity()
    with pytest.raises(ValueError, match='the data_preprocessor Identity'):
        make_plan(model, 3, config('mmdet'))
    with pytest.raises(ValueError, match='takes 4 channels'):
        make_plan(model, 4, config('mmdet'))


def test_a_plan_that_differs_is_not_written():
    model = with_preprocessor('mmdet', **IMAGENET, bgr_to_rgb=True, pad_size_divisor=32)
    cfg = config('mmdet', KEEP)
    plan = make_plan(model, 3, cfg)
    assert compare_with_pipeline(plan, model, cfg) < 1e-4
    plan['prepare']['mean'][1] += 2
    with pytest.raises(ValueError, match=r'by up to 2\.0 grey levels'):
        compare_with_pipeline(plan, model, cfg)
    plan['steps'][0]['size'] = [133, 100]
    with pytest.raises(ValueError, match='640 × 480 pixels becomes'):
        compare_with_pipeline(plan, model, cfg)


@pytest.mark.parametrize('factor', [0.25, 0.7, 0.8])
def test_a_ratio_that_is_not_kept_is_seen(factor):
    model = with_preprocessor('mmdet', bgr_to_rgb=True)
    cfg = config('mmdet', dict(type='Resize', scale_factor=factor, keep_ratio=True))
    plan = make_plan(model, 3, cfg)
    assert compare_with_pipeline(plan, model, cfg, boxes=True) == 0
    plan['steps'][0]['keep_ratio'] = False
    with pytest.raises(ValueError, match=r"in the graph and .* in the config's pipeline"):
        compare_with_pipeline(plan, model, cfg)


@floats
@pytest.mark.parametrize(('steps', 'refused'), [
    ([KEEP], False), ([dict(type='Resize', scale_factor=0.7)], False),
    ([KEEP, dict(type='Pad', size_divisor=32)], False), ([KEEP, dict(type='Pad', pad_to_square=True)], False),
    ([KEEP, KEEP | dict(scale=(60, 60))], True), ([dict(type='Pad', size=(500, 500)), KEEP], True),
    ([dict(type='CenterCrop', crop_size=700), KEEP], True)])
def test_boxes_come_back_as_mmdet_brings_them(steps, refused):
    """mmdet divides by the factors of its last Resize, the graph by the sizes of what was resized and of the picture.
    """
    model = with_preprocessor('mmdet', bgr_to_rgb=True, pad_size_divisor=32)
    cfg = config('mmdet', *steps)
    plan = make_plan(model, 3, cfg)
    assert compare_with_pipeline(plan, model, cfg) == 0
    if not refused:
        assert compare_with_pipeline(plan, model, cfg, boxes=True) == 0
        return
    with pytest.raises(ValueError, match=r'of \d+ × \d+, and brings boxes back by the factors .* one step alone'):
        compare_with_pipeline(plan, model, cfg, boxes=True)
