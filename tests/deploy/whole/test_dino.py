"""DINO in one file detects what mmdet's DINO detects."""

import copy

import onnxruntime
import pytest
import torch
from mmengine.config import ConfigDict

from focalnet_mm.deploy.whole import whole
from focalnet_mm.deploy.whole.samples import detections
from tests.helpers.queries import SIZES, blobs, carriers, dino, run, written


@pytest.fixture(scope='module')
def model():
    return dino()


class TestModule:

    @pytest.mark.parametrize(('images', 'inside', 'original'), SIZES)
    def test_boxes(self, model, images, inside, original):
        part = whole(model)
        images = blobs(*images)
        boxes, scores, labels = run(part, images, **carriers(inside, original))
        expected = detections(model, 60, part.names, images, *carriers(inside, original).values())
        assert part.agree(expected, (boxes, scores, labels)).holds
        assert torch.allclose(scores, expected[1], atol=1e-5)

    def test_sizes_of_each(self, model):
        """Images of several sizes in a batch are padded, as mmdet pads them."""
        part, images = whole(model), blobs(3, 128, 160)
        limits = torch.tensor([[128, 160], [77, 131], [128, 90]])
        for image, (height, width) in zip(images, limits.tolist()):
            image[:, height:] = image[:, :, width:] = 0
        expected = detections(model, 60, part.names, images, img_shape=limits)
        assert part.agree(expected, run(part, images, img_shape=limits)).holds
        assert not part.agree(expected, run(part, images)).holds

    def test_shared_head(self):
        part, images = whole(dino(type='SharedDINOHead')), blobs(1, 128, 160)
        assert part.agree(part.predict(images), run(part, images)).holds

    def test_thresholds_that_the_head_does_not_read(self, model):
        changed = copy.deepcopy(model)
        changed.bbox_head.test_cfg.update(score_thr=0.3, nms=dict(type='nms', iou_threshold=0.5))
        part, images = whole(changed), blobs(1, 128, 160)
        assert (part.inputs, part.facts['thresholds'], part.trial) == ({}, {}, {})
        assert part.agree(part.predict(images), run(part, images)).holds

    def test_nothing_is_copied(self, model):
        before = {name: (id(module), type(module)) for name, module in model.named_modules()}
        part = whole(model)
        run(part, blobs(1, 128, 160))
        assert {id(parameter) for parameter in part.module.parameters()} == set(map(id, model.parameters()))
        assert {name: (id(module), type(module)) for name, module in model.named_modules()} == before


class TestRefused:

    def test_another_head(self, model):
        class Mine(type(model.bbox_head)):
            pass

        changed = copy.deepcopy(model)
        changed.bbox_head.__class__ = Mine
        with pytest.raises(ValueError, match='The Mine of this model is no DINOHead, so that it is not known what'):
            whole(changed)

    def test_more_objects_than_there_are(self, model):
        """Nor can mmdet return them. As many as there are can be asked for."""
        changed = copy.deepcopy(model)
        most = changed.num_queries * changed.bbox_head.num_classes
        changed.bbox_head.test_cfg = ConfigDict(max_per_img=most)
        whole(changed)
        changed.bbox_head.test_cfg = ConfigDict(max_per_img=most + 1)
        with pytest.raises(ValueError, match=f'model.test_cfg.max_per_img is {most + 1}, but .* make {most} objects'):
            whole(changed)
        head = changed.bbox_head
        with pytest.raises(RuntimeError, match='out of range'):
            head._predict_by_feat_single(torch.zeros(changed.num_queries, head.num_classes),
                                         torch.zeros(changed.num_queries, 4), dict(img_shape=(8, 8)))

    def test_softmax(self, model):
        changed = copy.deepcopy(model)
        changed.bbox_head.loss_cls.use_sigmoid = False
        with pytest.raises(ValueError, match=r'The DINOHead of this model has a .* with softmax, whose'):
            whole(changed)


@pytest.mark.slow
def test_file(model, tmp_path):
    """At sizes and batches that the export has not seen, at every level of optimisation."""
    part, file = whole(model), tmp_path / 'x.onnx'
    exported = written(part, file)
    for images, inside, original in SIZES:
        images, sizes = blobs(*images, seed=1), carriers(inside, original)
        found = exported(images, **sizes)
        assert part.agree(part.predict(images, **sizes), found).holds
    for level in ('DISABLE_ALL', 'ENABLE_BASIC', 'ENABLE_EXTENDED'):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f'ORT_{level}')
        session = onnxruntime.InferenceSession(file, options, ['CPUExecutionProvider'])
        given = {name: value.numpy() for name, value in dict(sizes, images=images).items()}
        assert part.agree(found, [torch.from_numpy(one) for one in session.run(None, given)]).holds
