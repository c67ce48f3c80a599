"""Whole detectors, beside the ``predict`` of mmdet's own models."""

import onnxruntime
import pytest
import torch
from mmdet.structures import DetDataSample

from focalnet_mm.deploy import exportable
from focalnet_mm.deploy.whole import whole
from focalnet_mm.deploy.whole.samples import as_tensors
from tests.helpers.detectors import CLASSES, detector
from tests.helpers.queries import declared_and_true, written

KINDS = 'faster', 'mask', 'cascade', 'retina', 'atss', 'sparse'
# Sizes that an export has not seen, one of them odd.
SEESAW = dict(_delete_=True, type='SeesawLoss', num_classes=CLASSES)
SIZES = (1, 160, 128), (3, 97, 131), (2, 64, 64)


def images(count, height, width):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def carriers(height, width):
    """Images of which the last rows and columns are padding, and which were smaller once."""
    return dict(inside=torch.zeros(height - 7, width - 2, dtype=torch.uint8),
                original=torch.zeros(70, 111, dtype=torch.uint8))


def check(part, found, given, least=1):
    expected = part.predict(**given)
    agreed = part.agree(expected, found)
    assert agreed.holds, agreed.words
    assert agreed.difference < 1e-3
    assert (expected[1] > 0).sum() >= least


class TestInPyTorch:

    @pytest.mark.parametrize('kind', KINDS)
    def test_objects(self, kind):
        part = whole(detector(kind))
        for given in (part.trial, dict(img_shape=torch.tensor([[80, 110], [97, 120]])), carriers(97, 131)):
            given = dict(given, images=images(2, 97, 131))
            with torch.no_grad():
                check(part, part.module(**given), given, least=20)

    @pytest.mark.parametrize('kind', KINDS)
    def test_limits_in_pixels_of_the_pictures(self, kind):
        """Where pictures were resized, too: mmdet resizes those without their padding, and notes their size."""
        model = detector(kind)
        part, given = whole(model), dict(carriers(97, 131), images=images(2, 97, 131))
        limits = torch.tensor([[40, 111], [70, 60]])
        with torch.no_grad():
            found = part.module(**given, img_shape=limits)
            samples = model.predict(given['images'], [DetDataSample(metainfo=dict(
                img_shape=(round(height * 90 / 70), round(width * 129 / 111)), ori_shape=(70, 111),
                pad_shape=(97, 131), batch_input_shape=(97, 131), scale_factor=(129 / 111, 90 / 70)))
                for height, width in limits.tolist()])
        expected = as_tensors([sample.pred_instances for sample in samples], 100, part.names)
        agreed = part.agree(expected, found)
        assert agreed.holds, agreed.words
        assert not part.agree(part.predict(**given), found).holds

    @pytest.mark.parametrize(('kind', 'changes'), [
        ('mask', dict(roi_head=dict(bbox_head=dict(reg_class_agnostic=True), mask_head=dict(class_agnostic=True)))),
        ('cascade', dict(test_cfg=dict(rpn=dict(min_bbox_size=9), rcnn=dict(max_per_img=20)))),
        ('faster', dict(test_cfg=dict(rcnn=dict(nms=dict(class_agnostic=True, iou_threshold=0.3))))),
        ('retina', dict(test_cfg=dict(min_bbox_size=12, nms_pre=40))),
        ('retina', dict(test_cfg=dict(nms=None))),
        ('mask', dict(test_cfg=dict(rpn=dict(nms=None), rcnn=dict(nms=None)))),
        ('retina', dict(bbox_head=dict(loss_cls=dict(use_sigmoid=False, type='CrossEntropyLoss', _delete_=True)))),
        ('faster', dict(roi_head=dict(bbox_head=dict(loss_cls=SEESAW)))),
        ('cascade', dict(roi_head=dict(bbox_head={str(i): dict(loss_cls=SEESAW) for i in range(3)}))),
    ])
    def test_settings(self, kind, changes):
        """What the config says otherwise is computed otherwise."""
        part = whole(detector(kind, **changes))
        given = dict(carriers(97, 131), images=images(2, 97, 131))
        with torch.no_grad():
            check(part, part.module(**given), given, least=5)
            assert not whole(detector(kind)).agree(whole(detector(kind)).predict(**given), part.module(**given)).holds

    @pytest.mark.parametrize('name', ['score_threshold', 'iou_threshold', 'mask_threshold'])
    def test_thresholds(self, name):
        part = whole(detector('mask'))
        given = {'images': images(2, 97, 131), name: torch.tensor(0.3)}
        before = part.predict(given['images'])
        with torch.no_grad():
            check(part, part.module(**given), given)
        assert not part.agree(before, part.predict(**given)).holds
        assert part.agree(before, part.predict(given['images'])).difference == 0

    def test_thresholds_that_a_head_does_not_read(self):
        """What else stands in the test config of a Sparse R-CNN changes nothing, in mmdet either."""
        part = whole(detector('sparse', test_cfg=dict(rcnn=dict(score_thr=0.3, nms=dict(type='nms', iou_thr=0.5)))))
        assert (list(part.inputs), part.facts['thresholds'], part.trial) == (['img_shape'], {}, {})
        given = dict(images=images(2, 97, 131))
        with torch.no_grad():
            check(part, part.module(**given), given, least=20)

    def test_masks_of_boxes(self):
        model = detector('mask')
        part = whole(model, 'roi')
        given = dict(images=images(2, 97, 131))
        with torch.no_grad():
            found = part.module(**given)
            check(part, found, given)
            assert found[3].shape == (*found[1].shape, 28, 28)
            assert len(whole(model, 'none').module(**given)) == 3
        assert not part.agree(part.predict(**given), (*found[:3], found[3].flip(3))).holds

    def test_nothing(self):
        """There are as many places as the image with the most objects needs, but for two that there always are."""
        model = detector('mask', test_cfg=dict(rcnn=dict(score_thr=1.0)))
        with torch.no_grad():
            boxes, scores, labels, masks = whole(model).module(images(2, 97, 131))
        assert not boxes.any()
        assert not scores.any()
        assert (labels == -1).all()
        assert masks.shape == (2, 2, 97, 131)
        assert not masks.any()


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['faster', 'mask', 'retina', 'atss', 'sparse'])
def test_onnx(kind, tmp_path):
    part = whole(detector(kind))
    file = tmp_path / 'x.onnx'
    written(part, file)
    given = dict(carriers(97, 131), images=images(3, 97, 131))
    sizes = declared_and_true(file, {name: value.numpy() for name, value in given.items()})
    assert sizes['N'] == {3}
    assert all(found == {name} if isinstance(name, int) else len(found) == 1 for name, found in sizes.items())
    levels = onnxruntime.GraphOptimizationLevel
    for level, size in zip((levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_ALL), SIZES):
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.graph_optimization_level = 3, level
        session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])

        def run(given, session=session):
            found = session.run(None, {name: value.numpy() for name, value in given.items()})
            return [torch.from_numpy(values) for values in found]

        given = dict(carriers(*size[1:]), images=images(*size))
        for other in ({}, part.trial, dict(img_shape=torch.tensor([[50, 70]]))):
            check(part, run({**given, **other}), {**given, **other})
        if 'score_threshold' in part.inputs:
            assert not run({**given, 'score_threshold': torch.tensor(1.0)})[1].any()


class TestRefusals:

    @pytest.mark.parametrize(('kind', 'changes', 'said'), [
        ('mask', dict(roi_head=dict(mask_head=dict(type='HTCMaskHead'))), 'The HTCMaskHead is none of FCNMaskHead'),
        ('retina', dict(bbox_head=dict(type='FreeAnchorRetinaHead')), 'The FreeAnchorRetinaHead is none of AnchorHead'),
        ('retina', dict(test_cfg=dict(nms=dict(type='soft_nms'))), r"model.test_cfg.nms is {'type': 'soft_nms'"),
        ('retina', dict(test_cfg=dict(max_per_img=-1)), 'model.test_cfg.max_per_img is -1, so that it is open how man'),
        ('faster', dict(test_cfg=dict(rpn=dict(nms_pre=-1))), 'model.test_cfg.rpn.nms_pre is -1, so that all anchors'),
        ('mask', dict(test_cfg=dict(rcnn=dict(mask_thr_binary=-1))),
         'model.test_cfg.rcnn.mask_thr_binary is -1, with which masks are levels from 0 to 255'),
        ('faster', dict(roi_head=dict(bbox_head=dict(with_reg=False))),
         'The Shared2FCBBoxHead has with_cls=True and with_reg=False, and only heads with both are known'),
        ('retina', dict(bbox_head=dict(loss_cls=dict(_delete_=True, type='FocalCustomLoss', num_classes=CLASSES))),
         'The RetinaHead makes scores as its FocalCustomLoss says, which is not known here: export --part features'),
        ('retina', dict(test_cfg=dict(nms_pre=-1)), 'model.test_cfg.nms_pre is -1, so that all anchors would be comp'),
        ('faster', dict(roi_head=dict(bbox_roi_extractor=dict(roi_layer=dict(pool_mode='max')))),
         'The features of boxes come from a SingleRoIExtractor with RoIAlign, which is not known here'),
        ('sparse', dict(test_cfg=dict(rcnn=dict(max_per_img=5000))),
         r'model.test_cfg.rcnn.max_per_img is 5000, but \d+ queries and \d+ classes make \d+ objects an image'),
        ('faster', dict(rpn_head=dict(bbox_coder=dict(_delete_=True, type='TBLRBBoxCoder'))),
         'The RPNHead has boxes of a TBLRBBoxCoder, which is not known here: export --part features'),
    ])
    def test_what_is_not_known(self, kind, changes, said):
        with pytest.raises(ValueError, match=said):
            whole(detector(kind, **changes))

    def test_a_method_of_ones_own(self):
        model = detector('atss')
        model.bbox_head.predict_by_feat = lambda *args, **kwargs: []
        with pytest.raises(ValueError, match='The ATSSHead is none of AnchorHead, RetinaHead, ATSSHead'):
            whole(model)

    def test_another_detector(self, thin_config):
        from focalnet_mm.run.build import build_model
        model = build_model(thin_config('mmdet/maskrcnn_focalnet_t_shapes.py'))
        model.__class__ = type('Other', (type(model),), {})
        with pytest.raises(ValueError, match=r'It is not known how to write what a Other predicts: export --part'):
            exportable(model.eval(), 'model')
