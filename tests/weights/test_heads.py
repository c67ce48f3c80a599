"""Class rows of every kind of head: which tensors have them, and which row is whose."""

import numpy as np
import pytest
import torch

from focalnet_mm.run.build import build_model
from focalnet_mm.weights import fit_model
from focalnet_mm.weights.heads import class_tensors, fit_classes

# Of each kind of head: layer → (rows a class, rows of the background behind them), from the libraries' code:
# mmdet/models/roi_heads/bbox_heads/convfc_bbox_head.py (num_classes + 1; 4 * num_classes), dii_head.py (num_classes
# with a sigmoid, 4 for all), roi_heads/mask_heads/fcn_mask_head.py, dense_heads/atss_head.py (cls_out_channels),
# dense_heads/deformable_detr_head.py, layers/transformer/dino_layers.py, dense_heads/mask2former_head.py
# (num_classes + 1), mmseg/models/decode_heads/decode_head.py, mmpretrain/models/heads/linear_head.py.
BOXES = {'fc_cls': (1, 1), 'fc_reg': (4, 0)}
HEADS = {
    'mmdet/maskrcnn_focalnet_t_1x.py': {
        **{f'roi_head.bbox_head.{name}': rows for name, rows in BOXES.items()},
        'roi_head.mask_head.conv_logits': (1, 0)},
    'mmdet/cascade_maskrcnn_focalnet_t_3x.py': {
        **{f'roi_head.bbox_head.{i}.{name}': rows for name, rows in BOXES.items() for i in range(3)},
        **{f'roi_head.mask_head.{i}.conv_logits': (1, 0) for i in range(3)}},
    'mmdet/maskrcnn_focalnet_t_shapes.py': {'roi_head.bbox_head.fc_cls': (1, 1)},
    'mmdet/atss_focalnet_t_3x.py': {'bbox_head.atss_cls': (1, 0)},
    'mmdet/sparsercnn_focalnet_t_3x.py': {f'roi_head.bbox_head.{i}.fc_cls': (1, 0) for i in range(6)},
    'mmdet/dino_focalnet_t_4scale_12e.py': {
        **{f'bbox_head.cls_branches.{i}': (1, 0) for i in range(7)}, 'dn_query_generator.label_embedding': (1, 0)},
    'mmdet/mask2former_focalnet_t_50e_instance.py': {'panoptic_head.cls_embed': (1, 1)},
    'mmdet/mask2former_focalnet_t_shapes_panoptic.py': {'panoptic_head.cls_embed': (1, 1)},
    'mmseg/mask2former_focalnet_l_160k.py': {'decode_head.cls_embed': (1, 1)},
    'mmseg/upernet_focalnet_t_160k.py': {'decode_head.conv_seg': (1, 0), 'auxiliary_head.conv_seg': (1, 0)},
    'mmpretrain/focalnet_t_in1k.py': {'head.fc': (1, 0)},
}
TRAINED = ('person', 'car', 'traffic light', 'cat', 'dog', 'cow', 'sheep', 'boat')
WANTED = ('car', 'lorry', 'Traffic_Light', 'person', 'tram')
# Of each wanted class the trained one's number.
FOUND = {0: 1, 2: 2, 3: 0}


def set_classes(node, number):
    """Give every head so many classes; of a panoptic one three are things."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        if key == 'num_classes':
            node[key] = number
        elif key == 'num_things_classes':
            node[key], node['num_stuff_classes'] = 3, number - 3
        elif key != 'loss_cls':
            set_classes(value, number)


def made(thin_config, path, number):
    cfg = thin_config(path)
    set_classes(cfg.model, number)
    for each in ('rpn', 'rcnn'):
        if (cfg.model.get('test_cfg') or {}).get(each):
            cfg.model.test_cfg[each].max_per_img = 20
    torch.manual_seed(number)
    return build_model(cfg), cfg


@pytest.mark.slow
@pytest.mark.parametrize('path', HEADS)
def test_rows(path, thin_config):
    model, _ = made(thin_config, path, len(WANTED))
    own, layers = model.state_dict(), HEADS[path]
    assert {each.layer for each in class_tensors(model)} == set(layers)
    tensors = {name: torch.randn(tensor.shape) for name, tensor in own.items()}
    for layer, (each, behind) in layers.items():
        for kind in ('weight', 'bias'):
            if f'{layer}.{kind}' in own:
                rows = len(TRAINED) * each + behind
                tensors[f'{layer}.{kind}'] = torch.randn(rows, *own[f'{layer}.{kind}'].shape[1:])
    fitted, reports = fit_classes(tensors, model, dict(classes=TRAINED), dict(classes=WANTED))
    assert {name.rpartition('.')[0] for name in fitted} == set(layers)
    for name, tensor in fitted.items():
        each, behind = layers[name.rpartition('.')[0]]
        expected = own[name].clone()
        for mine, theirs in FOUND.items():
            for k in range(each):
                expected[mine * each + k] = tensors[name][theirs * each + k]
        if behind:
            expected[-1] = tensors[name][-1]
        assert torch.equal(tensor, expected), name
    assert {str(report) for report in reports} == {
        '8 → 5 classes: car, Traffic_Light, person by name; 2 new (lorry, tram)'}


def predicted(model, cfg, batch):
    """What tells of classes: (labels, …) of boxes with their scores and places, or scores of all classes."""
    torch.manual_seed(0)
    data = batch(cfg)
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(data, False)
        if hasattr(model, 'panoptic_head'):
            scores, masks = model.panoptic_head(model.extract_feat(data['inputs']), data['data_samples'])
            return None, scores[-1], masks[-1]
        if cfg.default_scope == 'mmdet':
            found = model(**data, mode='predict')[0].pred_instances
            return found.labels, found.scores, found.bboxes
        scores = model(**data, mode='tensor')
        return None, scores if torch.is_tensor(scores) else scores[-1], None


@pytest.mark.slow
@pytest.mark.parametrize('path', [path for path in HEADS if 'shapes.py' not in path and '160k' not in path.replace(
    'upernet_focalnet_t_160k', '')])
def test_another_order_predicts_the_same(path, thin_config, batch):
    """The libraries' own inference, with the classes in another order: the same boxes, scores and names."""
    source, cfg = made(thin_config, path, 8)
    random = np.random.default_rng(0)
    # Things stay things.
    order = [*random.permutation(3).tolist(), *(3 + random.permutation(5)).tolist()]
    for layer in HEADS[path]:
        for parameter in source.get_submodule(layer).parameters():
            parameter.data = 0.1 * torch.randn(parameter.shape)
    if 'dino' in path:
        # mmdet leaves it as the memory was, until weights are initialised.
        torch.nn.init.normal_(source.level_embed)
    if 'sparse' in path:
        # Random proposals, and six random stages, have boxes of no size.
        source.rpn_head.init_weights()
        for head in source.roi_head.bbox_head:
            torch.nn.init.zeros_(head.fc_reg.weight)
    target, _ = made(thin_config, path, 8)
    wanted = [TRAINED[i] for i in order]
    ready, report = fit_model(source.state_dict(), target, dict(classes=TRAINED), dict(classes=wanted), 'x.pth')
    assert not report.misfits
    assert not report.new
    target.load_state_dict(ready)
    labels, scores, places = predicted(source, cfg, batch)
    own_labels, own_scores, own_places = predicted(target, cfg, batch)
    if labels is None:
        dimension = 1 if places is None else -1
        behind = [8] if scores.shape[dimension] == 9 else []
        torch.testing.assert_close(own_scores, scores.index_select(dimension, torch.tensor(order + behind)))
    else:
        assert len(labels) > 5
        torch.testing.assert_close(own_scores, scores)
        torch.testing.assert_close(own_places, places)
        assert [wanted[i] for i in own_labels] == [TRAINED[i] for i in labels]


class TestNames:
    """On the smallest model with a head."""

    @staticmethod
    def model(number, rows=None):
        model = torch.nn.Module()
        model.head = torch.nn.Module()
        model.head.num_classes = number
        model.head.fc = torch.nn.Linear(2, rows or number)
        return model

    def test_the_same_classes_stay_as_they_are(self):
        model = self.model(8)
        assert fit_classes(model.state_dict(), model, dict(classes=TRAINED), dict(classes=TRAINED)) == ({}, [])

    @pytest.mark.parametrize(('trained', 'wanted', 'reason'), [
        ({}, dict(classes=WANTED), 'the checkpoint does not name its classes'),
        (dict(classes=TRAINED), {}, 'the data does not name its classes'),
        (dict(classes=TRAINED[:3]), dict(classes=WANTED), 'the checkpoint names 3 classes, and not 8'),
        (dict(classes=TRAINED), dict(classes=WANTED[:2]), 'the data names 2 classes, and not 5'),
    ])
    def test_without_names(self, trained, wanted, reason):
        """All rows of another number start fresh, those of the same number land as they are."""
        model, other = self.model(5), self.model(8).state_dict()
        fitted, reports = fit_classes(other, model, trained, wanted)
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in fitted.items())
        assert [str(report) for report in reports] == [f'8 → 5 classes: 5 new, since {reason}']
        assert fit_classes(self.model(8).state_dict(), self.model(8), trained, wanted) == ({}, [])

    @pytest.mark.parametrize(('theirs', 'ours', 'rows'), [
        # As ImageNet-1K's class 134, a bird, and 517, a machine: mmpretrain/datasets/categories.py.
        (('crane', 'x', 'crane'), ('crane', 'x', 'crane'), None),
        (('crane', 'x', 'crane'), ('x', 'crane'), (1, 0)),
        (('A', 'a', 'b'), ('A', 'a', 'b'), None),
        (('A', 'a', 'b'), ('b', 'a', 'A'), (2, 1, 0)),
        (('a', 'b'), ('A', 'a'), (None, 0)),
        (('-', '+', '_'), ('+', '-', '_'), (1, 0, 2)),
        (('caf\u00e9', 'Stra\u00dfe'), ('STRASSE', 'cafe\u0301'), (1, 0)),
    ])
    def test_names_that_are_nearly_equal(self, theirs, ours, rows):
        """Each row goes to one class, and names that are equal come before those that differ in case or signs."""
        model, other = self.model(len(ours)), self.model(len(theirs)).state_dict()
        fitted, _ = fit_classes(other, model, dict(classes=theirs), dict(classes=ours))
        if rows is None:
            assert not fitted
        else:
            for i, row in enumerate(rows):
                expected = model.head.fc.weight[i] if row is None else other['head.fc.weight'][row]
                assert torch.equal(fitted['head.fc.weight'][i], expected)

    def test_imagenet_stays_imagenet(self):
        from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
        model, classes = self.model(1000), dict(classes=IMAGENET_CATEGORIES)
        assert fit_classes(self.model(1000).state_dict(), model, classes, classes) == ({}, [])

    @pytest.mark.parametrize(('theirs', 'ours'), [(9, 5), (8, 6)])
    def test_sigmoid_and_softmax(self, theirs, ours):
        """A background that only one side has is left out, or starts fresh."""
        model, other = self.model(5, ours), self.model(8, theirs).state_dict()
        fitted, _ = fit_classes(other, model, dict(classes=TRAINED), dict(classes=WANTED))
        expected = model.state_dict()['head.fc.weight'].clone()
        for mine, found in FOUND.items():
            expected[mine] = other['head.fc.weight'][found]
        assert torch.equal(fitted['head.fc.weight'], expected)

    def test_anchors(self):
        """mmdet views (N, anchors · channels, H, W) as (…, anchors, channels): anchor_head.py."""
        model = self.model(5, 15)
        model.head.cls_out_channels = 5
        other = torch.randn(24, 2), torch.randn(24)
        fitted, _ = fit_classes({'head.fc.weight': other[0], 'head.fc.bias': other[1]}, model, dict(classes=TRAINED),
                                dict(classes=WANTED))
        for mine, found in FOUND.items():
            assert torch.equal(fitted['head.fc.weight'].view(3, 5, 2)[:, mine], other[0].view(3, 8, 2)[:, found])

    def test_things_alone(self):
        """A head of boxes of panoptic data knows its things."""
        model, other = self.model(2), self.model(3).state_dict()
        fitted, reports = fit_classes(other, model, dict(classes=TRAINED, thing_classes=TRAINED[:3]),
                                      dict(classes=WANTED, thing_classes=('car', 'tram')))
        assert torch.equal(fitted['head.fc.bias'][0], other['head.fc.bias'][1])
        assert str(reports[0]) == '3 → 2 classes: car by name; 1 new (tram)'
