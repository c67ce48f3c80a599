"""What others keep beside the weights becomes plain values, without the libraries that wrote it and their code."""

import argparse
import collections
import sys
import threading
import types
from typing import ClassVar

import numpy as np
import pytest
import torch

from focalnet_mm.releases import HAS_SAFE_GLOBALS
from focalnet_mm.weights import load_into, publish, read_checkpoint
from focalnet_mm.weights.pickles import load_pickle
from focalnet_mm.weights.stand_ins import allowed


@pytest.fixture
def module(monkeypatch):
    """Makes a module of a library that is not installed."""
    def make(name, **classes):
        made = types.ModuleType(name)
        for path in range(1, name.count('.') + 1):
            monkeypatch.setitem(sys.modules, '.'.join(name.split('.')[:path]), types.ModuleType(name))
        monkeypatch.setitem(sys.modules, name, made)
        for kind, (base, members) in classes.items():
            cls = type(kind, base, {'__module__': name, **members})
            setattr(made, kind, cls)
        return made

    return make


def save(path, **extras):
    torch.save({'model': {'a': torch.ones(2)}, **extras}, path)
    return path


class TestConfigs:

    def test_yacs_as_the_library_pickles_it(self, tmp_path):
        yacs = pytest.importorskip('yacs.config', reason='yacs is not installed')
        config = yacs.CfgNode(dict(MODEL=dict(NAME='x', DEPTHS=[2, 2], TYPE=(1, 'a')), SEED=0))
        config.freeze()
        self.check_yacs(save(tmp_path / 'x.pth', config=config))

    def test_yacs_by_its_form(self, tmp_path, module):
        """A dict with attributes, as yacs 0.1.8 defines it (yacs/config.py)."""
        node = module('yacs.config', CfgNode=((dict,), {})).CfgNode

        def made(**content):
            config = node(content)
            config.__dict__.update(__immutable__=True, __deprecated_keys__=set(), __renamed_keys__={})
            return config

        config = made(MODEL=made(NAME='x', DEPTHS=[2, 2], TYPE=(1, 'a')), SEED=0)
        self.check_yacs(save(tmp_path / 'x.pth', config=config))

    def check_yacs(self, path):
        config = load_pickle(path)['config']
        assert config == dict(MODEL=dict(NAME='x', DEPTHS=[2, 2], TYPE=(1, 'a')), SEED=0)
        assert {type(config), type(config['MODEL'])} <= {dict, collections.OrderedDict}
        assert not vars(config)
        assert read_checkpoint(path).keys() == {'a'}

    CONTENT: ClassVar = dict(model=dict(name='x', depths=[2, 2.5, None, True]), same='${model.name}', open='???')

    def test_omegaconf_as_the_library_pickles_it(self, tmp_path):
        omegaconf = pytest.importorskip('omegaconf', reason='OmegaConf is not installed')
        path = save(tmp_path / 'x.pth', hyper_parameters=omegaconf.OmegaConf.create(self.CONTENT))
        assert load_pickle(path)['hyper_parameters'] == self.CONTENT

    def test_omegaconf_by_its_form(self, tmp_path, module):
        """Nodes whose state holds content, metadata and parent (omegaconf 2.3: basecontainer.py, nodes.py, base.py)."""
        base = module('omegaconf.base', Metadata=((), {}), ContainerMetadata=((), {}))
        nodes = module('omegaconf.nodes', AnyNode=((), {}))
        dicts = module('omegaconf.dictconfig', DictConfig=((), {}))
        lists = module('omegaconf.listconfig', ListConfig=((), {}))

        def made(value, parent=None):
            kind, notes = ((dicts.DictConfig, base.ContainerMetadata()) if isinstance(value, dict) else
                           (lists.ListConfig, base.ContainerMetadata()) if isinstance(value, list) else
                           (nodes.AnyNode, base.Metadata()))
            node = kind()
            vars(notes).update(ref_type=dict, object_type=list, optional=True, key=None)
            content = ({key: made(part, node) for key, part in value.items()} if isinstance(value, dict) else
                       [made(part, node) for part in value] if isinstance(value, list) else value)
            vars(node).update({'_metadata': notes, '_parent': parent,
                               '_content' if isinstance(value, (dict, list)) else '_val': content})
            return node

        path = save(tmp_path / 'x.pth', hyper_parameters=made(self.CONTENT))
        assert load_pickle(path)['hyper_parameters'] == self.CONTENT

    @pytest.mark.parametrize('name', ['addict.addict.Dict', 'easydict.EasyDict', 'fvcore.common.config.CfgNode',
                                      'detectron2.config.config.CfgNode'])
    def test_dicts_of_other_libraries(self, name, tmp_path, module):
        where, _, kind = name.rpartition('.')
        made = getattr(module(where, **{kind: ((dict,), {})}), kind)
        found = load_pickle(save(tmp_path / 'x.pth', cfg=made(a=made(b=1))))['cfg']
        assert found == {'a': {'b': 1}}
        assert type(found['a']) is collections.OrderedDict


def test_plain_values(tmp_path):
    """As FocalNet-DINO (args), Swin's training code (config, max_accuracy) and Lightning (versions) keep them."""
    args = argparse.Namespace(lr=np.float32(1e-4), names=np.str_('a'), raw=np.bytes_(b'b'), steps=np.int64(3),
                              flag=np.bool_(True), backbone='focalnet_L_384_22k_fl4', levels=[1, 2])
    read = load_pickle(save(tmp_path / 'x.pth', args=args, version=torch.__version__))
    assert read['args'] == args
    assert type(read['args'].names) is np.str_
    assert (read['version'], type(read['version'])) == (str(torch.__version__), str)


def test_nothing_of_a_library_runs(tmp_path, module):
    """Even where it is installed, and would do something when it is read."""
    ran = []
    made = module('yacs.config', CfgNode=((dict,), {'__setstate__': lambda self, state: ran.append(state),
                                                    '__setitem__': lambda *_: ran.append(_)})).CfgNode
    node = made(a=1)
    node.x = 1
    assert load_pickle(save(tmp_path / 'x.pth', cfg=node))['cfg'] == {'a': 1}
    assert not ran


@pytest.mark.skipif(not HAS_SAFE_GLOBALS, reason='this PyTorch has no such list')
def test_the_process_keeps_its_own_list():
    """What it allowed before, of the same names too, and what another thread allows meanwhile; nothing of ours."""
    kinds = [type(name, (), {}) for name in ('Before', 'Meanwhile')]
    listed = torch.serialization.get_safe_globals
    with torch.serialization.safe_globals([np.dtype, kinds[0]]):
        before = set(listed())
        with allowed():
            thread = threading.Thread(target=torch.serialization.add_safe_globals, args=([kinds[1]],))
            thread.start()
            thread.join()
            assert np.dtype not in listed()
        assert set(listed()) == before | {kinds[1]}
        with torch.serialization.safe_globals([kinds[1]]):
            pass


def _sparse():
    return torch.sparse_coo_tensor([[0, 1], [1, 0]], [1., 2.], (2, 2), check_invariants=True)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(('kind', 'tensor'), [
    ('sparse', _sparse), ('sparse', lambda: _sparse().to_sparse_csr()),
    ('quantised', lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)),
    ('meta', lambda: torch.ones(2, device='meta')),
])
def test_tensors_that_are_no_arrays(kind, tensor, tmp_path):
    torch.save({'a': tensor()}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=rf'x.pth holds a as a {kind} tensor, expected a dense one with its'):
        read_checkpoint(tmp_path / 'x.pth')


def test_loops(tmp_path):
    state = {'state_dict': {'a': torch.ones(2)}}
    state['meta'] = dict(itself=state)
    torch.save(state, tmp_path / 'x.pth')
    assert read_checkpoint(tmp_path / 'x.pth').keys() == {'a'}
    state['state_dict'] = state
    torch.save(state, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'x.pth holds itself, expected tensors by name: it is damaged or forged'):
        read_checkpoint(tmp_path / 'x.pth')


def test_scalars_for_weights(tmp_path, random_net):
    for name in ('patch_embed.proj.weight', 'layers.0.blocks.0.modulation.f.weight', 'norm0.weight'):
        torch.save({**random_net().state_dict(), name: torch.tensor(1.)}, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=rf'x.pth does not fit: {name} has shape \(\) in the checkpoint and \('):
            load_into(random_net(), tmp_path / 'x.pth')


def test_notes_that_hold_themselves(tmp_path):
    notes = dict(classes=('a',))
    notes['again'] = notes
    torch.save(dict(state_dict={'a': torch.ones(2)}, meta=dict(dataset_meta=notes)), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='hold values within values, deeper than Python follows: save the checkpoint'):
        publish(tmp_path / 'x.pth', tmp_path / 'y.safetensors')
    assert not (tmp_path / 'y.safetensors').exists()
