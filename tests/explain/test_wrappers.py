"""The backbone of a model is found, and its maps are those of the model, whatever wraps it."""

import copy

import pytest
import torch
from mmengine.model import BaseTTAModel, ExponentialMovingAverage, MMDistributedDataParallel, StochasticWeightAverage
from mmengine.registry import MODELS
from torch import nn

from focalnet_mm.explain import find_backbone, focal_maps, mean_kernels, receptive_fields
from focalnet_mm.explain.maps import only_backbone
from focalnet_mm.releases import HAS_OPERATORS
from tests.helpers.training import THIN

HEADS = dict(
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
    bbox_head=dict(type='GFLHead', num_classes=3, in_channels=8, stacked_convs=1, feat_channels=32,
                   anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
                                         strides=[4, 8, 16, 32, 64])),
    test_cfg=dict(nms_pre=10, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5))


class NoChange(BaseTTAModel):

    def merge_preds(self, data_samples_list):
        return data_samples_list


@pytest.fixture(scope='module')
def detector():
    from mmengine.registry import init_default_scope
    pytest.importorskip('mmdet')
    init_default_scope('mmdet')
    model = MODELS.build(dict(
        type='GFL', backbone=dict(THIN, out_indices=(0, 1, 2, 3)), **HEADS,
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[0, 0, 0], std=[9, 9, 9])))
    model.init_weights()
    return model.eval()


@pytest.fixture(scope='module')
def data():
    from mmdet.testing import demo_mm_inputs
    return demo_mm_inputs(2, image_shapes=[(3, 64, 64)] * 2, num_items=[1, 1], num_classes=3)


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


WRAPPERS = {
    'ema': ExponentialMovingAverage, 'swa': StochasticWeightAverage, 'tta': NoChange, 'data parallel': nn.DataParallel,
    'ddp': lambda model: MMDistributedDataParallel(model, device_ids=None), 'compile': torch.compile,
    'ddp of compile': lambda model: MMDistributedDataParallel(torch.compile(model), device_ids=None),
    'ema of tta': lambda model: ExponentialMovingAverage(NoChange(model))}


@pytest.mark.parametrize('name', WRAPPERS)
def test_wrapped(name, detector, data, one_process):
    model = WRAPPERS[name](detector)
    assert find_backbone(model).depths == find_backbone(model, 'backbone').depths == (1, 1, 2, 1)
    expected = focal_maps(detector, copy.deepcopy(data))
    for found in (focal_maps(model, copy.deepcopy(data)), focal_maps(only_backbone(model, 'backbone'),
                                                                     copy.deepcopy(data))):
        assert found.keys() == expected.keys()
        for key in expected:
            assert torch.equal(found[key].gates, expected[key].gates)
    assert mean_kernels(model).keys() == mean_kernels(detector).keys()


@pytest.mark.parametrize('part', ['model', 'backbone', 'block', 'in place'])
def test_compiled_parts_that_have_run(part, detector, data):
    """Compiled code knows no hooks that came later: the maps come from the modules themselves."""
    model = copy.deepcopy(detector)
    expected = focal_maps(model, copy.deepcopy(data))
    images = model.data_preprocessor(copy.deepcopy(data), False)['inputs']

    def compiled(module):
        return torch.compile(module, backend='eager')

    if part == 'block' and not HAS_OPERATORS:
        pytest.skip('PyTorch before 2.4 cannot compile a block alone')
    if part == 'backbone':
        model.backbone = compiled(model.backbone)
    elif part == 'block':
        model.backbone.layers[2].blocks[1] = compiled(model.backbone.layers[2].blocks[1])
    elif part == 'in place':
        model.backbone.compile(backend='eager')
    else:
        model = compiled(model)
    with torch.no_grad():
        model.backbone(images)
    found = focal_maps(model, copy.deepcopy(data))
    for key in expected:
        torch.testing.assert_close(found[key].gates, expected[key].gates)
        torch.testing.assert_close(found[key].modulator, expected[key].modulator)
    assert len(receptive_fields(model, images)) == len(receptive_fields(detector, images))


def test_distillation(detector, data):
    """mmdet's teacher is no registered module: the student is the backbone, the teacher has a name."""
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    init_default_scope('mmdet')
    backbone = dict(THIN, out_indices=(0, 1, 2, 3))
    head = dict(HEADS['bbox_head'], type='LDHead', loss_ld=dict(type='KnowledgeDistillationKLDivLoss', T=10))
    model = MODELS.build(ConfigDict(
        type='KnowledgeDistillationSingleStageDetector', backbone=backbone, neck=HEADS['neck'], bbox_head=head,
        teacher_config=dict(model=dict(type='GFL', backbone=dict(backbone, depths=(2, 1, 1, 1)), **HEADS)),
        data_preprocessor=dict(type='DetDataPreprocessor')))
    assert find_backbone(model) is model.backbone
    assert find_backbone(model, 'teacher_model.backbone') is find_backbone(model, 'teacher_model')
    teacher = only_backbone(model, 'teacher_model')
    assert len(focal_maps(teacher, copy.deepcopy(data))) == 5
    expected = focal_maps(model.teacher_model.backbone, model.data_preprocessor(copy.deepcopy(data), False)['inputs'])
    assert torch.equal(focal_maps(teacher, copy.deepcopy(data))[0, 1].gates, expected[0, 1].gates)
    # A FocalNet that teaches another backbone is the only one.
    model.backbone = nn.Identity()
    assert find_backbone(model) is model.teacher_model.backbone
