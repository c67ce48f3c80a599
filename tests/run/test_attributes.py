"""What a model counts beside its tensors is restored: by the libraries' own modules that do."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from focalnet_mm.run.attributes import changed_attributes, plain_attributes, set_attributes
from tests.helpers.long_runs import Kill, KilledError, different, long_run, tensors


@MODELS.register_module(force=True)
class Growing(nn.Module):
    """Its noise grows with the steps that it has counted, as the sizes of a multi-scale training change."""

    def __init__(self):
        super().__init__()
        self.steps, self.seen, self.fixed = 0, [0.5], 'word'

    def forward(self, x):
        if self.training:
            self.steps += 1
            self.seen.append(float(self.steps))
        return x + self.seen[-1] * 0.01


def build(work_dir, **settings):
    runner = long_run(work_dir, **settings)
    runner.model.growing = MODELS.build(dict(type='Growing'))
    norm = runner.model.norm.forward
    runner.model.norm.forward = lambda x: norm(runner.model.growing(x))
    return runner


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_resumed_run_goes_on_with_them(by_epoch, tmp_path):
    runner = build(tmp_path / 'a', by_epoch=by_epoch)
    runner.train()
    with pytest.raises(KilledError):
        build(tmp_path / 'b', by_epoch=by_epoch, kill=Kill(step=7)).train()
    resumed = build(tmp_path / 'b', by_epoch=by_epoch, resume=True)
    resumed.train()
    assert resumed.model.growing.steps == runner.model.growing.steps == 12
    assert not different(tensors(resumed), tensors(runner))


def test_of_mmdet():
    """The size in force of a multi-scale training, and the thresholds of Dynamic R-CNN, whose assigner is no module."""
    pytest.importorskip('mmdet')
    from mmdet.models.data_preprocessors import BatchSyncRandomResize
    from mmdet.models.task_modules import MaxIoUAssigner
    model = nn.ModuleDict(dict(resize=BatchSyncRandomResize((64, 128), interval=1), head=nn.Linear(2, 2)))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model['head'].bbox_assigner = MaxIoUAssigner(0.5, 0.5)
    model['head'].iou_history = []
    before, other = plain_attributes(model), copy.deepcopy(model)
    assert changed_attributes(model, before) == {}
    model['resize']._input_size = (96, 96)
    model['head'].bbox_assigner.pos_iou_thr = 0.6
    model['head'].iou_history.append(0.25)
    model['head'].weight.data.zero_()
    model.eval()
    changed = changed_attributes(model, before)
    assert changed == {'resize|_input_size': (96, 96), 'head/bbox_assigner|pos_iou_thr': 0.6,
                       'head|iou_history': [0.25]}
    set_attributes(other, {**changed, 'gone|x': 1})
    assert changed_attributes(other, plain_attributes(model)) == {}
    assert other['head'].weight.abs().sum() > 0
    assert other.training
    # What is noted does not change with the model.
    model['head'].iou_history.append(0.5)
    assert changed['head|iou_history'] == [0.25]


def test_numbers_that_are_none():
    module = nn.Module()
    module.value = float('nan')
    before = plain_attributes(module)
    assert changed_attributes(module, before) == {}
    module.value = 1.0
    assert changed_attributes(module, before) == {'|value': 1.0}
    module.value = torch.zeros(1)
    assert changed_attributes(module, before) == {}
