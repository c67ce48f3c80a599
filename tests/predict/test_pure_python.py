"""Configs in mmengine's newer style, with classes in place of names, beside the same in the older style."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from focalnet_mm.cli import run as command
from focalnet_mm.predict import Predictor
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config, scope_of, type_name
from tests.predict.test_as_tested import assert_same

pytestmark = pytest.mark.slow

BACKBONE = "backbone = dict(type={FocalNet}, arch='tiny-srf', embed_dims=8, depths=(1, 1, 1, 1), {indices})\n"
DATA = '''
test_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type={DefaultSampler}, shuffle=False),
                       dataset=dict(type={BaseDataset}, test_mode=True, pipeline=pipeline))
test_cfg = dict(type={TestLoop})
'''
MODELS = dict(
    mmdet='''
model = dict(
    type={FCOS}, backbone=backbone,
    data_preprocessor=dict(type={DetDataPreprocessor}, mean=[100.0] * 3, std=[50.0] * 3, pad_size_divisor=32),
    neck=dict(type={FPN}, in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5),
    bbox_head=dict(type={FCOSHead}, num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
                   norm_cfg=dict(type={GroupNorm}, num_groups=4)),
    test_cfg=dict(nms_pre=100, score_thr=0.0, nms=dict(type={nms}, iou_threshold=0.6), max_per_img=20))
pipeline = [dict(type={LoadImageFromFile}, color_type='color'), dict(type={Resize}, scale=(96, 64), keep_ratio=True),
            dict(type={LoadAnnotations}, with_bbox=True), dict(type={PackDetInputs})]
''',
    mmseg='''
model = dict(
    type={EncoderDecoder}, backbone=backbone,
    data_preprocessor=dict(type={SegDataPreProcessor}, mean=[100.0] * 3, std=[50.0] * 3, test_cfg=dict(size=(64, 64))),
    decode_head=dict(type={FCNHead}, in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=3,
                     norm_cfg=dict(type={BatchNorm2d})),
    test_cfg=dict(mode='whole'))
pipeline = [dict(type={LoadImageFromFile}), dict(type={Resize}, scale=(64, 64)), dict(type={LoadAnnotations}),
            dict(type={PackSegInputs})]
''',
    mmpretrain='''
model = dict(type={ImageClassifier}, backbone=backbone, neck=dict(type={GlobalAveragePooling}),
             head=dict(type={LinearClsHead}, num_classes=6, in_channels=64))
data_preprocessor = dict(type={ClsDataPreprocessor}, num_classes=6, mean=[100.0] * 3, std=[50.0] * 3, to_rgb=True)
pipeline = [dict(type={LoadImageFromFile}), dict(type={Resize}, scale=(64, 64)), dict(type={PackInputs})]
''')
# Library → module → what the config takes of it.
IMPORTS = dict(
    mmdet={'mmdet.models': 'FCOS DetDataPreprocessor FPN FCOSHead', 'mmdet.datasets.transforms':
           'LoadAnnotations PackDetInputs Resize', 'torch.nn': 'GroupNorm', 'mmcv.ops': 'nms'},
    mmseg={'mmseg.models': 'EncoderDecoder SegDataPreProcessor FCNHead', 'mmseg.datasets.transforms':
           'LoadAnnotations PackSegInputs', 'mmcv.transforms': 'Resize', 'torch.nn': 'BatchNorm2d'},
    mmpretrain={'mmpretrain.models': 'ImageClassifier GlobalAveragePooling LinearClsHead ClsDataPreprocessor',
                'mmpretrain.datasets': 'PackInputs', 'mmcv.transforms': 'Resize'})
SHARED = {'focalnet_mm': 'FocalNet', 'mmcv.transforms.loading': 'LoadImageFromFile', 'mmengine.dataset':
          'DefaultSampler BaseDataset', 'mmengine.runner': 'TestLoop'}
OLD_NAMES = dict(GroupNorm='GN', BatchNorm2d='BN')
TRAINED = {'mmdet': dict(classes=('a', 'b', 'c')), 'mmseg': dict(classes=('a', 'b', 'c')), 'mmpretrain': {}}


def write(folder, scope, style):
    """The config in the older style, with its scope, or in the newer one without."""
    text = BACKBONE + MODELS[scope] + DATA
    names = {name: module for module, all_names in {**IMPORTS[scope], **SHARED}.items() for name in all_names.split()}
    for name in names:
        text = text.replace(f'{{{name}}}', repr(OLD_NAMES.get(name, name)) if style == 'old' else name)
    text = text.replace('{indices}', 'out_indices=(3, )' if scope == 'mmpretrain' else 'out_indices=(0, 1, 2, 3)')
    head = f'default_scope = {scope!r}\n'
    if style != 'old':
        head = ''.join(f'from {module} import {name}\n' for name, module in names.items())
        head += {'no scope': '', 'scope None': 'default_scope = None\n'}[style]
    path = folder / f'{scope}_{style.replace(" ", "_")}.py'
    path.write_text(head + text)
    return path


@pytest.fixture
def picture(tmp_path):
    image = np.random.default_rng(0).integers(256, size=(5, 6, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'x.png'), cv2.resize(image, (90, 60)))
    return tmp_path / 'x.png'


@pytest.mark.parametrize('style', ['no scope', 'scope None'])
@pytest.mark.parametrize('scope', IMPORTS)
def test_predictions_are_those_of_the_model(scope, style, picture, tmp_path, save_weights):
    old, new = (load_config(str(write(tmp_path, scope, which))) for which in ('old', style))
    assert isinstance(dict.get(new.model.backbone, 'type'), type) or type_name(new.model.backbone) == 'FocalNet'
    assert scope_of(new) == scope_of(old) == scope
    checkpoint = save_weights(old, tmp_path / 'x.pth', dataset_meta=TRAINED[scope])
    predictor = Predictor(new, checkpoint, 'cpu')
    sample = predictor.predict(picture)
    assert predictor.draw(cv2.imread(str(picture)), sample).shape == (60, 90, 3)
    entries = predictor.entries(sample, 1)
    # What the older style gives goes through the library's own calls here.
    expected = _expected(scope, old, checkpoint, picture)
    assert_same(entries, expected, scope) if scope != 'mmdet' else np.testing.assert_allclose(
        [entry['score'] for entry in entries], expected['pred_instances'].scores, rtol=1e-5)
    assert len(entries) > 1


def _expected(scope, cfg, checkpoint, picture):
    model = load_model(cfg, checkpoint)
    model.cfg = model._config = cfg
    if scope == 'mmdet':
        from mmdet.apis import inference_detector
        return dict(pred_instances=inference_detector(model, str(picture)).pred_instances)
    if scope == 'mmseg':
        from mmseg.apis import inference_model
        cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
        return dict(pred_sem_seg=dict(data=inference_model(model, str(picture)).pred_sem_seg.data))
    from mmpretrain.apis import ImageClassificationInferencer
    found = ImageClassificationInferencer(model, pretrained=False, device='cpu')(str(picture))[0]
    return dict(pred_score=torch.tensor(found['pred_scores']))


@pytest.mark.parametrize('scope', IMPORTS)
def test_commands(scope, picture, tmp_path, save_weights):
    path = write(tmp_path, scope, 'no scope')
    checkpoint = save_weights(load_config(str(path)), tmp_path / 'x.pth')
    command('predict', [str(path), checkpoint, str(picture), '--out', str(tmp_path / 'out'), '--device', 'cpu'])
    assert (tmp_path / 'out' / 'pictures' / 'x.png').is_file()
    command('explain', [str(path), str(picture), '--checkpoint', checkpoint, '--out', str(tmp_path / 'maps'),
                        '--device', 'cpu', '--stage', '3'])
    assert (tmp_path / 'maps' / 'figures' / 'x.png.png').is_file()


class TestScope:

    @pytest.mark.parametrize(('model', 'scope', 'expected'), [
        ("dict(type='MaskRCNN')", "'mmdet'", 'mmdet'), ("dict(type='mmdet.MaskRCNN')", "'mmseg'", 'mmdet'),
        ("dict(type='mmdet.models.detectors.MaskRCNN')", 'None', 'mmdet'),
        ("dict(type='Nobody')", "'mmengine'", 'mmengine'), ("dict(type='Nobody')", "'mmpose'", 'mmpose')])
    def test_names(self, model, scope, expected):
        assert scope_of(Config.fromstring(f'model = {model}\ndefault_scope = {scope}', '.py')) == expected

    def test_own_class(self):
        from mmdet.models import MaskRCNN
        from mmengine.registry import MODELS

        @MODELS.register_module(name='OwnMaskRCNN', force=True)
        class OwnMaskRCNN(MaskRCNN):
            pass

        assert scope_of(Config(dict(model=dict(type=OwnMaskRCNN)))) == 'mmdet'
        assert scope_of(Config(dict(model=dict(type='OwnMaskRCNN'), default_scope='mmengine'))) == 'mmdet'
