"""Reading checkpoints: files, folders, wrappers, damage."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file

from focalnet_mm.weights import convert, read_checkpoint, select_backbone


class TestRead:

    @pytest.mark.parametrize('wrapper', [None, 'model', 'state_dict'])
    @pytest.mark.parametrize('legacy', [False, True])
    def test_pth(self, tmp_path, wrapper, legacy):
        state = {'a': torch.randn(3), 'b.c': torch.randn(2, 2)}
        torch.save(state if wrapper is None else {wrapper: state, 'epoch': 3}, tmp_path / 'x.pth',
                   _use_new_zipfile_serialization=not legacy)
        found = read_checkpoint(tmp_path / 'x.pth')
        assert list(found) == list(state)
        assert all(torch.equal(found[name], state[name]) for name in state)

    def test_safetensors(self, tmp_path):
        save_file({'a': torch.arange(3.)}, tmp_path / 'x.safetensors')
        assert torch.equal(read_checkpoint(str(tmp_path / 'x.safetensors'))['a'], torch.arange(3.))

    def test_history_of_a_training_run(self, tmp_path):
        history = HistoryBuffer()
        history.update(np.float64(0.5), 2)
        history.update(1)
        torch.save(dict(state_dict={'a': torch.ones(1)}, meta=dict(epoch=np.int64(3), loss=np.float32(0.1)),
                        message_hub=dict(log_scalars={'train/loss': history}, runtime_info={'iter': 3})),
                   tmp_path / 'x.pth')
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'), 'cpu')
        assert loaded['message_hub']['log_scalars']['train/loss'].data[0].tolist() == [0.5, 1]
        assert list(read_checkpoint(tmp_path / 'x.pth')) == ['a']

    @pytest.mark.parametrize('target', [(HistoryBuffer, '__init__'), (dict, 'clear'), (torch.Tensor, '__reduce_ex__')])
    def test_getattr_reaches_nothing_but_statistics(self, tmp_path, target):
        class Reach:
            def __reduce__(self):
                return getattr, target

        torch.save({'model': Reach()}, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r'x\.pth'):
            read_checkpoint(tmp_path / 'x.pth')

    @pytest.mark.parametrize('legacy', [False, True])
    def test_a_pickle_that_runs_code_is_refused(self, tmp_path, legacy):
        class Evil:
            def __reduce__(self):
                return os.system, (f'touch {tmp_path}/ran',)

        torch.save({'model': Evil()}, tmp_path / 'x.pth', _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match=r'x.pth was not read: besides tensors it holds \w+\.system, and '
                                             r'unpickling that could run code'):
            read_checkpoint(tmp_path / 'x.pth')
        (tmp_path / 'plain.pkl').write_bytes(pickle.dumps(Evil()))
        with pytest.raises(ValueError, match=r'plain.pkl was not read: besides tensors it holds \w+\.system, and'):
            read_checkpoint(tmp_path / 'plain.pkl')
        assert not (tmp_path / 'ran').exists()

    @pytest.mark.parametrize('content', [b'', b'<html>Not found</html>', b'PK\x03\x04' + bytes(60)])
    def test_damaged(self, tmp_path, content):
        (tmp_path / 'x.pth').write_bytes(content)
        with pytest.raises(ValueError, match=rf'x.pth \({len(content)} bytes\) is damaged or not a PyTorch'):
            read_checkpoint(tmp_path / 'x.pth')

    @pytest.mark.parametrize('ending', ['pth', 'safetensors'])
    @pytest.mark.parametrize('kept', [0.1, 0.6, 0.99])
    def test_truncated(self, tmp_path, ending, kept):
        path = tmp_path / f'x.{ending}'
        (torch.save if ending == 'pth' else save_file)({'a': torch.randn(500)}, path)
        path.write_bytes(path.read_bytes()[:int(kept * path.stat().st_size)])
        with pytest.raises(ValueError, match=r'x\.\w+ .*(damaged|not a whole safetensors file)'):
            read_checkpoint(path)

    def test_whatever_the_damage(self, tmp_path):
        """One sentence about the file, or its tensors, whichever bytes are wrong."""
        random = np.random.default_rng(0)
        state = {'model': {'a.weight': torch.randn(3, 3), 'b': torch.arange(4)}, 'meta': {'classes': ('x', 'y')}}
        for legacy in (False, True):
            torch.save(state, tmp_path / 'whole.pth', _use_new_zipfile_serialization=not legacy)
            whole = np.frombuffer((tmp_path / 'whole.pth').read_bytes(), np.uint8)
            for _ in range(150):
                damaged = whole.copy()
                places = random.integers(0, len(damaged), 3)
                damaged[places] = random.integers(0, 256, 3)
                (tmp_path / 'x.pth').write_bytes(damaged.tobytes())
                try:
                    found = read_checkpoint(tmp_path / 'x.pth')
                    assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())
                except ValueError as error:
                    assert 'x.pth' in str(error)  # noqa: PT017
                    assert '\n' not in str(error)  # noqa: PT017

    def test_compressed_archive(self, tmp_path):
        torch.save({'a': torch.zeros(3_000_000)}, tmp_path / 'whole.pth')
        with zipfile.ZipFile(tmp_path / 'whole.pth') as whole, \
                zipfile.ZipFile(tmp_path / 'x.pth', 'w', zipfile.ZIP_DEFLATED) as small:
            for entry in whole.infolist():
                small.writestr(entry.filename, whole.read(entry))
        assert (tmp_path / 'x.pth').stat().st_size < 50_000
        with pytest.raises(ValueError, match=r'x\.pth has \d+ bytes and unpacks to 12\d{6}: PyTorch does not compress'):
            read_checkpoint(tmp_path / 'x.pth')

    @pytest.mark.parametrize('legacy', [False, True])
    def test_declares_more_than_it_holds(self, tmp_path, legacy):
        torch.save({'a': torch.zeros(1).expand(10**12)}, tmp_path / 'x.pth', _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match=r'x.pth declares a with shape \(1000000000000,\), more than its \d+ b'):
            read_checkpoint(tmp_path / 'x.pth')

    @pytest.mark.parametrize(('length', 'header'), [
        (10**15, b'{}'),
        (None, b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
        (None, b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'),
        (None, b'{"a":' * 100_000),
    ])
    def test_forged_safetensors_header(self, tmp_path, length, header):
        (tmp_path / 'x.safetensors').write_bytes(struct.pack('<Q', length or len(header)) + header + bytes(8))
        with pytest.raises(ValueError, match=r'x.safetensors is not a whole safetensors file \(.*\): get it again'):
            read_checkpoint(tmp_path / 'x.safetensors')

    def test_the_content_counts_not_the_name(self, tmp_path):
        save_file({'a': torch.arange(3.)}, tmp_path / 'x.bin')
        assert read_checkpoint(tmp_path / 'x.bin').keys() == {'a'}

    def test_folder_of_several_files(self, tmp_path):
        for name in ('a', 'b'):
            save_file({name: torch.ones(2)}, tmp_path / f'{name}.safetensors')
        index = tmp_path / 'model.safetensors.index.json'

        def write(**files):
            index.write_text(json.dumps({'weight_map': files}))

        write(a='a.safetensors', b='b.safetensors')
        for source in (tmp_path, index):
            assert read_checkpoint(source).keys() == {'a', 'b'}
        write(a='a.safetensors', b='c.safetensors')
        with pytest.raises(FileNotFoundError, match=r'c.safetensors, which .*index.json names, does not exist'):
            read_checkpoint(tmp_path)
        write(a='a.safetensors', b='a.safetensors', c='a.safetensors')
        with pytest.raises(ValueError, match=r'index.json is not whole: a.safetensors lacks b and 1 more; get it'):
            read_checkpoint(tmp_path)
        for named in ('../a.safetensors', None, ''):
            write(a=named, b='b.safetensors')
            with pytest.raises(ValueError, match=rf'names {named!r}: expected files beside it'):
                read_checkpoint(tmp_path)
        for content in ('{', '{"weight_map": {}}', '[' * 100_000):
            index.write_text(content)
            with pytest.raises(ValueError, match=r'index.json is damaged: expected JSON with a weight_map'):
                read_checkpoint(tmp_path)

    def test_folder_of_save_pretrained(self, tmp_path):
        from transformers import FocalNetConfig, FocalNetModel
        model = FocalNetModel(FocalNetConfig(embed_dim=8, depths=[1, 1, 1, 1]))
        model.save_pretrained(tmp_path / 'one')
        model.save_pretrained(tmp_path / 'several', max_shard_size='50KB')
        assert len(list((tmp_path / 'several').glob('*.safetensors'))) > 1
        for folder in ('one', 'several'):
            found = read_checkpoint(tmp_path / folder)
            assert found.keys() == model.state_dict().keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())

    def test_tensors_are_read_where_they_lie(self, tmp_path, classification_state, random_net):
        """Neither reading nor converting copies the weights."""
        net = random_net('large-fl3', layer_scale_init_value=1e-4)
        torch.save({'model': classification_state(net)}, tmp_path / 'x.pth')
        state = read_checkpoint(tmp_path / 'x.pth')
        places = {tensor.data_ptr() for tensor in state.values()}
        mapped = [line.split()[0].split('-') for line in Path('/proc/self/maps').read_text().splitlines()
                  if line.endswith('x.pth')]
        assert all(any(int(start, 16) <= place < int(end, 16) for start, end in mapped) for place in places)
        for layout in ('timm', 'transformers', 'mm'):
            converted = convert(state, layout, arch='large-fl3')
            assert {tensor.data_ptr() for tensor in converted.values()} == places
            assert {tensor.data_ptr() for tensor in select_backbone(converted)[0].values()} <= places

    @pytest.mark.parametrize('content', [{}, {'epoch': 3}, [1, 2], {'state_dict': {}}])
    def test_no_tensors(self, tmp_path, content):
        torch.save(content, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match='holds no tensors by name but'):
            read_checkpoint(tmp_path / 'x.pth')

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'x.pth does not exist: give the path or URL'):
            read_checkpoint(tmp_path / 'x.pth')
        with pytest.raises(FileNotFoundError, match=r'is a folder without model.safetensors or model'):
            read_checkpoint(tmp_path)
