"""The command line itself: what there is, what it says of itself, and that tools/ is the same."""

import argparse
import importlib
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from mmengine.config import Config

import focalnet_mm
from focalnet_mm import cli
from focalnet_mm.zoo.rows import read_zoo
from tests.helpers.tools import ROOT

# What is typed after focalnet-mm → its module.
COMMANDS = {words: module for word, found in cli.COMMANDS.items() for words, module in (
    {word: found} if isinstance(found, str) else {f'{word} {sub}': name for sub, name in found.items()}).items()}
SCRIPTS = sorted(path.name for path in (ROOT / 'tools').glob('*.py'))


def printed(capsys, *words, status=0):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    assert ended.value.code == status
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.slow
def test_the_script_is_installed():
    script = Path(sys.executable).with_name('focalnet-mm')
    for command in ([script], [sys.executable, '-m', 'focalnet_mm']):
        done = subprocess.run([*command, '--version'], text=True, capture_output=True, check=True)
        assert done.stdout == f'focalnet-mm {focalnet_mm.__version__}\n'


def test_one_warning_of_the_libraries_is_hidden(monkeypatch):
    """mmengine's, which it repeats for each config; here and in processes that are started."""
    said = 'pkg_resources is deprecated as an API. See'
    monkeypatch.setenv('PYTHONWARNINGS', 'error::DeprecationWarning')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        cli.hide_deprecation()
        cli.hide_deprecation()
        for text in (said, 'another'):
            warnings.warn(text, UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ['another']
    assert os.environ['PYTHONWARNINGS'].count('pkg_resources') == 1
    # Python 3.13 shows the line of a warning here too.
    code = f'import warnings\nwarnings.warn({said!r}, DeprecationWarning)\nwarnings.warn("another")'
    done = subprocess.run([sys.executable, '-S', '-c', code], text=True, capture_output=True, check=True)
    assert said not in done.stderr
    assert 'another' in done.stderr


def test_help_lists_every_command(capsys):
    text = re.sub(r'\s+', ' ', printed(capsys, '--help'))
    for word in cli.COMMANDS:
        assert re.search(rf' {word} [A-Z]', text), word
    assert text == re.sub(r'\s+', ' ', printed(capsys))
    text = re.sub(r'\s+', ' ', printed(capsys, 'zoo', '--help'))
    assert all(re.search(rf' {word} [A-Z]', text) for word in cli.COMMANDS['zoo'])


def test_unknown_command(capsys):
    assert "invalid choice: 'trian' (choose from" in printed(capsys, 'trian', status=2)
    assert "invalid choice: 'nothing'" in printed(capsys, 'zoo', 'nothing', status=2)


@pytest.mark.parametrize('words', COMMANDS)
def test_help_is_complete(words, capsys):
    """It says what the command does and what each of its arguments means."""
    command = importlib.import_module(f'focalnet_mm.cli.{COMMANDS[words]}')
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    text = printed(capsys, *words.split(), '--help')
    assert text.startswith(f'usage: focalnet-mm {words} ')
    assert command.__doc__.strip() in text
    for action in parser._actions:
        assert action.help, action.dest
        if action.help != argparse.SUPPRESS:
            assert (action.option_strings or [action.metavar or action.dest])[0] in text
        # A default that matters is said.
        if action.help != argparse.SUPPRESS and isinstance(action.default, (int, float)) and not isinstance(
                action.default, bool):
            assert '(default: ' in action.help or 'in seconds' in action.help, action.dest


@pytest.mark.parametrize('words', COMMANDS)
def test_wrong_arguments_end_in_usage(words, capsys):
    text = printed(capsys, *words.split(), '--no-such-flag', status=2)
    assert f'focalnet-mm {words}: error: ' in text
    assert 'Traceback' not in text


def test_every_tool_is_a_command():
    modules = set(COMMANDS.values())
    called = {name: re.search(r"run\('(\w+)'\)", (ROOT / 'tools' / name).read_text())[1] for name in SCRIPTS}
    assert set(called.values()) == modules - {'config'}


def bash(line, folder, **environment):
    """Run a line of bash in which $F is the command; returns the status, and what came on both streams."""
    done = subprocess.run(['bash', '-o', 'pipefail', '-c', line], cwd=folder, text=True, capture_output=True,
                          timeout=300, check=False,
                          env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment,
                               'F': f'{sys.executable} -W ignore -m focalnet_mm'})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
class TestOutput:

    @pytest.mark.parametrize('unbuffered', ['', '1'])
    def test_that_nobody_reads_to_its_end(self, unbuffered, tmp_path):
        _, out, err = bash('$F config | head -1', tmp_path, PYTHONUNBUFFERED=unbuffered)
        assert out.startswith('FocalNet Mask R-CNN')
        assert not err

    def test_that_is_closed(self, tmp_path):
        """The work is done all the same."""
        assert bash('$F shapes x --train 1 --val 1 --size 32 >&-', tmp_path) == (0, '', '')
        assert (tmp_path / 'x' / 'shapes.json').is_file()

    def test_another_broken_pipe_is_told(self, tmp_path, monkeypatch):
        """One of a logger or a hook, for example."""
        (tmp_path / 'broken.py').write_text(
            'from focalnet_mm import cli\nfrom focalnet_mm.cli import shapes\n'
            'def main(args, parser):\n    raise BrokenPipeError(32, "of a logger")\n'
            'shapes.main = main\ncli.main(["shapes", "x"])\n')
        status, _, err = bash(f'{sys.executable} -W ignore broken.py', tmp_path)
        assert status == 1
        assert err.endswith('BrokenPipeError: [Errno 32] of a logger\n')

    def test_children_do_not_import_what_lies_about(self, tmp_path):
        (tmp_path / 'yaml.py').write_text('raise RuntimeError("not me")')
        # The console script itself does not either.
        script = Path(sys.executable).with_name('focalnet-mm')
        status, _, err = bash(f'{script} benchmark --models focalnet-mm --sizes 32x32:1:3 --steps inference '
                              '--repeats 1 --device cpu --out b', tmp_path)
        assert status == 0, err


class TestConfig:

    def test_lists_all(self, capsys):
        cli.main(['config'])
        text = capsys.readouterr().out
        named = {line.split()[0] for line in text.splitlines() if line.startswith('  ')}
        assert named == {path.stem for path in (ROOT / 'configs').glob('*/*.py')}
        for row in read_zoo(ROOT):
            line = next(line for line in text.splitlines() if line.split()[:1] == [row.name])
            for result in row.results.values():
                assert all(f'{metric} {value:.1f}' in line for metric, value in result.items())

    @pytest.mark.slow
    @pytest.mark.parametrize('path', sorted((ROOT / 'configs').glob('*/*.py')), ids=lambda path: path.stem)
    def test_what_is_written_is_the_same_config(self, path, tmp_path, capsys):
        """For every shipped config: read from its new place it says what the shipped one says, without the checkout."""
        cli.main(['config', path.stem, '--out', str(tmp_path / 'mine')])
        assert f'Train it: focalnet-mm train {tmp_path}/mine/{path.name}' in capsys.readouterr().out
        found, shipped = Config.fromfile(tmp_path / 'mine' / path.name), Config.fromfile(path)
        assert found.to_dict() == shipped.to_dict()
        for file in (tmp_path / 'mine').rglob('*.py'):
            assert str(ROOT) not in file.read_text()
            assert '../' not in file.read_text()

    def test_nothing_is_overwritten(self, tmp_path, capsys):
        (tmp_path / '_base_').mkdir()
        (tmp_path / '_base_' / 'schedule_1x.py').write_text('mine = 1\n')
        text = printed(capsys, 'config', 'maskrcnn_focalnet_b_1x', '--out', str(tmp_path),
                       status=f'focalnet-mm config: {tmp_path}/_base_/schedule_1x.py is there already: name another '
                              'folder with --out, or add --force.')
        assert not text
        assert [path.name for path in tmp_path.rglob('*.py')] == ['schedule_1x.py']
        cli.main(['config', 'maskrcnn_focalnet_b_1x', '--out', str(tmp_path), '--force'])
        assert 'mine' not in (tmp_path / '_base_' / 'schedule_1x.py').read_text()

    def test_several_share_what_they_inherit(self, tmp_path):
        for name in ('maskrcnn_focalnet_t_1x', 'maskrcnn_focalnet_s_1x'):
            cli.main(['config', name, '--out', str(tmp_path)])
        base = tmp_path / '_base_' / 'schedule_1x.py'
        base.write_text(base.read_text() + '# mine')
        with pytest.raises(SystemExit, match=r'schedule_1x\.py is there already'):
            cli.main(['config', 'maskrcnn_focalnet_b_1x', '--out', str(tmp_path)])
        assert not (tmp_path / 'maskrcnn_focalnet_b_1x.py').exists()

    def test_name_alone_says_where_it_is(self, capsys):
        cli.main(['config', 'configs/mmdet/maskrcnn_focalnet_b_1x.py'])
        *_, row, path = capsys.readouterr().out.splitlines()
        assert 'maskrcnn_focalnet_b_1x' in row
        assert Path(path).samefile(ROOT / 'configs/mmdet/maskrcnn_focalnet_b_1x.py')

    def test_unknown_name(self, capsys):
        with pytest.raises(SystemExit, match=r'No shipped config is named maskrcnn_focalnet_b_2x: did you mean '
                           r'maskrcnn_focalnet_b_[13]x'):
            cli.main(['config', 'maskrcnn_focalnet_b_2x'])
        with pytest.raises(SystemExit, match='is named nothing; `focalnet-mm config` lists them'):
            cli.main(['config', 'nothing'])
