"""The accuracy over the first classes, beside numpy's and mmpretrain's own."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import init_default_scope

from tests.helpers.tools import ROOT

CONFIGS = sorted((ROOT / 'configs' / 'mmpretrain').glob('*_in22k.py'))


def evaluate(metric, scores, labels, batch=4):
    import mmpretrain.evaluation  # noqa: F401
    from mmpretrain.structures import DataSample
    init_default_scope('mmpretrain')
    evaluator = Evaluator(metric)
    for start in range(0, len(scores), batch):
        evaluator.process([DataSample().set_gt_label(label).set_pred_score(row).set_pred_label(row.argmax())
                           for row, label in zip(scores[start:start + batch], labels[start:start + batch])])
    return evaluator.evaluate(len(scores))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_imagenet_22k_on_imagenet_1k(path):
    cfg = Config.fromfile(path)
    torch.manual_seed(0)
    scores = torch.rand(30, cfg.model.head.num_classes)
    # The best of all is mostly none of ImageNet-1K.
    labels = scores[:, :1000].argsort(1, descending=True)[torch.arange(30), torch.arange(30) % 10]
    first = scores.numpy()[:, :1000]
    rank = (first > first[np.arange(30), labels.numpy()][:, None]).sum(1)
    expected = {'accuracy/top1': 100 * (rank < 1).mean(), 'accuracy/top5': 100 * (rank < 5).mean()}
    assert evaluate(cfg.test_evaluator, scores, labels) == pytest.approx(expected)
    assert evaluate(cfg.test_evaluator.metric, scores[:, :1000], labels) == pytest.approx(expected)
    assert cfg.test_dataloader.dataset.type == 'ImageNet'


def test_fewer_scores():
    import focalnet_mm.run.first_classes  # noqa: F401
    metric = dict(type='FirstClasses', count=5, metric=dict(type='Accuracy'))
    with pytest.raises(ValueError, match=r'FirstClasses: a prediction has 3 scores, count is 5: set count to at most'):
        evaluate(metric, torch.rand(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize('count', [0, -1, 2.0, '5', None])
def test_no_count(count):
    """-1 would leave the last class out, and the accuracy be that of another data set."""
    import focalnet_mm.run.first_classes  # noqa: F401
    with pytest.raises(ValueError, match=f'FirstClasses: count must be an integer of 1 or more, got {count!r}: set it'):
        evaluate(dict(type='FirstClasses', count=count, metric=dict(type='Accuracy')), torch.rand(2, 9),
                 torch.tensor([0, 1]))


@pytest.mark.parametrize('labels', [torch.tensor([1, 5]), [torch.tensor([0, 5]), torch.tensor([1])]])
def test_picture_of_another_class(labels):
    """The library's metric would count it as wrong, and so measure a data set that is none of the first classes."""
    import focalnet_mm.run.first_classes  # noqa: F401
    with pytest.raises(ValueError, match=r'FirstClasses: a picture is of class 5, count is 5: evaluate on a data set'):
        evaluate(dict(type='FirstClasses', count=5, metric=dict(type='Accuracy')), torch.rand(2, 9), labels)


@pytest.mark.parametrize('metric', [
    dict(type='AveragePrecision'), dict(type='MultiLabelMetric', topk=2), dict(type='MultiLabelMetric', thr=0.5)])
def test_several_labels(metric):
    import focalnet_mm.run.first_classes  # noqa: F401
    torch.manual_seed(0)
    scores = torch.rand(30, 9)
    labels = [torch.randperm(5)[:1 + index % 3] for index in range(30)]
    expected = evaluate(metric, scores[:, :5], labels)
    assert evaluate(dict(type='FirstClasses', count=5, metric=metric), scores, labels) == expected


def test_metric_knows_the_data_set():
    """A metric may name the classes in what it returns."""
    import focalnet_mm.run.first_classes  # noqa: F401

    class OfFirst(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results += [self.dataset_meta['classes'][sample['pred_score'].argmax()] for sample in data_samples]

        def compute_metrics(self, results):
            return {f'{self.dataset_meta["classes"][0]} predicted': results.count('cat')}

    evaluator = Evaluator(dict(type='FirstClasses', count=2, metric=dict(type=OfFirst)))
    evaluator.dataset_meta = dict(classes=('cat', 'dog'))
    evaluator.process([dict(pred_score=torch.tensor(row)) for row in ([3., 1, 9], [1., 2, 9])])
    assert evaluator.evaluate(2) == {'cat predicted': 1}
