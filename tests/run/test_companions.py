"""Runs with other checkpoint hooks beside ours, and with hooks that exchange the weights, resume exactly too."""

import os
import signal

import pytest
import torch
from mmengine.hooks import CheckpointHook, EMAHook

from focalnet_mm.run.companions import CompanionHook, Exchange
from focalnet_mm.run.diverging import DivergedError
from focalnet_mm.run.failures import StoppedRunError
from focalnet_mm.run.long_run import LongRunHook
from tests.helpers.long_runs import STEPS, Kill, KilledError, different, files, long_run, tensors


def with_another(work_dir, priority=None, **settings):
    """A run whose second hook saves every other step."""
    runner = long_run(work_dir, **settings)
    runner.register_hook(CheckpointHook(interval=2, by_epoch=False, max_keep_ckpts=2), priority)
    return runner


class TestAnotherCheckpointHook:

    @pytest.mark.parametrize('priority', [None, 'HIGH'])
    @pytest.mark.parametrize('by_epoch', [True, False])
    @pytest.mark.parametrize('step', [STEPS + 3, 3, 2 * STEPS])
    def test_killed(self, by_epoch, step, priority, tmp_path):
        """Its checkpoints are resumed from exactly, as ours are."""
        settings = dict(by_epoch=by_epoch)
        runner = with_another(tmp_path / 'a', priority, **settings)
        runner.train()
        with pytest.raises(KilledError):
            with_another(tmp_path / 'b', priority, kill=Kill(step=step), **settings).train()
        newest = max(torch.load(path, weights_only=False)['meta']['iter']
                     for path in (tmp_path / 'b').glob('*.pth') if 'best' not in path.name)
        resumed = with_another(tmp_path / 'b', priority, resume=True, **settings)
        started = []
        resumed.register_hook(Kill(step=newest + 1, do=lambda: started.append(resumed.iter)))
        resumed.train()
        assert started == [newest] == [(step - 1) // 2 * 2]
        assert not different(tensors(resumed), tensors(runner))
        assert set(files(tmp_path / 'b')) >= set(files(tmp_path / 'a'))

    def test_two_of_ours(self, tmp_path):
        """Both in one config: the second one is a companion too."""
        def run(work_dir, **settings):
            runner = long_run(work_dir, **settings)
            runner.register_hook(LongRunHook(interval=2, by_epoch=False))
            return runner

        runner = run(tmp_path / 'a')
        runner.train()
        with pytest.raises(KilledError):
            run(tmp_path / 'b', kill=Kill(step=7)).train()
        resumed = run(tmp_path / 'b', resume=True)
        resumed.train()
        assert not different(tensors(resumed), tensors(runner))
        kinds = [type(hook) for hook in resumed.hooks if isinstance(hook, CheckpointHook)]
        assert kinds == [LongRunHook, CompanionHook]

    def test_what_is_left_is_what_mmengine_leaves(self, tmp_path):
        found = []
        for kind in ('CheckpointHook', 'LongRunHook'):
            runner = with_another(tmp_path / kind, kind=kind)
            runner.train()
            found.append(files(tmp_path / kind))
        assert found[0] == found[1]

    def test_no_number_is_saved_by_it_either(self, tmp_path):
        def spoil():
            next(runner.model.parameters()).data.fill_(float('nan'))

        runner = with_another(tmp_path)
        runner.register_hook(Kill(step=6, do=spoil))
        with pytest.raises(DivergedError, match='holds NaN or infinity after step 6'):
            runner.train()
        assert 'iter_6.pth' not in files(tmp_path)


@pytest.mark.parametrize('resume', [False, True])
def test_names_without_a_number(resume, tmp_path):
    """What was written last is there, as mmengine leaves it."""
    hook = dict(filename_tmpl='latest.pth', max_keep_ckpts=1, save_best=None)
    if resume:
        with pytest.raises(KilledError):
            long_run(tmp_path, hook=hook, kill=Kill(step=2 * STEPS + 1)).train()
        assert files(tmp_path) == ['latest.pth']
    long_run(tmp_path, hook=hook, resume=resume).train()
    assert files(tmp_path) == ['latest.pth']
    assert torch.load(tmp_path / 'latest.pth', weights_only=False)['meta']['iter'] == 3 * STEPS


def test_a_best_metric_that_nothing_measures(tmp_path):
    with pytest.raises(StoppedRunError, match="save_best names 'acuracy', which the validation does not measure"):
        long_run(tmp_path, hook=dict(save_best='acuracy')).train()
    assert files(tmp_path) == ['epoch_1.pth']


class TestAveragedWeights:

    @pytest.mark.parametrize('batch', [1, 2, 3, 4])
    def test_both_are_evaluated(self, batch, tmp_path):
        """By mmpretrain's hook: the averaged weights, and in the same validation the model's own."""
        ema = pytest.importorskip('mmpretrain.engine.hooks').EMAHook

        def run(work_dir, **settings):
            runner = long_run(work_dir, ema=False, hook=dict(interval=2), **settings)
            runner.register_hook(ema(momentum=0.1, evaluate_on_ema=True, evaluate_on_origin=True))
            return runner

        seen = []

        def stop():
            seen.append(0)
            if len(seen) == batch:
                os.kill(os.getpid(), signal.SIGTERM)

        runner = run(tmp_path / 'a')
        runner.train()
        stopped = run(tmp_path / 'b')
        stopped.register_hook(Kill(validation=STEPS, do=stop))
        # A validation of both has twice the batches.
        with pytest.raises(SystemExit):
            stopped.train()
        assert len(seen) == batch
        resumed = run(tmp_path / 'b', resume=True)
        resumed.train()
        assert not different(tensors(resumed), tensors(runner))

    def test_exchanges_are_counted(self, tmp_path):
        runner = long_run(tmp_path, ema=False)
        runner.register_hook(EMAHook(momentum=0.1))
        runner.train()
        hook = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        own, exchange = tensors(runner), Exchange(hook)
        exchange.undo()
        assert not different(tensors(runner), own)
        hook._swap_ema_parameters()
        assert different(tensors(runner), own)
        exchange.undo()
        assert not different(tensors(runner), own)
