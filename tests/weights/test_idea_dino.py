"""FocalNet-DINO: with its tensors, mmdet's DINO finds what a DINO written out by FocalNet-DINO's names does."""

import argparse
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from focalnet_mm.weights import convert, detect_layout, load_into, read_checkpoint, read_model, trained_classes
from focalnet_mm.weights.layouts.idea_dino import category_ids
from tests.helpers import idea_dino
from tests.helpers.tools import ROOT

pytestmark = pytest.mark.slow
SIZE = (96, 128)


def ids_of_coco():
    """The category ids of COCO's annotation files."""
    from pycocotools.coco import COCO

    from tests.conftest import SAMPLES
    file = SAMPLES / 'coco' / 'annotations' / 'instances_val2017.json'
    if not file.is_file():
        pytest.skip(f'no COCO samples at {file}')
    return COCO(str(file)).getCatIds()


@pytest.fixture(scope='module')
def model():
    """The DINO of the config, with few of each part."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules()
    cfg = Config.fromfile(ROOT / 'configs/mmdet/dino_focalnet_l_fl4_5scale_o365_coco.py').model
    cfg.backbone.update(embed_dims=8, depths=(1, 1, 1, 1), with_cp=False)
    cfg.neck.in_channels = [8, 16, 32, 64]
    cfg.num_queries = 30
    for coder in (cfg.encoder, cfg.decoder):
        coder.num_layers = 2
        coder.layer_cfg.ffn_cfg.feedforward_channels = 64
    cfg.test_cfg.max_per_img = 20
    return MODELS.build(cfg).eval()


@pytest.fixture(scope='module')
def theirs(model):
    """A file's tensors, of the backbone too."""
    torch.manual_seed(0)
    backbone = {name: torch.randn(tensor.shape) * 0.1 + float('norm' in name and name.endswith('weight'))
                for name, tensor in model.backbone.state_dict().items()}
    return idea_dino.random_state(backbone, [8, 16, 32, 64], 5, 30, 91)


def found_by(model, image):
    from mmdet.structures import DetDataSample
    sample = DetDataSample(metainfo=dict(img_shape=SIZE, batch_input_shape=SIZE, pad_shape=SIZE, ori_shape=SIZE,
                                         scale_factor=(1.0, 1.0)))
    with torch.no_grad():
        return model.predict(image, [sample])[0].pred_instances


def with_rows(theirs, rows):
    """The tensors of a detector of so many classes."""
    wide = {name: torch.randn(rows + (name == 'label_enc.weight'), *tensor.shape[1:])
            if 'class_embed' in name or name == 'label_enc.weight' else tensor for name, tensor in theirs.items()}
    copies = {name: wide[name.removeprefix('transformer.decoder.')] for name in wide
              if name.startswith('transformer.decoder.class_embed.')}
    return {**wide, **copies}


def test_detections(model, theirs, tmp_path):
    torch.save({'model': theirs, 'optimizer': {}, 'epoch': 3, 'args': argparse.Namespace(lr=1e-4)}, tmp_path / 'x.pth')
    assert detect_layout(theirs) == 'idea-dino'
    load_checkpoint(model, f'focalnet://{tmp_path}/x.pth', strict=True)
    image = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    found = found_by(model, image)
    ids = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    with torch.no_grad():
        features = model.backbone(image)
        boxes, scores, labels = idea_dino.detect(theirs, features, ids, num_queries=30, num_boxes=20)
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], 1).clamp(0, 1) * torch.tensor([128, 96, 128, 96])
    assert scores.std() > 1e-3
    assert len(labels.unique()) > 2
    torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.tensor(ids)[found.labels], labels)
    torch.testing.assert_close(found.bboxes, corners, rtol=1e-4, atol=1e-2)

    # What goes out again finds the same in their code, although it looks at all rows there.
    back = convert(model.state_dict(), 'idea-dino')
    with torch.no_grad():
        again = idea_dino.detect(back, features, list(range(91)), num_queries=30, num_boxes=20)
    for value, expected in zip(again, (boxes, scores, labels)):
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_way_back(model, theirs, log):
    ours = convert(theirs, 'mm')
    assert any('The 91 class rows are numbered by category ids: the 80 of CocoDataset are' in line for line in log)
    assert ours.keys() == model.state_dict().keys()
    back = convert(ours, 'idea-dino')
    assert back.keys() == theirs.keys()
    used = list(category_ids(91))
    for name, tensor in theirs.items():
        if 'class_embed' in name or name == 'label_enc.weight':
            assert back[name].shape == tensor.shape
            assert torch.equal(back[name][used], tensor[used]), name
        else:
            assert torch.equal(back[name], tensor), name
    again = convert(back, 'mm')
    assert again.keys() == ours.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.items())
    assert not any('heads of their own' in line for line in log)
    convert({**ours, 'bbox_head.cls_branches.1.bias': ours['bbox_head.cls_branches.1.bias'] + 1}, 'idea-dino')
    assert any('dec_pred_class_embed_share=False' in line for line in log)


def test_rows_of_coco():
    assert list(category_ids(91)) == ids_of_coco()


@pytest.mark.parametrize(('rows', 'name'), [(91, 'CocoDataset'), (366, 'Objects365V2Dataset'), (20, None)])
def test_classes_have_names(theirs, tmp_path, rows, name):
    import mmdet.datasets
    torch.save({'model': with_rows(theirs, rows)}, tmp_path / 'x.pth')
    classes = trained_classes(read_model(tmp_path / 'x.pth')['meta'])
    assert classes == ({} if name is None else {'classes': getattr(mmdet.datasets, name).METAINFO['classes']})


@pytest.mark.parametrize(('rows', 'used'), [(366, range(1, 366)), (20, range(20))])
def test_rows_of_others(model, theirs, rows, used):
    """Objects365's ids from 1 to 365, and a class each of whatever else there is."""
    wide = with_rows(theirs, rows)
    ours = convert(wide, 'mm')
    for name, theirs_name in (('bbox_head.cls_branches.0.weight', 'class_embed.0.weight'),
                              ('bbox_head.cls_branches.2.bias', 'transformer.enc_out_class_embed.bias'),
                              ('dn_query_generator.label_embedding.weight', 'label_enc.weight')):
        assert torch.equal(ours[name], wide[theirs_name][list(used)]), name
        assert torch.equal(convert(ours, 'idea-dino')[theirs_name][list(used)], ours[name])


def test_heads_are_shared_in_training(model):
    """One classifier and one regressor for the decoder layers, another of each for the proposals: 4 parameters move."""
    head = model.bbox_head
    assert head.cls_branches[0] is head.cls_branches[1]
    assert head.reg_branches[0] is head.reg_branches[1]
    assert head.cls_branches[2] is not head.cls_branches[0]
    assert len(list(head.cls_branches.parameters())) == 4
    assert head.state_dict().keys() >= {f'cls_branches.{i}.weight' for i in range(3)}
    twin = copy.deepcopy(head)
    assert twin.cls_branches[0] is twin.cls_branches[1]


def test_backbone_and_wrappers(model, theirs, tmp_path):
    torch.save({'model': {f'module.{name}': tensor for name, tensor in theirs.items()}}, tmp_path / 'x.pth')
    backbone = copy.deepcopy(model.backbone)
    report = load_into(backbone, tmp_path / 'x.pth')
    assert (report.layout, report.prefix) == ('idea-dino', 'module.backbone.0.')
    assert not report.new
    assert 'module.label_enc.weight' in report.unused
    assert convert(read_checkpoint(tmp_path / 'x.pth'), 'mm').keys() == model.state_dict().keys()


def test_copies_that_differ(theirs):
    name = 'transformer.decoder.bbox_embed.0.layers.0.bias'
    with pytest.raises(ValueError, match=r'differs from bbox_embed\.0\.layers\.0\.bias, although the decoder'):
        convert({**theirs, name: theirs[name] + 1}, 'mm')


def test_rows_that_differ(theirs):
    name = 'transformer.enc_out_class_embed.bias'
    with pytest.raises(ValueError, match=r'^The classifiers have 90 and 91 rows of classes, the label embedding 92'):
        convert({**theirs, name: theirs[name][1:]}, 'mm')
