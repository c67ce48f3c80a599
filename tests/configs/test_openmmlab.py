"""The backbone in each library, from configs of ten lines, as a user would write them."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from tests.helpers.tools import ROOT

# The config that the README shows, without its checkpoint. RetinaNet's neck starts at the second stage: the first is
# not asked for, so that no parameter goes unused, which distributed training would refuse.
SHOWN = re.search(r"^_base_ = 'mmdet::retinanet.*?(?=^```)", (ROOT / 'README.md').read_text(), re.S | re.M)[0]
RETINANET = SHOWN.replace(",\n        init_cfg=dict(type='Pretrained', checkpoint='focalnet_tiny_lrf.pth')", '')
UPERNET = '''
_base_ = 'mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py'
custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(_delete_=True, type='FocalNet', arch='tiny-srf'),
    decode_head=dict(in_channels=[96, 192, 384, 768], channels=32, norm_cfg=dict(type='BN')),
    auxiliary_head=dict(in_channels=384, channels=16, norm_cfg=dict(type='BN')))
'''
CLASSIFIER = '''
_base_ = ['mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='FocalNet', arch='tiny-lrf', out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=768, loss=dict(type='CrossEntropyLoss')))
'''


def det_batch():
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64),
                                         scale_factor=(1.0, 1.0), batch_input_shape=(64, 64)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[8., 8., 40., 48.]]), labels=torch.tensor([3]))
    return dict(inputs=[torch.randint(256, (3, 64, 64), dtype=torch.uint8)], data_samples=[sample])


def seg_batch():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=torch.randint(150, (1, 64, 64)))
        samples.append(sample)
    return dict(inputs=[torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in samples], data_samples=samples)


def cls_batch():
    from mmpretrain.structures import DataSample
    return dict(inputs=torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8).float(),
                data_samples=[DataSample().set_gt_label(i) for i in (1, 2)])


@pytest.mark.parametrize(('scope', 'text', 'batch'), [
    ('mmdet', RETINANET, det_batch), ('mmseg', UPERNET, seg_batch), ('mmpretrain', CLASSIFIER, cls_batch)])
def test_one_step(tmp_path, scope, text, batch):
    (tmp_path / 'config.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.default_scope == scope
    init_default_scope(scope)
    registry = __import__(f'{scope}.registry').registry.MODELS
    # The narrowest of the trained widths is kept; fewer blocks are enough to train one step.
    cfg.model.backbone.depths = (1, 1, 1, 1)
    torch.manual_seed(0)
    model = registry.build(cfg.model)
    model.init_weights()
    wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)))
    before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    losses = model.train().train_step(batch(), wrapper)
    assert torch.isfinite(losses['loss'])
    assert [name for name, p in model.backbone.named_parameters() if torch.equal(p, before[name])] == []


def test_the_readme_shows_a_checkpoint_beside_it():
    assert RETINANET != SHOWN


def test_a_library_with_a_focalnet_of_its_own(monkeypatch):
    """mmdet's project XDecoder registers a FocalNet in mmdet's registry: ours is still to be had by its full name."""
    from mmdet.registry import MODELS

    from focalnet_mm import FocalNet
    init_default_scope('mmdet')

    class Other(torch.nn.Module):
        pass

    monkeypatch.setitem(MODELS._module_dict, 'FocalNet', Other)
    assert isinstance(MODELS.build(dict(type='FocalNet')), Other)
    assert isinstance(MODELS.build(dict(type='mmengine.FocalNet', depths=(1, 1, 1, 1), embed_dims=8)), FocalNet)


def test_pretrained_through_a_detector(tmp_path):
    """init_cfg of a backbone in a whole detector: what the runner calls before training."""
    from mmdet.registry import MODELS

    from focalnet_mm import FocalNet
    thin = dict(depths=(1, 1, 1, 1), embed_dims=8)
    source = FocalNet('tiny-lrf', **thin)
    torch.save({'model': {name: tensor for name, tensor in source.state_dict().items() if 'norm3' not in name}},
               tmp_path / 'x.pth')
    (tmp_path / 'config.py').write_text(RETINANET)
    cfg = Config.fromfile(tmp_path / 'config.py')
    init_default_scope('mmdet')
    cfg.model.backbone.update(thin, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth')))
    cfg.model.neck.in_channels = [16, 32, 64]
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert torch.equal(model.backbone.layers[2].blocks[0].mlp.fc1.weight, source.layers[2].blocks[0].mlp.fc1.weight)
    kernel = model.backbone.layers[0].blocks[0].modulation.focal_layers[0][0].weight
    assert torch.equal(kernel[..., 3:6, 3:6], source.layers[0].blocks[0].modulation.focal_layers[0][0].weight)

    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'gone.pth')
    with pytest.raises(FileNotFoundError, match=r'gone\.pth does not exist'):
        MODELS.build(cfg.model).init_weights()
