"""The reader for PyTorch before 2.5, beside any PyTorch: what it reads, and what it refuses."""

import io
import random
import tarfile

import pytest
import torch
from mmengine.runner import save_checkpoint

from focalnet_mm.weights import pickles, read_checkpoint
from focalnet_mm.weights.restricted import load_restricted
from focalnet_mm.weights.stand_ins import NAMED
from tests.weights.test_forged import archive, of_global, of_text, pickled
from tests.weights.test_runs import equal, tree


@pytest.fixture(autouse=True)
def _older_torch(monkeypatch):
    monkeypatch.setattr(pickles, 'HAS_SAFE_GLOBALS', False)


@pytest.mark.parametrize('seed', range(100, 120))
def test_any_meta(seed, tmp_path):
    """What an unrestricted reader finds is found."""
    pick = random.Random(seed)
    meta = dict(zip('abcdef', (tree(pick, 4) for _ in range(6))))
    save_checkpoint(dict(meta=meta, state_dict=dict(w=torch.ones(2))), str(tmp_path / 'x.pth'))
    expected = torch.load(tmp_path / 'x.pth', weights_only=False)['meta']
    assert equal(pickles.load_pickle(tmp_path / 'x.pth')['meta'], expected)


@pytest.mark.parametrize('archived', [True, False])
def test_tensors_of_all_kinds(archived, tmp_path):
    whole = torch.randn(6, 4)
    state = dict(view=whole[1:4, ::2], again=whole, parameter=torch.nn.Parameter(torch.randn(3)),
                 sparse=torch.eye(3).to_sparse(), quantised=torch.quantize_per_tensor(whole, 0.1, 3, torch.qint8),
                 named=torch.zeros(2, dtype=torch.bool), **{
                     str(kind): torch.ones(2).to(kind) for kind in (torch.bfloat16, torch.uint8, torch.complex64)})
    torch.save(state, tmp_path / 'x.pth', _use_new_zipfile_serialization=archived)
    found = pickles.load_pickle(tmp_path / 'x.pth')
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        read = found[name]
        assert (type(read), read.dtype, read.shape) == (type(tensor), tensor.dtype, tensor.shape)
        dense = [(each.dequantize() if each.is_quantized else each).to_dense() for each in (read, tensor)]
        assert torch.equal(*dense), name


RAN = of_text('touch ran')
FUNCTION = of_global('torch._utils', '_rebuild_tensor_v2')


@pytest.mark.parametrize('content', [
    of_global('os', 'system') + RAN + b'\x85R',
    of_global('builtins', 'eval') + RAN + b'\x85R',
    of_text('os') + of_text('system') + b'\x93' + RAN + b'\x85R',
    b'(' + RAN + b'ios\nsystem\n',
    b'(' + FUNCTION + b'o',
    FUNCTION + b'}' + of_text('__code__') + of_text('x') + b'sb',
    FUNCTION + b'N}' + of_text('__defaults__') + b')s\x86b',
    of_global('focalnet_mm.weights.stand_ins', '_refuse') + RAN + b'\x85R',
    of_global('numpy', 'dtype') + of_text('a') + b'a',
    of_global('collections', 'OrderedDict') + of_text('a') + of_text('b') + b's',
    of_global('subprocess', 'Popen') + b')\x81',
    b'c__builtin__\neval\n' + RAN + b'\x85R',
    of_global('builtins', 'set') + b')R' + of_text('a') + b'a',
    of_text('storage') + b'Q',
    b'\x82\x01',
], ids=range(15))
def test_what_would_run_or_change_code(content, tmp_path, monkeypatch):
    """Without the search for such operations that files go through before."""
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / 'x.pth', pickled(b'}', of_text('w'), content, b's'))
    before = (torch._utils._rebuild_tensor_v2.__code__, torch._utils._rebuild_tensor_v2.__defaults__)
    with pytest.raises(Exception):  # noqa: B017, PT011
        load_restricted(tmp_path / 'x.pth', NAMED, 'cpu', False)
    assert not (tmp_path / 'ran').exists()
    assert (torch._utils._rebuild_tensor_v2.__code__, torch._utils._rebuild_tensor_v2.__defaults__) == before
    with pytest.raises(ValueError, match=r'^The checkpoint \S+x\.pth'):
        read_checkpoint(tmp_path / 'x.pth')


def test_archives_of_the_first_releases(tmp_path):
    """Those that newer restricted readers refuse too."""
    with tarfile.open(tmp_path / 'x.pth', 'w') as tar:
        for name in ('storages', 'tensors', 'pickle'):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ValueError, match=r'x\.pth \(\d+ bytes\) is damaged or not a PyTorch checkpoint'):
        read_checkpoint(tmp_path / 'x.pth')
