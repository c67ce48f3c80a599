"""A classifier evaluated on a data set whose classes are the first of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

__all__ = ['FirstClasses']


@METRICS.register_module()
class FirstClasses(BaseMetric):
    """A metric of classification over the first scores alone.

    The first 1000 classes of the published ImageNet-22K heads are those of ImageNet-1K, in their order. A config names
    it as ``val_evaluator = dict(type='FirstClasses', count=1000, metric=dict(type='Accuracy', topk=(1, 5)))`` after
    ``custom_imports = dict(imports=['focalnet_mm.run.first_classes'])``.

    Args:
        count: How many scores of each prediction are kept, 1 or more.
        metric: Settings of the library's metric, which sees nothing but ``pred_score`` (count,) of a prediction.

    Raises:
        ValueError: ``count`` is no positive integer, a prediction has fewer scores, or a picture is of another class.
    """

    def __init__(self, count: int, metric: dict[str, Any]) -> None:
        if not isinstance(count, int) or count < 1:
            raise ValueError(f'FirstClasses: count must be an integer of 1 or more, got {count!r}: set it to the '
                             'number of classes of the data set.')
        self._metric: BaseMetric = METRICS.build(metric)
        super().__init__(self._metric.collect_device, self._metric.prefix)
        self.count = count

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep what the metric needs of a batch.

        Args:
            data_batch: The batch, as the data loader gave it.
            data_samples: Predictions with ``pred_score`` (C,).
        """
        self._metric.dataset_meta = self.dataset_meta
        kept = []
        for sample in data_samples:
            scores = sample['pred_score']
            if len(scores) < self.count:
                raise ValueError(f'FirstClasses: a prediction has {len(scores)} scores, count is {self.count}: set '
                                 'count to at most the num_classes of the head.')
            labels = torch.as_tensor(sample.get('gt_label', ()))
            if labels.numel() and labels.max() >= self.count:
                raise ValueError(f'FirstClasses: a picture is of class {labels.max()}, count is {self.count}: evaluate '
                                 'on a data set whose classes are the first ones, or set count to their number.')
            kept.append({key: value for key, value in sample.items() if key != 'pred_label'}
                        | dict(pred_score=scores[:self.count]))
        self._metric.process(data_batch, kept)
        self.results += self._metric.results
        self._metric.results = []

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """The metrics of all batches."""
        return self._metric.compute_metrics(results)
