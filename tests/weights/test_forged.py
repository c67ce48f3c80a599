"""Files that lie: they end in a sentence, and neither in a crash nor in a process that eats the machine."""

import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from focalnet_mm.weights import read_checkpoint
from tests.helpers.tools import ROOT


def pickled(*operations):
    """A checkpoint's pickle of operations, as only a forger writes it."""
    return b'\x80\x02' + b''.join(operations) + b'.'


def archive(path, content):
    """An archive of torch.save with another pickle."""
    torch.save({'w': torch.ones(1)}, path)
    with zipfile.ZipFile(path) as whole:
        entries = [(entry.filename, whole.read(entry)) for entry in whole.infolist()]
    with zipfile.ZipFile(path, 'w') as forged:
        for name, data in entries:
            forged.writestr(name, content if name.endswith('data.pkl') else data)


def of_global(module, name):
    return f'c{module}\n{name}\n'.encode()


def of_text(text):
    return b'X' + len(text).to_bytes(4, 'little') + text.encode()


def of_dtype(name, state=b''):
    """``numpy.dtype(name, False, True)``, with a state."""
    return of_global('numpy', 'dtype') + of_text(name) + b'\x89\x88\x87R' + state


def of_array(dtype, shape, data):
    """An array by numpy's reconstructor and its state."""
    return (of_global('numpy.core.multiarray', '_reconstruct') + of_global('numpy', 'ndarray') + b'K\x00\x85'
            + of_text('b') + b'\x87R(K\x01' + shape + dtype + b'\x89' + data + b'tb')


STATE = b'(K\x03' + of_text('|') + b'NNNK%cK\x01K%ctb'


@pytest.mark.parametrize(('name', 'content', 'message'), [
    ('objects', of_array(of_dtype('O8'), b'M\xff\x7f\x85', b']'), r'it holds numpy\.ndarray\[object\], and unpickl'),
    ('a flag of objects', of_array(of_dtype('u1', STATE % (1, 63)), b'M\xff\x7f\x85', b']'),
     r'it holds numpy\.ndarray\[object\], and unpickl'),
    ('another size', of_array(of_dtype('S1', STATE % (200, 0)), b'M\xff\x7f\x85', of_text('ab')), 'numpy|damaged'),
    ('no data type', of_dtype('i4,O'), 'damaged'),
    ('a scalar object', of_global('numpy.core.multiarray', 'scalar') + of_dtype('O8') + b'N\x86R', 'numpy'),
    ('many numbers', of_global('builtins', 'set') + of_global('builtins', 'range') + b'\x8a\x06\x00\x00\x00\x00\x00\x01'
     + b'\x85R\x85R', 'damaged'),
    ('many bytes', of_global('builtins', 'bytes') + b'\x8a\x06\x00\x00\x00\x00\x00\x01\x85R', 'damaged'),
    ('a getattr', of_global('builtins', 'getattr') + of_global('builtins', 'dict') + of_text('clear') + b'\x86R',
     r'it holds builtins\.getattr|getattr'),
    ('our own', of_global('focalnet_mm.weights.stand_ins', '_Array') + b'J\xff\xff\xff\x7f\x85\x81',
     r'it holds focalnet_mm\.weights\.stand_ins\._Array'),
    ('a module', of_global('subprocess', 'Popen') + of_text('touch ran') + b'\x85R', r'it holds subprocess\.Popen'),
])
def test_one_sentence(name, content, message, tmp_path):
    """In a process of its own, since some of these once crashed it."""
    archive(tmp_path / 'x.pth', pickled(b'}', of_text('w'), content, b's'))
    code = ('import sys; from focalnet_mm.weights import read_checkpoint\n'
            'try: print(read_checkpoint(sys.argv[1]))\nexcept ValueError as error: print("ValueError:", error)')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, tmp_path / 'x.pth'], cwd=ROOT, text=True,
                          capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match('ValueError: The checkpoint ', done.stdout), done.stdout
    assert re.search(message, done.stdout), done.stdout


def test_many_tensors_that_are_small_by_themselves(tmp_path):
    """2 TiB, in tensors of 256 MiB."""
    one = torch.zeros(1)
    torch.save({f'{i}': one.expand(1 << 26) for i in range(8192)}, tmp_path / 'x.pth')
    assert (tmp_path / 'x.pth').stat().st_size < 2_000_000
    with pytest.raises(ValueError, match=r'declares \d+ with shape \(67108864,\), with those before it more than its'):
        read_checkpoint(tmp_path / 'x.pth')


def test_tensors_that_share_are_no_forgery(tmp_path):
    shared = torch.randn(1000)
    state = {f'head.{i}.weight': shared for i in range(7)}
    torch.save(state, tmp_path / 'x.pth')
    assert len(read_checkpoint(tmp_path / 'x.pth')) == 7


class TestBits:

    def test_any_flipped_bit_of_a_tensor(self, tmp_path):
        torch.manual_seed(0)
        torch.save({'state_dict': {'a': torch.randn(300), 'b': torch.randn(40)}}, tmp_path / 'x.pth')
        whole = (tmp_path / 'x.pth').read_bytes()
        with zipfile.ZipFile(tmp_path / 'x.pth') as content:
            data = content.read('x/data/0')
        start = whole.index(data)
        random = np.random.default_rng(0)
        for bit in random.integers(0, 8 * len(data), 40):
            damaged = bytearray(whole)
            damaged[start + bit // 8] ^= 1 << bit % 8
            (tmp_path / 'x.pth').write_bytes(damaged)
            with pytest.raises(ValueError, match=r'x.pth is damaged: x/data/0 in it does not have the check sum that'):
                read_checkpoint(tmp_path / 'x.pth')

    @pytest.mark.skipif(not hasattr(torch.serialization, 'set_crc32_options'), reason='this PyTorch always writes them')
    def test_files_without_check_sums(self, tmp_path):
        """torch can be told to write none."""
        state = {'a': torch.randn(300), 'b': torch.randn(40)}
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(state, tmp_path / 'x.pth')
        finally:
            torch.serialization.set_crc32_options(True)
        found = read_checkpoint(tmp_path / 'x.pth')
        assert all(torch.equal(found[name], state[name]) for name in state)


LIMITED = '''
import resource, sys
from focalnet_mm.weights import read_checkpoint
import torch
size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)
try:
    read_checkpoint(sys.argv[1])
except OSError as error:
    print('OSError:', error)
'''


@pytest.mark.slow
@pytest.mark.parametrize('legacy', [False, True])
def test_too_little_memory_is_no_damage(legacy, tmp_path):
    torch.save({'a': torch.zeros(100_000_000)}, tmp_path / 'x.pth', _use_new_zipfile_serialization=not legacy)
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', LIMITED, tmp_path / 'x.pth'], cwd=ROOT, text=True,
                          capture_output=True, timeout=120, check=False)
    assert re.match(r'OSError: Memory ran out while the checkpoint \S+x.pth of 40000\d+ bytes was read: end other',
                    done.stdout), done.stdout + done.stderr


def test_a_model_that_torchscript_wrote(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'x.pth is a model that TorchScript wrote, whose code would run: give a file'):
        read_checkpoint(tmp_path / 'x.pth')


class Own:
    """Of no library."""


def test_a_class_of_anybodys(tmp_path):
    torch.save({'model': {'a': torch.ones(1)}, 'cfg': Own()}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'besides tensors it holds tests\.weights\.test_forged\.Own, and unpickling'):
        read_checkpoint(tmp_path / 'x.pth')
