"""Checkpoints are whole or not there, whatever fails, and the newest whole one is resumed."""

import ntpath
import os
import resource
import shutil
import signal
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.fileio import BaseStorageBackend, FileClient, register_backend
from mmengine.hooks import CheckpointHook

from focalnet_mm.releases import HAS_SAFE_GLOBALS
from focalnet_mm.run.resuming import STATE, Run, check_resumable, last_checkpoint, note_last
from focalnet_mm.run.states import collect_state
from focalnet_mm.run.whole_checkpoints import UnsavedError
from tests.helpers.long_runs import (
    STEPS,
    Kill,
    KilledError,
    Scores,
    different,
    files,
    killed_at_file,
    long_run,
    tensors,
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A work dir in which a run of three epochs was killed in the last, with all its checkpoints; and how it ends."""
    folder = tmp_path_factory.mktemp('trained')
    with pytest.raises(KilledError):
        long_run(folder / 'killed', kill=Kill(step=11), **ALL).train()
    runner = long_run(folder / 'whole', **ALL)
    runner.train()
    return folder / 'killed', tensors(runner)


ALL = dict(hook=dict(max_keep_ckpts=-1, save_best=None))


@pytest.fixture
def work_dir(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / 'work')


def resume(work_dir, log_of, **settings):
    """What was resumed, what was said of it, and what the run ends with."""
    runner = long_run(work_dir, resume=True, **{**ALL, **settings})
    told = log_of(runner)
    runner.train()
    return runner._load_from, [line for line in told if line.startswith('Not resumed')], tensors(runner)


class TestResume:

    def test_a_renamed_work_dir(self, trained, work_dir, log_of):
        assert (work_dir / 'last_checkpoint').read_text() == 'epoch_2.pth'
        taken, told, found = resume(work_dir, log_of)
        assert (taken, told) == (str(work_dir / 'epoch_2.pth'), [])
        assert not different(found, trained[1])

    @pytest.mark.parametrize('pointer', ['', 'epoch_9.pth', '/nowhere/epoch_2.pth', None])
    def test_any_pointer(self, pointer, work_dir, log_of):
        (work_dir / 'last_checkpoint').unlink()
        if pointer is not None:
            (work_dir / 'last_checkpoint').write_text(pointer)
        assert resume(work_dir, log_of)[0] == str(work_dir / 'epoch_2.pth')

    def test_damaged_ones_are_passed_over(self, trained, work_dir, log_of):
        """Each with its reason, and the run ends as it would have."""
        content = (work_dir / 'epoch_2.pth').read_bytes()
        (work_dir / 'epoch_2.pth').write_bytes(content[:len(content) // 2])
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        (work_dir / 'epoch_3.pth').write_bytes(flipped)
        weights = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']
        torch.save(dict(state_dict=weights), work_dir / 'epoch_4.pth')
        (work_dir / 'epoch_5.pth').touch()
        taken, told, found = resume(work_dir, log_of)
        assert taken == str(work_dir / 'epoch_1.pth')
        assert not different(found, trained[1])
        for name, reason in (('epoch_2', 'is damaged'), ('epoch_3', 'is damaged'), ('epoch_4', 'holds weights only'),
                             ('epoch_5', 'is damaged')):
            assert any(f'{name}.pth' in line and reason in line for line in told), (name, told)

    def test_of_another_model(self, work_dir, log_of):
        content = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
        content['state_dict']['layer.weight'] = torch.zeros(3, 8)
        torch.save(content, work_dir / 'epoch_2.pth')
        taken, told, _ = resume(work_dir, log_of)
        assert taken == str(work_dir / 'epoch_1.pth')
        assert 'epoch_2.pth is of another model: 1 of the' in told[0]

    def test_all_of_another_model(self, work_dir, log_of):
        """A slip in the config is told, and does not write over them."""
        before = {path: path.read_bytes() for path in work_dir.glob('*.pth')}
        with pytest.raises(ValueError, match=r'epoch_2\.pth is of another model: 2 of the .* correct the config'):
            resume(work_dir, log_of, model=dict(width=3))
        assert {path: path.read_bytes() for path in work_dir.glob('*.pth')} == before

    @pytest.mark.parametrize('before', [None, 2])
    def test_a_buffer_that_a_step_makes(self, before, tmp_path, log_of):
        """Or resizes: mmengine resumes such a run, so it is of the same model."""
        def begin(step=None, **settings):
            runner = long_run(tmp_path, ema=False, kill=Kill(step=step, do=grow), **settings, **ALL)
            if before:
                runner.model.norm.register_buffer('angles', torch.zeros(before))
            return runner

        def grow():
            runner.model.norm.register_buffer('angles', torch.zeros(3))

        runner = begin(step=2, epochs=2)
        runner.train()
        model = begin().model
        check_resumable(tmp_path / 'epoch_1.pth', model)
        runner = begin(resume=True)
        told = log_of(runner)
        runner.train()
        assert runner._load_from == str(tmp_path / 'epoch_2.pth')
        assert not any(line.startswith('Not resumed') for line in told)
        model.layer = torch.nn.Linear(8, 2, bias=False)
        with pytest.raises(ValueError, match=r'of another model: 1 of the . tensors differ \(layer\.bias\)'):
            check_resumable(tmp_path / 'epoch_1.pth', model)

    def test_named_ones_are_checked_too(self, work_dir):
        model = long_run(work_dir.parent / 'x').model
        torch.save(dict(state_dict=model.state_dict()), work_dir / 'x.pth')
        with pytest.raises(ValueError, match=r'x\.pth holds weights only: it lacks optimizer, message_hub, meta, so'):
            long_run(work_dir, resume=True, load_from=str(work_dir / 'x.pth')).train()
        check_resumable(work_dir / 'epoch_1.pth', model)

    def test_an_earlier_run_in_the_folder(self, work_dir, log_of):
        """Killed before its first checkpoint, a new run is not taken for the old one, nor written over it."""
        runner = long_run(work_dir, kill=Kill(step=2), **ALL)
        told = log_of(runner)
        with pytest.raises(KilledError):
            runner.train()
        assert any(f'{work_dir} holds checkpoints of an earlier run: epoch_1.pth, epoch_2.pth.' in line
                   for line in told)
        with pytest.raises(ValueError, match=rf'epoch_2\.pth is of an earlier run .*, name it in --resume {work_dir}/'
                           r'epoch_2\.pth\. This run has no whole checkpoint: to start it anew'):
            resume(work_dir, log_of)
        # Once it has one of its own, that is taken, and the others are told of.
        with pytest.raises(KilledError):
            long_run(work_dir, kill=Kill(step=STEPS + 1), **ALL).train()
        taken, told, _ = resume(work_dir, log_of)
        assert taken == str(work_dir / 'epoch_1.pth')
        assert [line.endswith(f'name it in --resume {work_dir}/epoch_2.pth.') for line in told] == [True]
        assert torch.load(work_dir / 'epoch_2.pth', weights_only=False)['meta']['iter'] == 2 * STEPS

    def test_a_run_of_mmengine_s_own_hook(self, tmp_path, log_of):
        """It is resumed, with a word that its random states are not known."""
        with pytest.raises(KilledError):
            long_run(tmp_path, kind='CheckpointHook', kill=Kill(step=7), **ALL).train()
        runner = long_run(tmp_path, resume=True, kill=Kill(step=6), **ALL)
        told = log_of(runner)
        with pytest.raises(KilledError):
            runner.train()
        assert any('holds no random states' in line for line in told)
        # Still before its own first checkpoint.
        assert resume(tmp_path, log_of)[0] == str(tmp_path / 'epoch_1.pth')


class Mine:
    """What a hook of one's own may put into a checkpoint."""


@pytest.mark.skipif(not HAS_SAFE_GLOBALS, reason='PyTorch 2.5 and later have lists of classes that may be read')
def test_objects_of_one_s_own(tmp_path, log_of):
    """Are told of after the first checkpoint; a run is not begun anew for them, and goes on once they are allowed."""
    class Puts(Kill):
        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint['mine'] = Mine()

    runner = long_run(tmp_path, kill=Puts(step=2 * STEPS + 1), **ALL)
    told = log_of(runner)
    with pytest.raises(KilledError):
        runner.train()
    assert len([line for line in told if 'Mine, and unpickling' in line and line.endswith('go on from it.')]) == 1
    for source in (None, str(tmp_path / 'epoch_2.pth')):
        with pytest.raises(ValueError, match=r'Mine, and unpickling .* with custom_imports names it in torch\.seria'):
            long_run(tmp_path, resume=True, load_from=source, **ALL).train()
    with torch.serialization.safe_globals([Mine]):
        assert resume(tmp_path, log_of)[0] == str(tmp_path / 'epoch_2.pth')


@pytest.mark.parametrize('template', ['e{:03d}.pth', 'kept/{}_epochs.pth'])
def test_any_template_of_names(template, tmp_path, log_of):
    """Without what names the last one."""
    settings = dict(hook=dict(filename_tmpl=template, max_keep_ckpts=-1))
    with pytest.raises(KilledError):
        long_run(tmp_path, kill=Kill(step=2 * STEPS + 1), **settings).train()
    (tmp_path / 'last_checkpoint').unlink()
    assert resume(tmp_path, log_of, **settings)[:2] == (str(tmp_path / template.format(2)), [])
    assert (tmp_path / template.format(3)).is_file()


def test_without_the_optimizer(tmp_path, log_of):
    """Whose state `save_optimizer=False` leaves out: resumed as mmengine's own hook resumes it."""
    found = []
    for kind in ('CheckpointHook', 'LongRunHook'):
        settings = dict(kind=kind, ema=False, model=dict(dropout=0.), data=dict(noise=False),
                        hook=dict(save_optimizer=False, save_best=None))
        with pytest.raises(KilledError):
            long_run(tmp_path / kind, kill=Kill(step=10), **settings).train()
        runner = long_run(tmp_path / kind, resume=True, **settings)
        told = log_of(runner)
        runner.train()
        found.append((tensors(runner), files(tmp_path / kind)))
    assert not different(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert not any('NOTHING TO RESUME' in line for line in told)
    assert any('no state of the optimizer' in line for line in told)


def test_what_others_save(tmp_path, log_of):
    """Is not taken for what was saved before."""
    runner = long_run(tmp_path, kill=Kill(step=6, do=lambda: runner.save_checkpoint(
        str(tmp_path), 'mine.pth', meta=dict(epoch=1, iter=6))), **ALL)
    runner.train()
    resumed = long_run(tmp_path / 'b', resume=True, load_from=str(tmp_path / 'mine.pth'), **ALL)
    told = log_of(resumed)
    resumed.train()
    assert any('holds no random states' in line for line in told)


def test_another_run_s_stop_stays(trained, tmp_path):
    """Where a checkpoint of elsewhere is resumed in its folder."""
    with pytest.raises(SystemExit):
        long_run(tmp_path, kill=Kill(step=2, do=lambda: signal.raise_signal(signal.SIGTERM)), **ALL).train()
    long_run(tmp_path, resume=True, load_from=str(trained[0] / 'epoch_2.pth'), **ALL).train()
    assert files(tmp_path) == ['epoch_3.pth', 'stopped_iter_2.pth']


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    runner = long_run(tmp_path_factory.mktemp('undisturbed'))
    runner.train()
    return tensors(runner), files(tmp_path_factory.getbasetemp() / runner.work_dir.rpartition('/')[2])


@pytest.mark.slow
@pytest.mark.parametrize('number', [0, 3, 8, 14, 18])
def test_killed_while_it_writes(number, undisturbed, tmp_path):
    """One checkpoint is kept, so at each of these moments it must be whole. Beside it lies nothing in the end."""
    assert killed_at_file(number, tmp_path)
    runner = long_run(tmp_path, resume=True)
    runner.train()
    assert not different(tensors(runner), undisturbed[0])
    assert files(tmp_path) == undisturbed[1]


class TestFullDisk:
    """A limit of the size of files stands for it: the error comes from the system, in the middle of a write."""

    @pytest.fixture
    def limit(self):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    def test_that_is_emptied_again(self, limit, undisturbed, tmp_path, log_of):
        """The older checkpoint stays meanwhile, the best one too, and the run ends as if nothing had been."""
        class Room(Kill):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                if runner.iter == STEPS:
                    limit(4096)
                if runner.iter == 2 * STEPS:
                    seen.extend([files(tmp_path), last_checkpoint(tmp_path).name])
                    check_resumable(tmp_path / 'epoch_1.pth', runner.model)
                    limit(resource.RLIM_INFINITY)

        seen = []
        runner = long_run(tmp_path, kill=Room())
        told = log_of(runner)
        runner.train()
        assert seen == [['best_acc_epoch_1.pth', 'epoch_1.pth'], 'epoch_1.pth']
        assert any('epoch_2.pth could not be written: File too large. The older' in line for line in told)
        assert not different(tensors(runner), undisturbed[0])
        assert 'epoch_3.pth' in files(tmp_path)
        assert 'epoch_1.pth' not in files(tmp_path)

    def test_at_the_start(self, limit, tmp_path, log_of, capfd):
        """The run is noted as soon as it can be, and what cannot be logged or drawn is told once."""
        class Room(Kill):
            def before_train(self, runner):
                limit(16)

            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                runner.logger.error('a line of the log')
                runner.visualizer.add_image('x', None)
                if runner.iter == 1:
                    assert not (tmp_path / 'run.json').exists()
                    limit(resource.RLIM_INFINITY)

        runner = long_run(tmp_path, kill=Room(), ema=False)
        # As TensorBoard's, which tells at its end what its thread could not write.
        runner.visualizer.add_image = runner.visualizer.close = Mock(side_effect=OSError(28, 'No space left'))
        told = log_of(runner)
        runner.train()
        assert Run.read(tmp_path).name == torch.load(tmp_path / 'epoch_3.pth', weights_only=False)[STATE]['run']
        for found in ('run.json in ', 'Values or pictures (add_image) could not be', '.log could not be written: '):
            assert len([line for line in told if found in line]) == 1, (found, told)
        assert 'Logging error' not in capfd.readouterr().err

    def test_the_first_best_one(self, limit, tmp_path, monkeypatch):
        """What is not there is no best one: the next is."""
        scores = iter([3., 2., 1.])
        monkeypatch.setattr(Scores, 'compute_metrics', lambda *_: dict(acc=next(scores)))

        class Room(Kill):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                if runner.iter + 1 in (STEPS, STEPS + 1):
                    limit(4096 if runner.iter + 1 == STEPS else resource.RLIM_INFINITY)

        long_run(tmp_path, kill=Room()).train()
        assert files(tmp_path) == ['best_acc_epoch_2.pth', 'epoch_3.pth']

    def test_to_the_end(self, limit, tmp_path):
        runner = long_run(tmp_path, kill=Kill(step=2 * STEPS + 1, do=lambda: limit(4096)))
        with pytest.raises(UnsavedError, match=r'last checkpoint is missing: .*epoch_3\.pth could not be written: F'):
            runner.train()
        assert 'epoch_2.pth' in files(tmp_path)


def test_what_a_checkpoint_holds_is_mmengine_s(trained):
    """And one part more."""
    assert CheckpointHook.priority == 'VERY_LOW'
    content = torch.load(trained[0] / 'epoch_2.pth', weights_only=False)
    assert set(content) == {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers', 'ema_state_dict',
                            STATE}


def test_a_pointer_to_another_drive(tmp_path, monkeypatch):
    """As Windows has them."""
    with pytest.raises(ValueError, match='mount') as told:
        ntpath.relpath('D:\\x.pth', 'C:\\work')
    monkeypatch.setattr(os.path, 'relpath', Mock(side_effect=told.value))
    (tmp_path / 'x.pth').touch()
    note_last(tmp_path, str(tmp_path / 'x.pth'))
    assert last_checkpoint(tmp_path) == tmp_path / 'x.pth'


class Remote(BaseStorageBackend):
    """A storage of another machine, as far as checkpoints are written to it."""

    def get(self, filepath):
        raise NotImplementedError

    get_text = get

    def put(self, obj, filepath):
        stored.append(filepath)

    def join_path(self, filepath, *filepaths):
        return '/'.join([filepath, *filepaths])


stored = []


def test_stopped_with_a_remote_storage(tmp_path):
    register_backend('elsewhere', Remote, prefixes='elsewhere', force=True)
    FileClient.register_backend('elsewhere', Remote, prefixes='elsewhere', force=True)
    with pytest.raises(SystemExit):
        long_run(tmp_path / 'a', kill=Kill(step=2, do=lambda: signal.raise_signal(signal.SIGTERM)), hook=dict(
            out_dir='elsewhere://bucket', max_keep_ckpts=-1, save_best=None)).train()
    assert stored == ['elsewhere://bucket/a/stopped_iter_2.pth']
    assert (tmp_path / 'a/last_checkpoint').read_text() == stored[0]


def test_wrappers_that_count_by_themselves():
    """As DeepSpeed's does, which is none of mmengine's `OptimWrapper`."""
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), optim_wrapper=object(), train_dataloader=None, hooks=[])
    assert collect_state(runner, 'x', 0, False)['gradients'] == {}
