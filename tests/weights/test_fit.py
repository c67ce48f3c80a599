"""Reading and fitting checkpoints in the official layout."""

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
from safetensors.torch import save_file

from focalnet_mm import ARCHS, FocalNet
from focalnet_mm.weights import convert, fit_tensor, guess_arch, load_into, read_checkpoint, select_backbone

THIN = dict(embed_dims=8, depths=(1, 1, 2, 1))


def random_net(arch='tiny-lrf', **settings):
    net = FocalNet(arch, **{**THIN, **settings})
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    return net


def classification_state(net):
    """A state dict as the authors' classifiers have it: one norm and a head in place of the output norms."""
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith('norm')}
    channels = net.out_channels[-1]
    state.update({'norm.weight': torch.randn(channels), 'norm.bias': torch.randn(channels),
                  'head.weight': torch.randn(10, channels), 'head.bias': torch.randn(10)})
    return state


def body(net):
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith('norm')}


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
        loaded = torch.load(tmp_path / 'x.pth', weights_only=True)
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
        with pytest.raises(ValueError, match=r'plain.pkl .* is damaged or not a PyTorch checkpoint'):
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
        write(a='../a.safetensors')
        with pytest.raises(ValueError, match=r"names '../a.safetensors': expected files beside it"):
            read_checkpoint(tmp_path)
        index.write_text('{')
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

    def test_tensors_are_read_where_they_lie(self, tmp_path):
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


class TestFit:

    @pytest.mark.parametrize(('small', 'large'), [(3, 9), (5, 11), (1, 13)])
    def test_kernels_grow_by_zeros_around_the_centre(self, small, large):
        kernel = torch.randn(4, 1, small, small)
        name = 'layers.0.blocks.0.modulation.focal_layers.1.0.weight'
        fitted, how = fit_tensor(name, kernel, torch.Size([4, 1, large, large]))
        margin = (large - small) // 2
        assert torch.equal(fitted[..., margin:margin + small, margin:margin + small], kernel)
        assert fitted.count_nonzero() == kernel.count_nonzero()
        assert how == f'kernels padded with zeros from {small} to {large}'
        again, how = fit_tensor(name, fitted, kernel.shape)
        assert torch.equal(again, kernel)
        assert how == f'kernels cropped from {large} to {small}'

    @pytest.mark.parametrize('kind', ['weight', 'bias'])
    def test_gates_of_more_levels(self, kind):
        channels, old, added = 4, 2, 2
        tensor = torch.randn(2 * channels + old + 1, *([channels] if kind == 'weight' else []))
        fitted, how = fit_tensor(f'layers.1.blocks.0.modulation.f.{kind}', tensor,
                                 torch.Size([len(tensor) + added, *tensor.shape[1:]]))
        assert torch.equal(fitted[:2 * channels], tensor[:2 * channels])
        assert torch.equal(fitted[2 * channels:2 * channels + old], tensor[2 * channels:2 * channels + old])
        assert not fitted[2 * channels + old:-1].any()
        assert torch.equal(fitted[-1], tensor[-1])
        assert how == 'gates widened by 2'

    @pytest.mark.parametrize(('name', 'source', 'target'), [
        ('layers.0.blocks.0.mlp.fc1.weight', (32, 8), (64, 8)),
        ('layers.0.blocks.0.modulation.f.weight', (20, 8), (19, 8)),
        ('layers.0.blocks.0.modulation.f.weight', (20, 8), (36, 16)),
        ('layers.0.blocks.0.modulation.focal_layers.0.0.weight', (8, 1, 3, 3), (16, 1, 3, 3)),
        ('patch_embed.proj.weight', (8, 3, 4, 4), (8, 3, 7, 7)),
    ])
    def test_what_cannot_be_fitted(self, name, source, target):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            fit_tensor(name, torch.zeros(source), torch.Size(target))
        assert str(error.value) == f'{name} has shape {source} in the checkpoint and {target} in the model'


class TestLoadInto:

    @pytest.mark.parametrize('prefix', ['', 'module.', 'backbone.', 'module.backbone.', 'backbone.0.', 'visual.'])
    def test_classification_files(self, tmp_path, prefix, log):
        source, net = random_net(), random_net()
        norms = {name: tensor.clone() for name, tensor in net.state_dict().items() if name.startswith('norm')}
        torch.save({'model': {f'{prefix}{name}': tensor for name, tensor in classification_state(source).items()}},
                   tmp_path / 'x.pth')
        report = load_into(net, tmp_path / 'x.pth')
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in body(source).items())
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in norms.items())
        assert set(report.landed) == set(body(source))
        assert set(report.new) == set(norms)
        assert set(report.unused) == {f'{prefix}{name}' for name in
                                      ('norm.weight', 'norm.bias', 'head.weight', 'head.bias')}
        assert report.prefix == prefix
        assert not report.fitted
        assert log == [str(report)]
        assert f'{len(report.landed)} tensors landed as they are, 0 fitted, 8 new (norm0.weight' in log[0]

    def test_whole_detector(self, tmp_path):
        source, net = random_net(), random_net()
        heads = {'neck.lateral_convs.0.conv.weight': torch.randn(2, 2), 'rpn_head.rpn_cls.bias': torch.randn(3)}
        torch.save({'meta': {}, 'state_dict': {
            **{f'backbone.{name}': tensor for name, tensor in source.state_dict().items()}, **heads}},
            tmp_path / 'x.pth')
        report = load_into(net, tmp_path / 'x.pth')
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in source.state_dict().items())
        assert (report.unused, report.new) == (tuple(heads), ())

    def test_init_weights_fits_kernels_and_levels(self, tmp_path, log):
        source = random_net('tiny-srf')
        torch.save({'model': classification_state(source)}, tmp_path / 'x.pth')
        net = FocalNet('tiny-lrf', **THIN, focal_windows=(11, 9, 9, 7),
                       init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth')))
        torch.manual_seed(1)
        net.init_weights()
        old, new = source.state_dict(), net.state_dict()
        kernel = 'layers.0.blocks.0.modulation.focal_layers.1.0.weight'
        assert new[kernel].shape[-1] == 13
        assert torch.equal(new[kernel][..., 4:9, 4:9], old[kernel])
        gates = 'layers.3.blocks.0.modulation.f.bias'
        assert torch.equal(new[gates], torch.cat([old[gates][:-1], torch.zeros(1), old[gates][-1:]]))
        assert new['layers.0.blocks.0.modulation.focal_layers.2.0.weight'].std() > 0.01
        assert '10 gates widened by 1; 1 kernels padded with zeros from 3 to 11' in log[-1]
        assert '4 kernels padded' not in log[-1]

    def test_larger_kernels_compute_the_same(self, tmp_path):
        source = random_net().double().eval()
        for parameter in source.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.save(source.state_dict(), tmp_path / 'x.pth')
        net = FocalNet(**THIN, focal_windows=(11, 9, 9, 7)).double().eval()
        load_into(net, tmp_path / 'x.pth')
        x = torch.randn(1, 3, 70, 50, dtype=torch.float64)
        for feature, expected in zip(net(x), source(x)):
            torch.testing.assert_close(feature, expected, rtol=0, atol=1e-12)

    def test_a_model_of_fewer_stages(self, tmp_path):
        torch.save(random_net().state_dict(), tmp_path / 'x.pth')
        report = load_into(FocalNet(**THIN, out_indices=1), tmp_path / 'x.pth')
        assert not report.new
        assert all(name.startswith(('layers.2.', 'layers.3.', 'layers.1.downsample', 'norm'))
                   for name in report.unused)

    def test_two_backbones_in_one_file(self, tmp_path):
        student, teacher, net = random_net(), random_net(), random_net()
        torch.save({f'{prefix}.backbone.{name}': tensor for prefix, model in
                    (('student', student), ('teacher', teacher)) for name, tensor in model.state_dict().items()},
                   tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r"several FocalNets, under 'student.backbone.', 'teacher.backbone.': "
                                             r"name one with init_cfg=.*prefix"):
            load_into(net, tmp_path / 'x.pth')
        net.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), prefix='teacher.backbone.')
        net.init_weights()
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in teacher.state_dict().items())
        with pytest.raises(ValueError, match=r"no FocalNet under the prefix 'x.' \(prefixes with one: 'student"):
            load_into(net, tmp_path / 'x.pth', prefix='x.')


class TestMisfits:
    """Each leaves the model as it was and ends in one sentence that says what differs."""

    @staticmethod
    def refuse(tmp_path, state, net, *messages):
        torch.save(state, tmp_path / 'x.pth')
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        net.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
        with pytest.raises(ValueError, match=r'x\.pth does not fit: ') as error:
            load_into(net, tmp_path / 'x.pth')
        for message in messages:
            assert message in str(error.value)
        assert '\n' not in str(error.value)
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
        with pytest.raises(ValueError, match='does not fit'):
            net.init_weights()

    def test_other_stem(self, tmp_path):
        with torch.device('meta'):
            published = FocalNet('base-lrf')
        state = {name: torch.zeros(tensor.shape) if 'patch_embed' in name else torch.zeros(1).expand(tensor.shape)
                 for name, tensor in published.state_dict().items()}
        with torch.device('meta'):
            shapes = FocalNet('large-fl4', embed_dims=128).state_dict()
        net = FocalNet('large-fl4', **THIN)
        net.state_dict = lambda *_, **__: shapes
        torch.save(state, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r'patch_embed.proj.weight has shape \(128, 3, 4, 4\) in the checkpoint '
                           r'and \(128, 3, 7, 7\) in the model: the checkpoint has a 4×4 stem, .* this model a 7×7 '
                           r'stem, .* \(arch base-lrf in the checkpoint, a custom one in the model\?\)'):
            load_into(net, tmp_path / 'x.pth')

    def test_other_width(self, tmp_path):
        self.refuse(tmp_path, random_net(embed_dims=16).state_dict(), random_net(), 'patch_embed.proj.weight has shape '
                    '(16, 3, 4, 4) in the checkpoint and (8, 3, 4, 4) in the model', '16 channels')

    def test_shallower(self, tmp_path):
        self.refuse(tmp_path, random_net().state_dict(), random_net(depths=(1, 1, 3, 1)),
                    'it lacks 17 tensors (layers.2.blocks.2.norm1.weight', 'stages of (1, 1, 2, 1) blocks')

    def test_deeper(self, tmp_path):
        self.refuse(tmp_path, random_net(depths=(1, 1, 4, 1)).state_dict(), random_net(),
                    'it has, beyond what the model has, 34 tensors (layers.2.blocks.2.norm1.weight')

    def test_fewer_levels(self, tmp_path):
        self.refuse(tmp_path, random_net('tiny-lrf').state_dict(), random_net('tiny-srf'),
                    'layers.0.blocks.0.modulation.f.weight has shape (20, 8)', '(3, 3, 3, 3) levels')

    def test_layer_scale(self, tmp_path):
        self.refuse(tmp_path, random_net().state_dict(), random_net(layer_scale_init_value=1e-4),
                    'it lacks 10 tensors (layers.0.blocks.0.gamma_1', 'layer scale: False')

    def test_half_missing(self, tmp_path):
        state = {name: tensor for i, (name, tensor) in enumerate(random_net().state_dict().items())
                 if i % 2 == 0 or 'layers.0.blocks.0.modulation.f' in name}
        self.refuse(tmp_path, state, random_net(), 'it lacks ')

    def test_self_attention(self, tmp_path):
        self.refuse(tmp_path, {'patch_embed.proj.weight': torch.zeros(96, 3, 4, 4),
                               'layers.0.blocks.0.attn.qkv.weight': torch.zeros(288, 96)}, random_net(),
                    'it holds no FocalNet, but a network with self-attention')

    def test_something_else(self, tmp_path):
        self.refuse(tmp_path, {'conv1.weight': torch.zeros(1)}, random_net(), 'its first tensors are conv1.weight')


@pytest.mark.parametrize('arch', ARCHS)
def test_variants_are_recognised(arch):
    with torch.device('meta'):
        state = FocalNet(arch, focal_windows=9).state_dict()
    assert guess_arch(select_backbone(state)[0]) == arch
    assert guess_arch({**state, 'patch_embed.proj.weight': torch.empty(17, 3, 4, 4)}) is None
