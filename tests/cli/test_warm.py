"""A fork of a process that has the libraries imported does what a process of its own does."""

import os
import subprocess
import sys

import pytest

from tests.helpers.tools import ROOT, warm

SCRIPT = """
import atexit, os, random, sys
atexit.register(print, 'the end')
print(sys.argv, __name__, os.getcwd(), os.environ.get('A_NAME'), sys.path[0])
print('to the other stream', file=sys.stderr)
if 'number' in sys.argv:
    print(random.random())
if 'sentence' in sys.argv:
    sys.exit('a sentence')
if 'code' in sys.argv:
    sys.exit(7)
if 'error' in sys.argv:
    raise ValueError('an error')
if 'signal' in sys.argv:
    os.kill(os.getpid(), 15)
"""


def both(path, *arguments, **environment):
    """What a process of its own does, and what a fork does."""
    commands = [sys.executable, path, *arguments], warm().command(path, *arguments)
    found = [subprocess.run(command, cwd=path.parent, text=True, capture_output=True, timeout=120, check=False,
                            env={**os.environ, **environment}) for command in commands]
    return [(done.returncode % 256, done.stdout, done.stderr.splitlines()[-1:]) for done in found]


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'script.py'
    path.write_text(SCRIPT)
    return path


@pytest.mark.slow
@pytest.mark.parametrize('argument', ['nothing', 'sentence', 'code', 'error'])
def test_same_as_a_process(script, argument):
    own, forked = both(script, argument, 'ünd', A_NAME='x')
    assert own == forked
    assert own[1].endswith('the end\n')


@pytest.mark.slow
def test_signal(script):
    own, forked = both(script, 'signal')
    # A shell's number for a process that a signal ended.
    assert (own[0], forked[0]) == (-15 % 256, 128 + 15)


@pytest.mark.slow
def test_random_numbers_differ(script):
    found = {line for _ in range(2) for line in both(script, 'number')[1][1].splitlines()[1:2]}
    assert len(found) == 2


@pytest.mark.slow
def test_a_tool(tool):
    arguments = 'train.py', ROOT / 'configs' / 'mmdet' / 'nowhere.py'
    assert tool(*arguments, expect=1) == tool(*arguments, expect=1, cold=True)
