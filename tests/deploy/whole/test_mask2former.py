"""Mask2Former in one file segments what mmdet's Mask2Former segments."""

import copy

import onnxruntime
import pytest
import torch
from mmdet.models import MaskFormerFusionHead
from mmengine.config import ConfigDict

from focalnet_mm.deploy.whole import whole
from focalnet_mm.deploy.whole.mask2former import Mask2Former, _boxes
from tests.helpers.queries import SIZES, blobs, carriers, mask2former, run, written

OBJECTS = 'boxes', 'scores', 'labels', 'masks'
SEGMENTS = 'segments', 'segment_ids', 'segment_scores'
THRESHOLDS = [
    {}, dict(object_mask_thr=0.0), dict(object_mask_thr=0.0, iou_thr=0.0), dict(object_mask_thr=0.0, iou_thr=1.0),
    dict(object_mask_thr=0.0, iou_thr=0.0, filter_low_score=1.0), dict(object_mask_thr=1.0),
]


@pytest.fixture(scope='module')
def model():
    return mask2former()


def tensors(thresholds):
    return {name: torch.tensor(value) for name, value in thresholds.items()}


class TestModule:

    @pytest.mark.parametrize(('images', 'inside', 'original'), SIZES)
    def test_both(self, model, images, inside, original):
        part, images = whole(model), blobs(*images)
        assert part.names == (*OBJECTS, *SEGMENTS)
        found = run(part, images, **carriers(inside, original))
        expected = part.predict(images, **carriers(inside, original))
        assert part.agree(expected, found).holds
        scores, labels = found[1:3]
        assert (scores > 0).any()
        assert torch.equal(scores, scores.sort(1, descending=True).values)
        assert torch.equal(scores > 0, labels >= 0)

    @pytest.mark.parametrize('thresholds', THRESHOLDS)
    def test_thresholds(self, model, thresholds):
        """Pixel by pixel what mmdet fuses, whatever the thresholds are."""
        part, images = whole(model), blobs(2, 96, 128)
        *_, segments, ids, scores = run(part, images, **tensors(thresholds))
        own = part.predict(images, **tensors(thresholds))[4]
        assert torch.equal(segments, own)
        void = model.panoptic_fusion_head.num_classes
        for one, numbers, sure in zip(segments, ids, scores):
            assert set(one.unique().tolist()) - {void} <= set(numbers.tolist())
            assert torch.equal(numbers >= 0, sure > 0)
        if thresholds.get('object_mask_thr') == 1.0:
            assert (segments == void).all()
        elif thresholds.get('iou_thr') == 0.0:
            assert len(segments.unique()) > 3

    def test_the_settings_stay(self, model):
        before = model.panoptic_fusion_head.test_cfg
        whole(model).predict(blobs(1, 96, 128), object_mask_thr=torch.tensor(0.5))
        assert model.panoptic_fusion_head.test_cfg is before
        assert before.object_mask_thr == 0.2

    def test_objects_alone(self):
        part = whole(mask2former(panoptic=False), 'none')
        assert part.names == OBJECTS[:3]
        assert not part.inputs
        images = blobs(1, 96, 128)
        assert part.agree(part.predict(images), run(part, images)).holds

    def test_map_alone(self):
        part = whole(mask2former(instance=False))
        assert part.names == SEGMENTS
        head = part.module.model.panoptic_fusion_head
        assert (part.facts['num_classes'], part.facts['num_things']) == (head.num_classes, head.num_things_classes)
        images = blobs(1, 96, 128)
        assert part.agree(part.predict(images), run(part, images)).holds


def test_boxes_of_masks():
    from mmdet.structures.mask import mask2bbox
    masks = torch.rand(6, 9, 13, generator=torch.Generator().manual_seed(0)) > 0.97
    masks[0], masks[1], masks[2, 0] = False, True, True
    assert torch.equal(_boxes(masks), mask2bbox(masks))


def test_differences_are_seen(model):
    """The comparison fails when a segment changes its label or some of its pixels."""
    part, images = whole(model), blobs(1, 96, 128)
    expected = part.predict(images, object_mask_thr=torch.tensor(0.0), iou_thr=torch.tensor(0.0))
    first = expected[4].unique()[0]
    assert len(expected[4].unique()) > 2
    # The last one loses a single segment.
    for change in (lambda segments: segments + 1, lambda segments: segments.roll(8, 1),
                   lambda segments: segments.where(segments != first, model.panoptic_fusion_head.num_classes)):
        changed = [*expected]
        changed[4] = change(expected[4])
        assert not part.agree(expected, changed).holds


def test_masks_of_boxes(model):
    with pytest.raises(ValueError, match='are of whole images and not of boxes: --masks paste or --masks none'):
        whole(model, 'roi')


def test_more_objects_than_there_are(model):
    changed = copy.deepcopy(model)
    changed.panoptic_fusion_head.test_cfg = ConfigDict(changed.panoptic_fusion_head.test_cfg, max_per_image=10**6)
    with pytest.raises(ValueError, match=r'model.test_cfg.max_per_image is 1000000, but'):
        whole(changed)


@pytest.mark.slow
def test_file(model, tmp_path):
    part = whole(model)
    exported = written(part, tmp_path / 'x.onnx')
    for images, inside, original in SIZES:
        images, sizes = blobs(*images, seed=1), carriers(inside, original)
        for thresholds in THRESHOLDS[::2]:
            given = dict(sizes, **tensors(thresholds))
            assert part.agree(part.predict(images, **given), exported(images, **given)).holds


class Fusion(torch.nn.Module):
    """What is made of classes and masks alone."""

    def __init__(self, head):
        super().__init__()
        model = torch.nn.Module()
        model.panoptic_fusion_head = head
        self.whole = Mask2Former(model, False)

    def forward(self, classes, masks):
        thresholds = (torch.tensor(0.0) for _ in range(3))
        return self.whole.panoptic(classes.softmax(-1), masks, *thresholds)[0]


@pytest.mark.slow
def test_pixels_far_from_all_masks(tmp_path):
    """mmdet's own fusion gives them to the likeliest segment, down to probabilities at the end of float32."""
    head = MaskFormerFusionHead(num_things_classes=5, num_stuff_classes=0, test_cfg=ConfigDict(
        object_mask_thr=0.0, iou_thr=0.0, filter_low_score=False))
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(1, 4, 6, generator=generator)
    # Each query is none of "no object".
    classes[..., -1] = -9
    masks = torch.rand(1, 4, 20, 30, generator=generator) * -120
    # Without a pixel of its own a query has no segment.
    masks[0, range(4), 0, range(4)] = 20
    file = tmp_path / 'x.onnx'
    torch.onnx.export(Fusion(head).eval(), (classes, masks), str(file), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [value.name for value in session.get_inputs()]
    found, = session.run(None, dict(zip(names, (classes.numpy(), masks.numpy()))))
    expected = head.panoptic_postprocess(classes[0], masks[0]).sem_seg
    assert len(expected.unique()) == 4
    assert torch.equal(torch.from_numpy(found), expected.to(torch.int64))
