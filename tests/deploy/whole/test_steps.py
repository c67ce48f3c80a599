"""The steps that detectors share, beside mmdet's and mmcv's own."""

import pytest
import torch

from focalnet_mm.deploy.pasting import pasted as paste_alone
from focalnet_mm.deploy.whole import boxes, masks, matching, operators
from focalnet_mm.deploy.whole.boxes import Boxes


def random_boxes(*shape, size=100.0):
    corners = torch.rand(*shape, 2, 2) * size
    return torch.cat([corners.amin(-2), corners.amax(-2)], -1)


@pytest.mark.parametrize('most', [5, 60])
def test_suppression(most):
    """Class by class, as mmcv does."""
    from mmcv.ops import batched_nms
    torch.manual_seed(0)
    found = Boxes(random_boxes(2, 50), torch.rand(2, 50), torch.randint(3, (2, 50)))
    found = found.masked(torch.rand(2, 50) < 0.8)
    kept = boxes.suppress(found, dict(type='nms', iou_threshold=0.4), None, most)
    assert kept.boxes.shape == (2, most, 4)
    for i in range(2):
        valid = found.valid[i]
        own = [column[i, valid] for column in found]
        expected, index = batched_nms(*own, dict(type='nms', iou_threshold=0.4))
        count = min(most, len(index))
        torch.testing.assert_close(kept.boxes[i, :count], expected[:count, :4])
        torch.testing.assert_close(kept.scores[i, :count], expected[:count, 4])
        assert kept.labels[i, :count].tolist() == own[2][index[:count]].tolist()
        assert not kept.valid[i, count:].any()


def test_suppression_of_all_classes_at_once():
    found = Boxes(random_boxes(1, 1).expand(1, 2, 4), torch.tensor([[0.4, 0.6]]), torch.tensor([[0, 1]]))
    settings = dict(type='nms', iou_threshold=0.5)
    assert boxes.suppress(found, settings, None, 2).scores.tolist() == [pytest.approx([0.6, 0.4])]
    assert boxes.suppress(found, dict(settings, class_agnostic=True), None, 2).outputs()[2].tolist() == [[1, -1]]


def test_suppression_of_mmcv_s_own_kind():
    """A config need not name it."""
    boxes.check_nms(dict(nms=dict(iou_threshold=0.5), max_per_img=9), 'model.test_cfg')


@pytest.mark.parametrize('threshold', [0.0, 0.2, 0.5])
def test_pasted_masks(threshold):
    """As mmdet pastes one mask after another on a CPU, at the borders and for boxes outside of the image too."""
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
    torch.manual_seed(0)
    size = 61, 90
    special = torch.tensor([[[3., 4, 5, 6], [0, 0, 90, 61], [90, 7, 90, 30]]])
    where = torch.cat([random_boxes(1, 12, size=60.0), special], 1)
    values = torch.rand(1, 15, 28, 28)
    pasted, near = masks.paste(values, where, size)[0], masks.near(where, size)[0]
    alone = torch.from_numpy(paste_alone(values[0].numpy(), where[0].numpy(), size, threshold))
    for i in range(15):
        expected, holds = torch.zeros(size), torch.zeros(size, dtype=torch.bool)
        part, place = _do_paste_mask(values[0, i, None, None], where[0, i, None], *size, skip_empty=True)
        expected[place], holds[place] = part[0], part[0] >= threshold
        torch.testing.assert_close(pasted[i], expected, atol=1e-5, rtol=1e-5)
        for found in ((pasted[i] >= threshold) & near[i], alone[i]):
            assert (found ^ holds).sum() <= 1


@pytest.mark.parametrize('samples', [0, 1, 2])
def test_features_of_boxes(samples):
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
    torch.manual_seed(0)
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=7, sampling_ratio=samples), 6, [4, 8, 16], 20)
    features = [torch.randn(2, 6, 96 // stride, 128 // stride) for stride in (4, 8, 16)]
    where = random_boxes(2, 30)
    where[0, 0, 2:] = where[0, 0, :2]
    rois = torch.cat([torch.arange(2.).repeat_interleave(30)[:, None], where.reshape(-1, 4)], 1)
    assert len(extractor.map_roi_levels(rois, 3).unique()) == 3
    torch.testing.assert_close(boxes.roi_features(extractor, features, where), extractor(features, rois))


def test_the_best_of_few():
    found = boxes.best(Boxes(torch.ones(1, 2, 4), torch.tensor([[0.2, 0.7]]), torch.tensor([[4, 5]])), 3)
    assert found.outputs()[1].tolist() == [pytest.approx([0.7, 0.2, 0])]
    assert found.outputs()[2].tolist() == [[5, 4, -1]]
    assert not found.outputs()[0][0, 2].any()


@pytest.mark.parametrize('counts', [(3, 5), (0, 1), (0, 0), (7, 7)])
def test_places_without_boxes_are_left_out(counts):
    scores = torch.full((2, 7), operators.INVALID)
    for row, count in zip(scores, counts):
        row[:count] = torch.linspace(0.9, 0.1, count)
    found = Boxes(torch.rand(2, 7, 4), scores, torch.arange(14).reshape(2, 7))
    kept = max(*counts, operators.LEAST)
    for own, other in zip(found.present(), found):
        assert torch.equal(own, other[:, :kept])


@pytest.mark.slow
def test_operators_in_onnx(tmp_path):
    """onnxruntime's operators beside ours, where there is nothing to keep and a level has no box, too."""
    import onnxruntime
    from torch import nn

    class All(nn.Module):
        def forward(self, images, small, where, scores, index, levels):
            best, order = scores.sort(descending=True)
            return (operators.nms(where, scores, torch.tensor(0.3), 4), operators.roi_align(
                [images, small], where[0], index, levels, [3, 3], [0.5, 0.25], 0, True),
                *operators.present(where, best, order))

    torch.manual_seed(0)
    names = 'images', 'small', 'where', 'scores', 'index', 'levels'
    given = (torch.randn(2, 3, 50, 50), torch.randn(2, 3, 25, 25), random_boxes(2, 9), torch.rand(2, 9),
             torch.randint(2, (9,)), torch.randint(2, (9,)))
    torch.onnx.export(All(), given, tmp_path / 'x.onnx', input_names=names,
                      custom_translation_table=operators.translations(), verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / 'x.onnx'), providers=['CPUExecutionProvider'])
    nothing = torch.full((2, 9), operators.INVALID)
    for scores, levels in ((given[3], given[5]), (nothing, torch.ones_like(given[5])),
                           (given[3].where(given[3] > 0.6, operators.INVALID), torch.zeros_like(given[5]))):
        inputs = dict(zip(names, given), scores=scores, levels=levels)
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        expected = All()(*inputs.values())
        for own, other in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(own), other, atol=1e-5, rtol=1e-4)
        assert expected[0].any() == (scores > 0).any()


class TestMatching:

    @staticmethod
    def objects(**changes):
        return dict(dict(boxes=torch.tensor([[[10., 10, 50, 50], [10, 10, 50, 50], [0, 0, 0, 0]]]),
                         scores=torch.tensor([[0.9, 0.8, 0]]), labels=torch.tensor([[1, 2, -1]])), **changes)

    def agreement(self, **changes):
        own = self.objects()
        return matching.agreement(tuple(own), own.values(), self.objects(**changes).values())

    def test_in_another_order(self):
        other = {name: value[:, [1, 0, 2]] for name, value in self.objects().items()}
        agreed = self.agreement(**other)
        assert agreed.holds
        assert agreed[:2] == (0.0, '2 of 2 objects found again, scores differ by at most 0.0e+00')

    @pytest.mark.parametrize(('name', 'value'), [
        ('labels', [[2, 2, -1]]), ('scores', [[0.902, 0.8, 0]]), ('scores', [[0.9, 0, 0]]),
        ('scores', [[0.9, 0.8, 0.1]]),
        ('boxes', [[[10., 10, 50, 50], [10, 10, 50, 50.8], [0, 0, 0, 0]]])])
    def test_what_differs(self, name, value):
        assert not self.agreement(**{name: torch.tensor(value)}).holds

    def test_masks(self):
        own = self.objects(masks=torch.zeros(1, 3, 20, 20, dtype=torch.bool))
        other = {**own, 'masks': own['masks'].clone()}
        other['masks'][0, 1, 0, :2] = True
        assert matching.agreement(tuple(own), own.values(), other.values()).holds
        other['masks'][0, 1, 0, 2] = True
        assert not matching.agreement(tuple(own), own.values(), other.values()).holds

    @pytest.mark.parametrize(('score', 'holds'), [(0.505, False), (0.05005, True), (0.51003, True), (0.0502, False)])
    def test_one_of_few(self, score, holds):
        """It may be missed at a threshold, or where its score says nothing of its place beside another."""
        count = 40
        scores = torch.linspace(0.9, 0.51, count)[None]
        scores[0, 7] = score
        own = dict(boxes=random_boxes(1, count), scores=scores, labels=torch.zeros(1, count))
        other = {**own, 'scores': scores.clone()}
        other['scores'][0, 7] = 0
        # One more that is none, so that no object is the last of a full list.
        full = [{name: torch.cat([values, values[:, :1] * 0], 1) for name, values in each.items()}
                for each in (own, other)]
        names = tuple(own)
        for left, right in (full, full[::-1]):
            found = matching.agreement(names, left.values(), right.values(), (0.0, 0.05))
            assert found.holds == holds
            assert found.words.startswith('39 of 40')
        other['scores'][0, 8] = 0
        assert not matching.agreement(names, own.values(), other.values(), (0.0, 0.05)).holds

    @pytest.mark.parametrize(('last', 'holds'), [(0.50001, True), (0.5002, False)])
    def test_the_last_of_a_full_list(self, last, holds):
        """Another box may take its place, if it could be the next."""
        own = dict(boxes=random_boxes(1, 30), scores=torch.linspace(0.9, 0.5, 30)[None], labels=torch.zeros(1, 30))
        other = {name: values.clone() for name, values in own.items()}
        other['boxes'][0, 29] += 40
        own['scores'][0, 28], other['scores'][0, 28] = 0.51, 0.51
        if not holds:
            other['boxes'][0, 29] -= 40
            other['boxes'][0, 27] += 40
        other['scores'][0, 29] = last
        assert matching.agreement(tuple(own), own.values(), other.values()).holds == holds
