"""What a failure is told as."""

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, build_from_cfg

from focalnet_mm.run.config import load_config
from focalnet_mm.run.failures import explain_failure, explain_missing, is_lost_peer

CONFIG = '''
data_root = 'data/coco/'
data_source = 'download COCO 2017 (train2017, val2017) from https://cocodataset.org'
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(
    type='CocoDataset', data_root=data_root, ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'))))
val_dataloader = dict(dataset=dict(
    type='CocoDataset', data_root=data_root, ann_file='annotations/instances_val2017.json',
    data_prefix=dict(img='val2017/')))
test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[
    dict(type='CocoDataset', data_root=data_root, ann_file='annotations/instances_val2017.json',
         data_prefix=dict(img='val2017/')),
    dict(type='CocoDataset', data_root='elsewhere/', ann_file='s3://bucket/x.json', data_prefix=dict(img='val/'))]))
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/instances_val2017.json', metric=['bbox'])
test_evaluator = val_evaluator
'''
SPLITS = ('train2017', 'val2017')


@pytest.fixture
def load(tmp_path):
    """The config, with a data_root of one's own."""
    (tmp_path / 'a_config.py').write_text(CONFIG)
    return lambda root=None, **options: load_config(str(tmp_path / 'a_config.py'), {
        **({'data_root': str(root)} if root else {}), **options})


@pytest.fixture
def coco(tmp_path):
    for split in SPLITS:
        (tmp_path / 'coco' / split).mkdir(parents=True)
        (tmp_path / 'coco' / 'annotations').mkdir(exist_ok=True)
        (tmp_path / 'coco' / 'annotations' / f'instances_{split}.json').write_text('{}')
    return tmp_path / 'coco'


class TestMissing:

    def test_nothing_of_the_config_s_own_data(self, load, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        path = 'data/coco/annotations/instances_train2017.json'
        assert explain_missing(path, load()) == (
            'data/coco/, which train_dataloader.dataset.dataset.data_root names, does not exist (and 6 more): download '
            'COCO 2017 (train2017, val2017) from https://cocodataset.org; or point to your copy of the data with '
            '--cfg-options data_root=DIR.')

    def test_nothing_where_the_user_says(self, load, tmp_path):
        root = tmp_path / 'nowhere'
        assert 'download COCO' in explain_missing(f'{root}/annotations/instances_train2017.json', load(root))
        own = load(root, **{'train_dataloader.dataset.dataset.ann_file': 'ships.json',
                            'train_dataloader.dataset.dataset.data_prefix.img': 'pictures/'})
        assert 'download' not in explain_missing(f'{root}/ships.json', own)

    @pytest.mark.parametrize(('gone', 'key'), [
        ('train2017', 'train_dataloader.dataset.dataset.data_prefix.img'),
        ('annotations/instances_val2017.json', 'val_dataloader.dataset.ann_file'),
        ('val2017', 'val_dataloader.dataset.data_prefix.img')])
    def test_one_missing(self, load, coco, gone, key):
        (coco / gone).rename(coco / 'gone')
        told = explain_missing(f'{coco}/{gone}', load(coco))
        assert told.startswith(f'{coco}/{gone}')
        assert f', which {key} names, does not exist' in told

    def test_a_file_that_annotations_name(self, load, coco):
        told = explain_missing(f'{coco}/train2017/7.jpg', load(coco))
        assert told == (f'{coco}/train2017/7.jpg does not exist, although the annotations name it: correct them, or '
                        f'train_dataloader.dataset.dataset.data_prefix.img, which names {coco}/train2017/.')

    @pytest.mark.parametrize('given', ['', 'coco/train2017'])
    def test_the_folder_above_or_below(self, load, coco, given):
        root = coco.parent / given
        told = explain_missing(f'{root}/annotations/instances_train2017.json', load(root))
        assert told.endswith(f', but the data lies in {coco}: add --cfg-options data_root={coco}.')

    @pytest.mark.parametrize('own', [
        {'train_dataloader.dataset.dataset.ann_file': 'ships.json'},
        {'train_dataloader.dataset.dataset.metainfo': dict(classes=('ship',))}])
    def test_data_of_one_s_own_is_not_to_be_downloaded(self, load, coco, own):
        cfg = load(coco, **own)
        path = f'{coco}/{cfg.train_dataloader.dataset.dataset.ann_file}'
        for name in SPLITS:
            (coco / 'annotations' / f'instances_{name}.json').unlink()
        assert 'download' not in explain_missing(path, cfg)
        assert 'point to your copy of the data with --cfg-options data_root=DIR' in explain_missing(path, cfg)

    def test_of_several_loaders(self, load, tmp_path):
        cfg = load(tmp_path)
        cfg.val_dataloader = [cfg.val_dataloader, dict(dataset=dict(
            type='CocoDataset', data_root=str(tmp_path), ann_file='other.json'))]
        assert explain_missing(f'{tmp_path}/other.json', cfg).startswith(
            f'{tmp_path}/other.json, which val_dataloader.1.dataset.ann_file names, does not exist')

    def test_a_path_that_no_key_names(self, load, coco):
        assert explain_missing('/nowhere/x', load(coco)) == '/nowhere/x does not exist.'


def _assert_nothing():
    raise AssertionError


class TestFailure:

    def test_what_a_worker_raised(self, load, coco):
        from torch._utils import ExceptionWrapper
        try:
            try:
                (coco / 'train2017' / '7.jpg').read_bytes()
            except FileNotFoundError:
                ExceptionWrapper(where='in DataLoader worker process 0').reraise()
        except FileNotFoundError as error:
            told = explain_failure(error, load(coco))
        assert told.startswith(f'{coco}/train2017/7.jpg does not exist, although the annotations name it')

    @pytest.mark.parametrize(('name', 'advice'), [
        ('MaskRCNNN', 'did you mean MaskRCNN?'), ('mmdet.MaskRCN', 'did you mean MaskRCNN?'),
        ('Qwertzuiop', 'import the module that registers it with custom_imports.')])
    def test_a_type_that_nobody_registered(self, name, advice):
        import mmdet.models  # noqa: F401
        with MODELS.switch_scope_and_registry('mmdet') as registry, pytest.raises(KeyError) as error:
            build_from_cfg(dict(type=name), registry)
        assert explain_failure(error.value) == (
            f"type='{name}' is not known to mmdet's registry of kind 'model': {advice}")

    @pytest.mark.parametrize(('name', 'scope'), [('mmpose.Gone', 'mmdet'), ('Gone', 'mmpose')])
    def test_a_type_of_a_library_that_is_not_there(self, name, scope):
        with pytest.raises(KeyError) as error:
            build_from_cfg(dict(type=name), MODELS)
        assert explain_failure(error.value, Config(dict(default_scope=scope))) == (
            f"type='{name}' is looked for in mmpose, which is not installed: pip install mmpose")

    def test_a_config_that_is_no_python(self, tmp_path):
        (tmp_path / 'x.py').write_text('a = 1\nb = = 2\n')
        with pytest.raises(SyntaxError) as error:
            Config.fromfile(str(tmp_path / 'x.py'))
        told = explain_failure(error.value)
        assert 'line 2: invalid syntax' in told
        assert len(told.splitlines()) == 1

    @pytest.mark.parametrize(('error', 'told'), [
        (ConnectionError('one'), 'one'), (ValueError('one\nmore'), 'one'),
        (TypeError('one\nmore'), 'TypeError: one'), (RuntimeError(), 'RuntimeError'),
        (KeyError('a'), 'KeyError: a')])
    def test_the_rest(self, error, told):
        assert explain_failure(error) == told

    def test_what_says_nothing(self):
        """Where it comes from is all that there is to tell."""
        with pytest.raises(AssertionError) as error:
            _assert_nothing()
        told = explain_failure(error.value)
        assert told.startswith('AssertionError in _assert_nothing (')
        assert 'test_failures.py, line ' in told

    def test_what_a_command_calls_its_own(self):
        assert explain_failure(RuntimeError('one'), ours=(RuntimeError,)) == 'one'


@pytest.mark.parametrize(('error', 'lost'), [
    (RuntimeError('[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer'), True),
    (RuntimeError('mat1 and mat2 shapes cannot be multiplied'), False), (BrokenPipeError(32, 'Broken pipe'), False)])
def test_a_process_that_waits_for_another_in_vain(error, lost):
    """Where it has ended; a pipe to a worker is another matter."""
    assert is_lost_peer(error) == lost
    assert explain_failure(error).startswith('another process has ended') == lost
