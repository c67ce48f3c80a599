"""Pickles of arrays as detectron2 publishes them: read as Python's own pickle reads them, without running anything."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from focalnet_mm import FocalNet
from focalnet_mm.weights import convert, load_into, read_checkpoint
from focalnet_mm.weights.numpy_pickles import is_numpy_pickle, read_numpy_pickle


def arrays():
    random = np.random.default_rng(0)
    return {'a.weight': random.standard_normal((3, 4)).astype('f4'), 'b': np.arange(6, dtype='i8').reshape(2, 3),
            'fortran': np.asfortranarray(random.standard_normal((3, 4))), 'big': np.arange(4, dtype='>f4'),
            'half': np.ones((2, 0), 'f2'), 'flag': np.array([True, False]), 'number': np.array(3.0, 'f8')}


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('kind', [dict, OrderedDict])
def test_equal_to_pickle(tmp_path, protocol, kind):
    content = {'model': kind(arrays()), '__author__': 'somebody', 'matching_heuristics': True, 'iteration': 3,
               'scalar': np.float32(0.5), 'more': [(1, 2.5, None), {'x': b'yz'}]}
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(content, protocol))
    found = read_checkpoint(tmp_path / 'x.pkl')
    assert list(found) == list(arrays())
    for name, expected in arrays().items():
        assert found[name].dtype == torch.from_numpy(expected.astype(expected.dtype.newbyteorder('='))).dtype
        assert np.array_equal(found[name].numpy(), expected), name
        assert found[name].is_contiguous()


@pytest.mark.parametrize('protocol', [2, 4])
def test_focalnet(tmp_path, protocol, same):
    """A backbone as detectron2's checkpointer would publish it."""
    source = FocalNet('tiny-srf', embed_dims=8)
    state = {f'backbone.{name}': tensor.numpy() for name, tensor in source.state_dict().items()}
    (tmp_path / 'model_final.pkl').write_bytes(pickle.dumps({'model': state, '__author__': 'x'}, protocol))
    net = FocalNet('tiny-srf', embed_dims=8)
    report = load_into(net, tmp_path / 'model_final.pkl')
    assert not report.new
    assert not report.unused
    same(net.state_dict(), source.state_dict())
    same(convert(read_checkpoint(tmp_path / 'model_final.pkl'), 'official'),
         convert(source.state_dict(), 'official'))


@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_what_torch_wrote_long_ago(tmp_path, protocol):
    path = tmp_path / 'x.pth'
    torch.save({'a': torch.ones(2)}, path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    assert not is_numpy_pickle(path)
    if protocol == 2:
        assert read_checkpoint(path).keys() == {'a'}


class Call:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize(('make', 'name'), [
    (lambda folder: Call(os.system, (f'touch {folder}/ran',)), r'\w+\.system'),
    (lambda folder: Call(eval, ('1',)), r'\w+\.eval'),
    (lambda folder: Call(getattr, (dict, 'clear')), r'\w+\.getattr'),
    (lambda folder: np.array([object()]), r'numpy\.ndarray\[O8\]'),
    (lambda folder: pytest.ExceptionInfo.__new__(pytest.ExceptionInfo), r'\S+'),
])
def test_nothing_runs(tmp_path, protocol, make, name):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps({'model': {'a': arrays()['b'], 'b': make(tmp_path)}}, protocol))
    with pytest.raises(ValueError, match=rf'x\.pkl was not read: besides tensors it holds {name}, and unpickling that'):
        read_checkpoint(tmp_path / 'x.pkl')
    assert not (tmp_path / 'ran').exists()


def forged():
    """Pickles that would be large in memory, or say something else than they hold."""
    content = pickle.dumps({'model': {'a': np.zeros(1000)}}, 4)
    yield content.replace(b'M\xe8\x03\x85', b'M\xe9\x03\x85')
    yield b'\x80\x04' + b'(' * 100_000 + b'.'
    yield b'\x80\x04' + b']' * 300_000 + b'.'
    yield b'\x80\x04\x8e' + (1 << 60).to_bytes(8, 'little') + b'x.'
    yield b'\x80\x04.'


@pytest.mark.parametrize('content', list(forged()))
def test_forged(tmp_path, content):
    (tmp_path / 'x.pkl').write_bytes(content)
    with pytest.raises(ValueError, match=r'x\.pkl'):
        read_checkpoint(tmp_path / 'x.pkl')


def test_the_same_bytes_again_and_again(tmp_path):
    array = b''.join([b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R',
                      b'(K\x01K\xff\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R\x89h\x00tb'])
    path = tmp_path / 'x.pkl'
    for count in (1, 1000):
        path.write_bytes(b'\x80\x03C\xff' + bytes(255) + b'q\x00' + b'(' + array * count + b't.')
        if count == 1:
            assert len(read_numpy_pickle(path)[0]) == 255
        else:
            with pytest.raises(pickle.UnpicklingError, match='more bytes of arrays than the file has'):
                read_numpy_pickle(path)


def test_whatever_the_damage(tmp_path):
    """One sentence about the file, or its tensors, whichever bytes are wrong."""
    random = np.random.default_rng(0)
    whole = pickle.dumps({'model': arrays(), '__author__': 'x'}, 4)
    path, sentences = tmp_path / 'x.pkl', []
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(bytes(damaged[:random.integers(1, len(whole) + 1)] if random.random() < 0.3 else damaged))
        try:
            found = read_checkpoint(path)
        except ValueError as error:
            sentences.append(str(error))
        else:
            assert sum(tensor.nbytes for tensor in found.values()) <= len(whole)
    assert len(sentences) > 100
    assert all(str(path) in sentence for sentence in sentences)
