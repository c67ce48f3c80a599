"""Whatever mmengine's runner writes is read again, with the values that an unrestricted reader finds in it."""

import argparse
import collections
import datetime
import decimal
import fractions
import math
import pathlib
import random
import string
import types
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint, save_checkpoint
from torch import nn

from focalnet_mm import FocalNet
from focalnet_mm.releases import HAS_SAFE_GLOBALS
from focalnet_mm.run.build import check_checkpoint, load_weights
from focalnet_mm.weights import publish, read_checkpoint, read_model, trained_classes
from focalnet_mm.weights.files import read_rest

PALETTE = np.arange(6, dtype=np.uint8).reshape(2, 3)


def equal(found, expected):
    """Whether two trees have the same values of the same types."""
    if isinstance(expected, np.ndarray):
        return (type(found) is np.ndarray and found.dtype == expected.dtype and found.shape == expected.shape
                # Between the fields of a record anything may lie.
                and (np.array_equal(found, expected) if expected.dtype.names
                     else found.tobytes() == expected.tobytes()))
    if isinstance(expected, pathlib.PurePath):
        return str(found) == str(expected)
    if isinstance(expected, collections.deque):
        return equal(found, list(expected))
    if isinstance(expected, collections.defaultdict):
        return equal(found, dict(expected))
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(equal(found[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(equal, found, expected))
    if isinstance(expected, (argparse.Namespace, types.SimpleNamespace, HistoryBuffer)):
        return equal(vars(found), vars(expected))
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, (float, np.floating)) and math.isnan(expected):
        return math.isnan(found)
    return bool(found == expected)


def history():
    made = HistoryBuffer()
    for i in range(3):
        made.update(np.float64(i), 1)
    return made


def scalar(pick):
    """A value of one of the kinds that metas have."""
    utc = datetime.timezone.utc
    return pick.choice([
        lambda: None, lambda: pick.random() < 0.5, lambda: pick.randint(-2**70, 2**70), lambda: pick.randint(-9, 300),
        lambda: pick.uniform(-1e9, 1e9), lambda: pick.choice([math.inf, math.nan, 0.0]), lambda: complex(1, -2),
        lambda: ''.join(pick.choices(string.printable + 'äß语\U0001f600', k=pick.randint(0, 30))),
        lambda: pick.randbytes(pick.randint(0, 9)), lambda: bytearray(b'ab'), lambda: slice(1, None), lambda: range(3),
        lambda: datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=pick.choice([None, utc])),
        lambda: datetime.date.today(),
        lambda: datetime.time(1, 2), lambda: datetime.timedelta(3, 4), lambda: decimal.Decimal('1.50'),
        lambda: fractions.Fraction(1, 3), lambda: pathlib.Path('/a/b.py'), lambda: torch.float16,
        lambda: torch.device('cpu'), lambda: torch.Size([1, 2]), lambda: np.float32, lambda: float, history,
        lambda: torch.arange(3, dtype=pick.choice([torch.uint8, torch.int64, torch.bfloat16])),
        lambda: np.dtype(pick.choice(['u1', '>f4', 'U3', 'M8[ms]'])),
        lambda: argparse.Namespace(lr=0.1, palette=PALETTE), lambda: types.SimpleNamespace(a=[PALETTE])])()


def array(pick):
    """An array or scalar of any data type of NumPy but that of objects."""
    kind = pick.choice(['?', 'i1', 'u1', 'i2', 'u2', '<i4', '>i4', 'u4', 'i8', 'u8', 'f2', 'f4', '>f8', 'g', 'c8',
                        'c16', 'S3', 'U4', '>U2', 'V5', 'M8[ns]', 'M8[D]', 'm8[s]', 'M8[25us]',
                        [('a', 'u1'), ('b', '>f4', (2,)), ('c', [('d', 'U2')])],
                        np.dtype(dict(names=['a', 'b'], formats=['u1', 'f8'], offsets=[0, 8], itemsize=24))])
    shape = pick.choice([(), (0,), (3,), (2, 3), (0, 4), (1, 2, 2)])
    dtype = np.dtype(kind)
    count = math.prod(shape) * dtype.itemsize
    # Bytes that are letters in every data type, and no NaN with several forms.
    made = np.frombuffer(bytes(count) if dtype.kind in 'U?' or dtype.names else bytes([65]) * count,
                         dtype).reshape(shape) if count else np.zeros(shape, dtype)
    if made.ndim == 2 and pick.random() < 0.5:
        made = np.asfortranarray(made)
    return made[()] if shape == () else made


def tree(pick, depth):
    """Nested containers of all kinds."""
    if depth == 0 or pick.random() < 0.2:
        return array(pick) if pick.random() < 0.4 else scalar(pick)
    some = [tree(pick, depth - 1) for _ in range(pick.randint(0, 4))]
    keys = [pick.choice([f'k{i}', i, (i, 'a'), float(i), None if i == 0 else f'x{i}', np.int64(i)])
            for i in range(len(some))]
    named = dict(zip(keys, some))
    words = {str(i): value for i, value in enumerate(some)}
    return pick.choice([
        lambda: some, lambda: tuple(some), lambda: named, lambda: collections.OrderedDict(named),
        lambda: {1, 'a', (2, 3)}, lambda: frozenset({1.5, None}), lambda: collections.Counter('abca'),
        lambda: collections.deque(some, maxlen=9), lambda: collections.defaultdict(list, named),
        lambda: ConfigDict(a=dict(b=1), c=[2, dict(d=PALETTE)]), lambda: [some, some], lambda: words])()


def safe_globals():
    return set(getattr(torch.serialization, 'get_safe_globals', list)())


@pytest.mark.parametrize('seed', range(60))
def test_any_meta(seed, tmp_path):
    """What an unrestricted reader finds is found, by our reader and by mmengine's loader."""
    pick = random.Random(seed)
    meta = dict(zip('abcdef', (tree(pick, 4) for _ in range(6))))
    save_checkpoint(dict(meta=meta, state_dict=dict(w=torch.ones(2))), str(tmp_path / 'x.pth'))
    before = safe_globals()
    expected = torch.load(tmp_path / 'x.pth', weights_only=False)['meta']
    assert equal(read_rest(tmp_path / 'x.pth')[0], expected)
    assert equal(CheckpointLoader.load_checkpoint(str(tmp_path / 'x.pth'))['meta'], expected)
    assert safe_globals() == before


@pytest.mark.skipif(not HAS_SAFE_GLOBALS, reason='this PyTorch has no such list')
def test_the_process_is_left_alone(tmp_path):
    """What a program allows itself to read it may read afterwards, and nothing else."""
    torch.save(dict(meta=PALETTE, state_dict=dict(w=torch.ones(2))), tmp_path / 'x.pth')
    kinds = [np.dtype, (np.ndarray, 'numpy.ndarray')]
    with torch.serialization.safe_globals(kinds):
        read_checkpoint(tmp_path / 'x.pth')
        assert set(torch.serialization.get_safe_globals()) >= set(kinds)
    with pytest.raises(Exception, match='Weights only load failed'):
        torch.load(tmp_path / 'x.pth', weights_only=True)


class _Linear(BaseModel):
    """The smallest model that trains."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.norm(self.layer(torch.stack(inputs))).square().mean())


class _Points(BaseDataset):
    METAINFO: ClassVar = dict(classes=('a', 'b'), palette=PALETTE, when=datetime.datetime(2026, 1, 1),
                              where=pathlib.Path('/x'), ids={3, 4}, nested=dict(weights=np.float32([0.5, 1])))

    def load_data_list(self):
        return [dict(i=i) for i in range(4)]

    def prepare_data(self, index):
        return dict(inputs=torch.randn(2))


class _Notes(Hook):
    """A hook that notes what hooks may note."""

    def before_save_checkpoint(self, runner, checkpoint):
        runner.message_hub.update_info('palette', PALETTE)
        checkpoint['meta']['hook_msgs'] = dict(best_score=np.float32(0.5), when=datetime.date(2026, 1, 1))
        checkpoint['mine'] = collections.defaultdict(list, a=[np.bool_(True)])


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Two epochs with an averaged model and hooks of one's own."""
    folder = tmp_path_factory.mktemp('run')
    for registry, kind in ((MODELS, _Linear), (DATASETS, _Points), (HOOKS, _Notes)):
        registry.register_module(module=kind, force=True)
    runner = train(folder)
    yield folder, runner
    for registry, kind in ((MODELS, _Linear), (DATASETS, _Points), (HOOKS, _Notes)):
        registry.module_dict.pop(kind.__name__)


def train(folder, epochs=2, **settings):
    runner = Runner.from_cfg(Config(dict(
        model=dict(type='_Linear'), work_dir=str(folder), default_scope='mmengine', log_level='WARNING',
        train_dataloader=dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False),
                              collate_fn=dict(type='pseudo_collate'), dataset=dict(type='_Points', ann_file='')),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), custom_hooks=[dict(type='EMAHook', momentum=0.5),
                                                                        dict(type='_Notes')],
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)), experiment_name=f'x{epochs}{folder.name}',
        param_scheduler=dict(type='MultiStepLR', milestones=[1]), **settings)))
    runner.train()
    return runner


class TestRunner:

    def test_reads_again(self, work_dir):
        folder, _ = work_dir
        expected = torch.load(folder / 'epoch_2.pth', weights_only=False)
        read = read_model(folder / 'epoch_2.pth')
        assert equal(read['meta'], expected['meta'])
        assert read['meta']['dataset_meta']['palette'].dtype == np.uint8
        assert equal(read['state_dict'], dict(expected['state_dict']))
        assert equal(CheckpointLoader.load_checkpoint(str(folder / 'epoch_2.pth')), expected)

    def test_resumes(self, work_dir, tmp_path):
        """mmengine's own resume goes on from what it wrote, and ends where a run without a break does."""
        folder, _ = work_dir
        runner = train(tmp_path, epochs=3, load_from=str(folder / 'epoch_2.pth'), resume=True)
        assert runner.epoch == 3
        assert (tmp_path / 'epoch_3.pth').exists()
        assert not (tmp_path / 'epoch_1.pth').exists()
        assert equal(read_rest(tmp_path / 'epoch_3.pth')[0]['dataset_meta']['palette'], PALETTE)

    def test_averaged_weights(self, work_dir, tmp_path):
        """mmengine keeps the averaged weights as the model's: they are what is loaded and published."""
        folder, runner = work_dir
        averaged = next(hook for hook in runner.hooks if hasattr(hook, 'ema_model')).ema_model.module.state_dict()
        assert not torch.equal(averaged['layer.weight'], runner.model.state_dict()['layer.weight'])
        theirs = _Linear()
        load_checkpoint(theirs, str(folder / 'epoch_2.pth'))
        published, left_out = publish(folder / 'epoch_2.pth', tmp_path / 'x.safetensors')
        assert 'ema_state_dict' in left_out
        for source in (folder / 'epoch_2.pth', published):
            ours = _Linear()
            load_weights(ours, Config(), str(source))
            assert equal(dict(ours.state_dict()), dict(theirs.state_dict()))
            torch.testing.assert_close(ours.layer.weight, averaged['layer.weight'])
            assert ours.dataset_meta['classes'] in (('a', 'b'), ['a', 'b'])


class TestWrappers:

    @pytest.mark.parametrize('wrap', ['module.{}', '_orig_mod.{}', 'module._orig_mod.{}', '_orig_mod.module.{}'])
    def test_whole_model(self, wrap, tmp_path):
        model = _Linear()
        state = {wrap.format(name): tensor + 1 for name, tensor in model.state_dict().items()}
        torch.save(dict(state_dict=state, meta={}), tmp_path / 'x.pth')
        check_checkpoint(model, str(tmp_path / 'x.pth'))
        load_weights(model, Config(), str(tmp_path / 'x.pth'))
        if '_orig' not in wrap:
            theirs = _Linear()
            load_checkpoint(theirs, str(tmp_path / 'x.pth'))
            assert equal(dict(model.state_dict()), dict(theirs.state_dict()))
        assert torch.equal(model.layer.bias, state[wrap.format('layer.bias')])

    def test_as_torch_saves_them(self, tmp_path):
        """A data-parallel model, and one whose part is compiled."""
        plain = _Linear()
        compiled = _Linear()
        compiled.load_state_dict(plain.state_dict())
        compiled.layer = torch.compile(compiled.layer)
        for model in (nn.DataParallel(plain), torch.compile(plain), nn.DataParallel(torch.compile(plain)), compiled):
            torch.save(model.state_dict(), tmp_path / 'x.pth')
            fresh = _Linear()
            load_weights(fresh, Config(), str(tmp_path / 'x.pth'))
            assert equal(dict(fresh.state_dict()), dict(plain.state_dict()))

    def test_two_names_stay_two(self, tmp_path):
        state = {'module.a': torch.zeros(1), 'a': torch.ones(1)}
        torch.save(state, tmp_path / 'x.pth')
        assert equal(read_model(tmp_path / 'x.pth')['state_dict'], state)

    def test_batches_may_be_uncounted(self, tmp_path):
        model = _Linear()
        state = {name: tensor for name, tensor in model.state_dict().items() if 'num_batches' not in name}
        torch.save(state, tmp_path / 'x.pth')
        load_weights(model, Config(), str(tmp_path / 'x.pth'))
        del state['norm.weight']
        torch.save(state, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r'it lacks 1 of the model\'s 7 tensors, the first is norm.weight'):
            load_weights(model, Config(), str(tmp_path / 'x.pth'))

    def test_what_is_unused_is_told(self, tmp_path, log):
        torch.save({**_Linear().state_dict(), 'more.weight': torch.ones(1)}, tmp_path / 'x.pth')
        load_weights(_Linear(), Config(), str(tmp_path / 'x.pth'))
        assert any('the model has no place for 1 of its tensors (more.weight)' in line for line in log)

    def test_classes_of_older_libraries(self, tmp_path):
        torch.save(dict(state_dict=_Linear().state_dict(), meta=dict(CLASSES=('a', 'b'), PALETTE=None)),
                   tmp_path / 'x.pth')
        model = _Linear()
        load_weights(model, Config(), str(tmp_path / 'x.pth'))
        assert model.dataset_meta == dict(classes=('a', 'b'))

    @pytest.mark.parametrize(('noted', 'wanted', 'found'), [
        (None, 'abcde', None), ('xy', 'abcde', 'xy'), (None, 'ab', 'ab'), (None, 'a', 'a'), ('abcde', 'ab', None)])
    def test_names_of_another_number(self, noted, wanted, found, tmp_path, log):
        """Those of the config's data set are not the model's because the checkpoint has none."""
        model = _Linear()
        model.head = nn.Module()
        model.head.num_classes, model.head.fc = 2, nn.Linear(3, 2)
        torch.save(dict(state_dict=model.state_dict(), meta=dict(CLASSES=noted and tuple(noted))), tmp_path / 'x.pth')
        data = dict(dataset=dict(type='BaseDataset', metainfo=dict(classes=tuple(wanted))))
        load_weights(model, Config(dict(test_dataloader=data)), str(tmp_path / 'x.pth'))
        assert model.dataset_meta.get('classes') == (found and tuple(found))
        assert any("5 names of classes that it or the data set has are not those of the model's 2" in line
                   for line in log) == (found is None)

    @pytest.mark.parametrize(('meta', 'classes'), [
        (dict(dataset_meta=dict(classes=np.array(['a', 'b']))), ['a', 'b']),
        (dict(CLASSES='ship'), ('ship',)),
        (dict(dataset_meta=dict(classes='ship')), ('ship',)),
        (dict(CLASSES=['a', 'b'], dataset_meta=dict(palette=None)), ['a', 'b']),
        (dict(CLASSES=['x'], dataset_meta=dict(classes=('a', 'b'))), ('a', 'b')),
    ])
    def test_classes_in_any_form(self, meta, classes):
        assert trained_classes(meta) == dict(classes=classes)


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.', 'teacher.backbone', 'teacher.backbone.'])
def test_prefix_with_and_without_its_dot(prefix, tmp_path, random_net):
    """As mmengine's own initialiser of pretrained weights takes it."""
    net, other = random_net(), random_net()
    torch.save({**{f'backbone.{name}': tensor for name, tensor in net.state_dict().items()},
                **{f'teacher.backbone.{name}': tensor for name, tensor in other.state_dict().items()}},
               tmp_path / 'x.pth')
    settings = dict(arch='tiny-lrf', embed_dims=8, depths=(1, 1, 2, 1))
    ours = FocalNet(**settings, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), prefix=prefix))
    ours.init_weights()
    from mmengine.model.weight_init import PretrainedInit
    theirs = FocalNet(**settings)
    PretrainedInit(str(tmp_path / 'x.pth'), prefix=prefix)(theirs)
    assert equal(dict(ours.state_dict()), dict(theirs.state_dict()))
