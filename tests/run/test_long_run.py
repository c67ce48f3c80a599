"""A run that is killed, stopped or disturbed equals one without a break, bit by bit."""

import contextlib
import json
import os
import signal

import pytest
import torch
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import FlexibleRunner

from focalnet_mm.run.damaged import DamagedPictureError, tell_damaged
from focalnet_mm.run.diverging import DivergedError
from focalnet_mm.run.long_run import LongRunHook, keep_long_runs
from focalnet_mm.run.whole_checkpoints import UnsavedError
from tests.helpers import two_ranks as in_two_ranks
from tests.helpers.forked import two_ranks
from tests.helpers.long_runs import STEPS, Kill, KilledError, Points, Scores, different, files, long_run, tensors

KINDS = {
    'epochs': dict(by_epoch=True),
    'iterations': dict(by_epoch=False),
    'gradients that await their update': dict(by_epoch=False, accumulate=2),
    'bfloat16': dict(by_epoch=True, model=dict(half=True), accumulate=3),
}


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    """What a run of a kind ends with."""
    found = {}

    def of(kind):
        if kind not in found:
            work_dir = tmp_path_factory.mktemp('undisturbed')
            runner = long_run(work_dir, **KINDS[kind])
            runner.train()
            found[kind] = tensors(runner), files(work_dir)
        return found[kind]

    return of


def resumed(work_dir, kind, **settings):
    """What it ends with when it is resumed."""
    runner = long_run(work_dir, resume=True, **{**KINDS[kind], **settings})
    runner.train()
    return tensors(runner), files(work_dir)


def same(found, expected):
    assert not different(found[0], expected[0])
    assert found[1] == expected[1]


@pytest.mark.parametrize(('kind', 'where'), [
    ('epochs', dict(step=2)), ('epochs', dict(step=10)), ('epochs', dict(validation=STEPS)),
    ('epochs', dict(validation=3 * STEPS)), ('iterations', dict(step=7)), ('iterations', dict(validation=5)),
    ('gradients that await their update', dict(step=5)), ('bfloat16', dict(step=7))])
def test_killed(kind, where, undisturbed, tmp_path):
    with pytest.raises(KilledError):
        long_run(tmp_path, kill=Kill(**where), **KINDS[kind]).train()
    same(resumed(tmp_path, kind), undisturbed(kind))


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'step'), [('epochs', 6), ('iterations', 8)])
def test_with_workers(kind, step, tmp_path):
    """Any number of them sees the same data, and may go on for another."""
    runner = long_run(tmp_path / 'a', workers=2, **KINDS[kind])
    runner.train()
    with pytest.raises(KilledError):
        long_run(tmp_path / 'b', workers=2, kill=Kill(step=step), **KINDS[kind]).train()
    same(resumed(tmp_path / 'b', kind, workers=1), (tensors(runner), files(tmp_path / 'a')))


@pytest.mark.slow
def test_stopped_with_workers(tmp_path):
    """In the middle of an epoch, whose batches they have begun to load."""
    runner = long_run(tmp_path / 'a', workers=2)
    runner.train()
    with pytest.raises(SystemExit):
        long_run(tmp_path / 'b', workers=2, kill=Kill(step=6, do=lambda: os.kill(os.getpid(), signal.SIGTERM))).train()
    same(resumed(tmp_path / 'b', 'epochs', workers=2), (tensors(runner), files(tmp_path / 'a')))


@pytest.mark.parametrize(('kind', 'where', 'number'), [
    ('epochs', dict(step=6), signal.SIGUSR1), ('epochs', dict(step=STEPS), signal.SIGTERM),
    ('epochs', dict(validation=STEPS), signal.SIGHUP), ('iterations', dict(step=5), signal.SIGINT),
    ('iterations', dict(validation=5), signal.SIGUSR1), ('bfloat16', dict(step=1), signal.SIGUSR1)])
def test_stopped_by_a_signal(kind, where, number, undisturbed, tmp_path):
    """After the step, with a checkpoint of it, which goes when there is a newer one."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f'the tests were started with {number.name} ignored, as nohup does')
    before = signal.getsignal(number)
    runner = long_run(tmp_path, kill=Kill(**where, do=lambda: os.kill(os.getpid(), number)), **KINDS[kind])
    with pytest.raises(SystemExit) as ended:
        runner.train()
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before
    step = where.get('step') or where['validation']
    last = (tmp_path / 'last_checkpoint').read_text()
    assert torch.load(tmp_path / last, weights_only=False)['meta']['iter'] == step
    same(resumed(tmp_path, kind), undisturbed(kind))


@pytest.mark.parametrize('step', [6, 10])
def test_early_stopping(step, tmp_path, monkeypatch):
    """It has seen the validations before the break."""
    monkeypatch.setattr(Scores, 'compute_metrics', lambda *_: dict(acc=-float(current.epoch)))
    ends = []
    for work_dir, settings in (('a', {}), ('b', dict(kill=Kill(step=step))), ('b', dict(resume=True))):
        current = long_run(tmp_path / work_dir, epochs=6, **settings)
        current.register_hook(EarlyStoppingHook('acc', rule='greater', patience=2))
        with contextlib.suppress(KilledError):
            current.train()
        ends.append((current.iter, tensors(current)))
    assert ends[0][0] == ends[2][0] == 3 * STEPS
    assert not different(ends[0][1], ends[2][1])


def test_the_runner_of_strategies(tmp_path):
    """Is stopped and resumed too, though it looks for the last checkpoint by itself."""
    runner = long_run(tmp_path / 'a', maker=FlexibleRunner, ema=False)
    runner.train()
    stop = Kill(step=6, do=lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        long_run(tmp_path / 'b', maker=FlexibleRunner, ema=False, kill=stop).train()
    resumed = long_run(tmp_path / 'b', maker=FlexibleRunner, ema=False, resume=True)
    resumed.train()
    assert resumed.iter == 3 * STEPS
    assert not different(tensors(resumed), tensors(runner))


@pytest.mark.slow
def test_two_processes(tmp_path):
    """They draw different random numbers, stop after the same step, and go on with the same weights."""
    for rank, (status, out) in enumerate(two_ranks(lambda rank: in_two_ranks.main(tmp_path, rank), tmp_path)):
        assert status == 0, out
        assert f'rank {rank} ended with 143 after step 10' in out
        assert f'rank {rank}: 0 differ' in out
        assert f'rank {rank} went on to step 12' in out
    masks = [json.loads((tmp_path / f'masks_{rank}.json').read_text()) for rank in range(2)]
    assert all(first != second for first, second in zip(*masks, strict=True))


def test_a_second_interrupt_ends_at_once(tmp_path):
    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        long_run(tmp_path, kill=Kill(step=2, do=twice)).train()
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_without_a_break_it_is_mmengine_s_run(by_epoch, tmp_path):
    """Weights, checkpoints and scores are those of mmengine's own hook, whatever is drawn."""
    ends = []
    for kind in ('CheckpointHook', 'LongRunHook'):
        runner = long_run(tmp_path / kind, by_epoch, kind)
        runner.train()
        scores = runner.message_hub.get_scalar('val/acc').data[0].tolist()
        ends.append((tensors(runner), files(tmp_path / kind), scores))
    assert not different(ends[0][0], ends[1][0])
    assert ends[0][1:] == ends[1][1:]


def test_a_loss_that_is_no_number(tmp_path):
    """Ends it, and the checkpoint of before stays."""
    runner = long_run(tmp_path, model=dict(diverges=6), hook=dict(max_nonfinite=4), epochs=9)
    with pytest.raises(DivergedError, match=r'in 4 steps in a row, from step 6: loss=nan, of /pictures/\d.jpg, '
                                            r'/pictures/\d.jpg\. The last checkpoint is .*epoch_1\.pth'):
        runner.train()
    kept = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    assert all(tensor.isfinite().all() for tensor in kept['state_dict'].values())
    assert 'epoch_2.pth' not in files(tmp_path)


def test_weights_that_are_no_numbers(tmp_path):
    """The loss of the last step before a checkpoint is still a number."""
    def spoil():
        runner.model.layer.weight.data[0, 0] = float('inf')

    runner = long_run(tmp_path, kill=Kill(step=8, do=spoil))
    with pytest.raises(DivergedError, match=r'The parameter layer\.weight holds NaN or infinity after step 8'):
        runner.train()
    assert 'epoch_1.pth' in files(tmp_path)


def test_a_loss_that_is_no_number_at_the_end(tmp_path):
    """There are too few steps to end it for that, but it does not end as if it were saved."""
    runner = long_run(tmp_path, model=dict(diverges=3 * STEPS))
    with pytest.raises(UnsavedError, match='its last checkpoint is missing: the loss was no finite number'):
        runner.train()
    assert 'epoch_2.pth' in files(tmp_path)


def test_parameters_that_were_no_numbers_before(tmp_path):
    """Such as a mask, or what no model uses: mmengine's own hook saves them."""
    found = []
    for kind in ('CheckpointHook', 'LongRunHook'):
        runner = long_run(tmp_path / kind, kind=kind, ema=False)
        runner.model.mask = torch.nn.Parameter(torch.tensor([0., -torch.inf]), requires_grad=False)
        runner.train()
        found.append(files(tmp_path / kind))
    assert found[0] == found[1]


def test_signals_by_their_names():
    assert LongRunHook(stop_signals='SIGTERM')._signals == [signal.SIGTERM]
    with pytest.raises(ValueError, match="stop_signals names 'SIGTREM', which is no signal here: take any of"):
        LongRunHook(stop_signals=['SIGTREM'])


def test_after_an_error_an_interrupt_is_one(tmp_path):
    """As in a notebook, where the process goes on."""
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        long_run(tmp_path, kill=Kill(step=2, do=fail)).train()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_loss_that_is_no_number_passes(tmp_path):
    """As in mixed precision, where a step that overflows is left out."""
    class Once(Kill):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 5:
                outputs['loss'] = torch.tensor(float('nan'))

    runner = long_run(tmp_path, kill=Once())
    runner.train()
    assert runner.iter == 3 * STEPS


class TestDamagedPictures:

    def test_end_the_run(self, tmp_path):
        runner = long_run(tmp_path, data=dict(damaged=(3,)))
        with pytest.raises(DamagedPictureError, match=r'^/pictures/3\.jpg cannot be read: AssertionError: failed to '
                                                      r'load image: 3; replace it, .*train_dataloader\.dataset\.max_'):
            runner.train()

    def test_of_a_validation(self, tmp_path):
        """No other one takes the place of what is measured, whatever ``max_refetch`` is."""
        val = dict(dataset=dict(type='Points', noise=False, damaged=(3,), test_mode=True, max_refetch=10))
        with pytest.raises(DamagedPictureError, match=r'replace it, or leave it out of the annotations\.$'):
            long_run(tmp_path, val=val).train()

    def test_or_are_replaced(self, tmp_path, log_of):
        runner = long_run(tmp_path, data=dict(damaged=(3, 5), max_refetch=10))
        told = log_of(runner)
        runner.train()
        assert runner.iter == 3 * STEPS
        assert sorted(line for line in told if 'cannot be read' in line) == [
            f'/pictures/{i}.jpg cannot be read: AssertionError: failed to load image: {i}; another picture takes its '
            'place, as train_dataloader.dataset.max_refetch says.' for i in (3, 5)]


def test_what_fails_in_a_video_is_told_as_it_is():
    """Its items are asked for by video and frame, of which `get_data_info` knows nothing."""
    class Video(Points):
        def prepare_data(self, idx):
            return super().prepare_data(idx[1] if isinstance(idx, tuple) else idx)

    dataset = Video(damaged=(3,))
    tell_damaged(dataset, 'train_dataloader.dataset', None)
    with pytest.raises(AssertionError, match='failed to load image: 3'):
        dataset.prepare_data((0, 3))


def test_the_command_takes_it(tmp_path):
    """With the settings that the config has, and leaves hooks of other kinds."""
    runner = long_run(tmp_path / 'a', kind='CheckpointHook', hook=dict(save_begin=1))
    hooks = list(runner.hooks)
    keep_long_runs(runner, 'x.pth')
    changed, = (i for i, hook in enumerate(runner.hooks) if hook is not hooks[i])
    ours = runner.hooks[changed]
    assert type(ours) is LongRunHook
    assert {**vars(ours), **vars(hooks[changed])} == vars(ours)
    assert (ours.save_begin, ours._start_from) == (1, 'x.pth')
    runner.train()
    assert files(tmp_path / 'a')


@pytest.mark.parametrize('start', [None, 'x.pth'])
def test_nothing_to_resume(start, tmp_path, log_of):
    """Is said, and what the config starts from is not forgotten."""
    class Before(Kill):
        def before_train(self, runner):
            self.weight = runner.model.layer.weight.clone()

    before = Before()
    runner = long_run(tmp_path / 'a', resume=True, ema=False, kill=before,
                      hook=dict(start_from=start and str(tmp_path / start)))
    torch.save(dict(state_dict={name: torch.ones_like(tensor) for name, tensor in runner.model.state_dict().items()}),
               tmp_path / 'x.pth')
    told = log_of(runner)
    runner.train()
    assert bool((before.weight == 1).all()) == (start is not None)
    start = 'scratch' if start is None else f'{tmp_path / start}, as load_from says'
    assert (f'NOTHING TO RESUME: there is no checkpoint of this run in {tmp_path}/a, so the training starts from '
            f'{start}.') in told
