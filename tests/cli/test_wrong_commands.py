"""A spread of the wrong command lines: `python -m tests.helpers.wrong_commands` runs all of them."""

import pytest

from tests.helpers import wrong_commands

SPREAD = ('train @', 'train @/x.png', 'train @/config.py --cfg-options lr', 'train @/config.py --cfg-options =3',
          'train @/config.py --resume=', 'train @/config.py --launcher pytorch',
          'train @/config.py --cfg-options default_hooks.checkpoint.intervall=2',
          'train @/config.py --cfg-options default_hooks.checkpoint.out_dir=@/x.png',
          'train @/config.py --work-dir @/x.png',
          'train @/config.py --cfg-options optim_wrapper.optimizer.type=AdanW',
          'train @/config.py --cfg-options train_dataloader.sampler.type=DefaultSample',
          'train @/config.py --cfg-options train_cfg.max_epochs=many', 'train @/config.py --epochs 3',
          'train @/config.py --work-dir /proc/nothing',
          'train @/config.py --resume @/x.pth', 'test @/config.py @/x.pth --out @/x.json',
          'predict @/config.py @/x.pth @/x.png --out @/x.png', 'export @/config.py @/x.pth --to onx --out @/x.onnx',
          'export @/config.py @/x.pth --to torchscript --out /proc/x.pt',
          'convert @/x.pth @/y.pth --to mmm', 'new @/nowhere --out @/project', 'trane @/config.py')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return wrong_commands.prepare(tmp_path_factory.mktemp('wrong'))


@pytest.mark.parametrize('line', SPREAD)
def test_one_sentence(line, folder):
    assert wrong_commands.fault(line, folder)[0] is None


@pytest.mark.parametrize('line', [
    line for line, words in wrong_commands.LINES.items() if 'is what is read' in str(words)])
def test_nothing_that_is_read_is_replaced(line, folder):
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert wrong_commands.fault(line, folder)[0] is None
    assert {path: path.read_bytes() for path in before} == before


def test_a_fault_is_seen(folder, monkeypatch):
    """A line that works, a traceback and another sentence."""
    for line, expected, why in (('config', 'x', 'status 0'), ('grid @/x.png --out @/y.txt', None, 'status 1'),
                                ('grid @/x.png --out @/y.txt', 'nothing of it', 'another sentence')):
        monkeypatch.setitem(wrong_commands.LINES, line, expected)
        assert wrong_commands.fault(line, folder)[0] == why
    monkeypatch.setattr('focalnet_mm.cli.run', lambda *_: 1 / 0)
    assert wrong_commands.fault('train', folder)[0] == 'a traceback'
