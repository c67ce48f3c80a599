"""detrex's DINO detectors: with the same tensors, mmdet's DINO finds what a DINO written out by detrex's names does."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from focalnet_mm.weights import convert, detect_layout, load_into
from tests.helpers.tools import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def model():
    """A DINO with all its parts, few of each, and random tensors."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules()
    cfg = Config.fromfile(ROOT / 'configs/mmdet/dino_focalnet_t_4scale_12e.py').model
    cfg.backbone.update(embed_dims=8, depths=(1, 1, 1, 1), init_cfg=None)
    cfg.neck.in_channels = [16, 32, 64]
    cfg.num_queries = 30
    cfg.encoder.num_layers, cfg.decoder.num_layers = 2, 2
    cfg.test_cfg.max_per_img = 20
    model = MODELS.build(cfg).eval()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        scale = name.endswith('weight') and ('norm' in name or '.gn.' in name)
        torch.nn.init.normal_(parameter, mean=float(scale), std=0.05)
    return model


@pytest.fixture(scope='module')
def state(model):
    return convert(model.state_dict(), 'detrex')


def test_detections(model, state, tmp_path, detrex_dino):
    from mmdet.structures import DetDataSample
    torch.save({'model': state, 'iteration': 3}, tmp_path / 'detrex.pth')
    theirs = copy.deepcopy(model)
    for parameter in theirs.parameters():
        parameter.data.zero_()
    load_checkpoint(theirs, f'focalnet://{tmp_path}/detrex.pth', strict=True)

    size = (96, 128)
    image = torch.randn(1, 3, *size)
    sample = DetDataSample(metainfo=dict(img_shape=size, batch_input_shape=size, pad_shape=size, ori_shape=size,
                                         scale_factor=(1.0, 1.0)))
    with torch.no_grad():
        found = theirs.predict(image, [sample])[0].pred_instances
        boxes, scores, labels = detrex_dino.detect(state, model.backbone(image), num_queries=30, num_boxes=20)
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], 1).clamp(0, 1) * torch.tensor([128, 96, 128, 96])
    assert scores.std() > 1e-3
    assert len(labels.unique()) > 2
    torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.labels, labels)
    torch.testing.assert_close(found.bboxes, corners, rtol=1e-4, atol=1e-2)


def test_way_back(model, state):
    assert detect_layout(state) == 'detrex'
    assert detect_layout(model.state_dict()) == 'mm'
    back = convert(state, 'mm')
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
    again = convert(back, 'detrex')
    assert again.keys() == state.keys()
    # The decoder's copies of the heads.
    assert {name for name in state if name.startswith('transformer.decoder.bbox_embed.')} == {
        f'transformer.decoder.{name}' for name in state if name.startswith('bbox_embed.')}


def test_copies_that_differ(state):
    name = 'transformer.decoder.class_embed.0.bias'
    with pytest.raises(ValueError, match=f'^{name} differs from class_embed.0.bias, although'):
        convert({**state, name: state[name] + 1}, 'mm')


def test_backbone(model, state, tmp_path):
    torch.save({'model': state}, tmp_path / 'x.pth')
    backbone = copy.deepcopy(model.backbone)
    report = load_into(backbone, tmp_path / 'x.pth')
    assert report.layout == 'detrex'
    assert not report.new
    assert 'label_enc.weight' in report.unused


def test_what_is_no_dino(model):
    official = convert(model.state_dict(), 'official', backbone_only=True)
    with pytest.raises(ValueError, match="The layout detrex is that of detrex's DINO detectors, which these"):
        convert(official, 'detrex')
