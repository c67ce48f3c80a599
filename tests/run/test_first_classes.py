"""The accuracy over the first classes, beside numpy's and mmpretrain's own."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
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
