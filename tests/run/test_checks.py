"""What is refused before a run, and what the libraries' own configs show to be in order."""

import contextlib
import importlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from focalnet_mm.run.build import build_model
from focalnet_mm.run.checks import CheckData, ClassMismatchError, check_dataset, check_heads, check_order
from focalnet_mm.run.config import default_meta, first_dataset, type_name
from tests.helpers.training import Pictures, tiny_runner


def heads(**found):
    """A model with heads that have an attribute or more."""
    model = nn.Module()
    for name, settings in found.items():
        head = nn.Module()
        vars(head).update(settings)
        model.add_module(name, head)
    return model


# Heads whose classes are not those of the data: objects or none, borders, pedestrians of data with more classes.
@pytest.mark.slow
@pytest.mark.parametrize('path', [
    'mmdet/rpn/rpn_r50_fpn_1x_coco.py', 'mmseg/stdc/stdc1_4xb12-80k_cityscapes-512x1024.py',
    'mmdet/qdtrack/qdtrack_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
    'mmdet/panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', 'mmdet/htc/htc_r50_fpn_1x_coco.py'])
def test_the_libraries_own_models_fit_their_own_data(path):
    library, _, path = path.partition('/')
    for module in ('models', 'datasets'):
        importlib.import_module(f'{library}.{module}')
    source = Path(importlib.import_module(library).__file__).parent / '.mim' / 'configs' / path
    cfg = Config.fromfile(source)
    model = build_model(cfg, 'meta')
    for split in ('train', 'val'):
        dataset = first_dataset(cfg, split)
        meta = {**default_meta(cfg, dataset), **(dataset.get('metainfo') or {})}
        assert meta['classes']
        check_heads(model, type(type_name(dataset), (), dict(metainfo=meta))(), split)


@pytest.mark.parametrize('meta', [None, [1], dict(classes=None), dict(classes=7), {}])
def test_data_sets_of_anybody_s(meta):
    """What they call metainfo is theirs."""
    check_heads(heads(bbox_head=dict(num_classes=3)), SimpleNamespace(metainfo=meta), 'x')
    check_dataset(SimpleNamespace(metainfo=meta), 'x')


def test_a_head_of_other_classes():
    with pytest.raises(ClassMismatchError, match=r'model.bbox_head has 3 classes, the data set of x has 2'):
        check_heads(heads(bbox_head=dict(num_classes=3)), SimpleNamespace(metainfo=dict(classes=('a', 'b'))), 'x')


class TestOrder:
    """Of the classes in a checkpoint that is tested."""

    @pytest.mark.parametrize('trained', [
        None, 'abc', 7, ('a', 'b', 'c'), ['A', 'b ', 'c'], ('a', 'b'), ('x', 'y', 'z'), ('a', 'x', 'c'),
        {'b': 0, 'a': 1, 'c': 2}])
    def test_nothing_that_is_certain(self, trained):
        check_order(trained, SimpleNamespace(metainfo=dict(classes=('a', 'b', 'c'))), 'x', 'y.pth')

    @pytest.mark.parametrize(('trained', 'classes'), [
        (('a', 'b', 'c'), ()), (('a', 'b', 'c'), 'bca'), (('a', 'b', 'c'), None), (('crane', 'x', 'crane'),) * 2])
    def test_data_of_anybody_s(self, trained, classes):
        check_order(trained, SimpleNamespace(metainfo=dict(classes=classes)), 'x', 'y.pth')

    def test_a_test_of_the_command(self, tmp_path):
        loader = dict(dataset=Pictures(), batch_size=2, num_workers=0, collate_fn=dict(type='pseudo_collate'),
                      sampler=dict(type='DefaultSampler', shuffle=False))
        for classes in (('a', 'b', 'c'), ('c', 'b', 'a')):
            path = str(tmp_path / f'{"".join(classes)}.pth')
            runner = tiny_runner(tmp_path / 'run', load_from=path, test_dataloader=loader, test_cfg=dict(),
                                 test_evaluator=dict(type='Accuracy', topk=(1,)))
            torch.save(dict(state_dict=runner.model.state_dict(), meta=dict(dataset_meta=dict(classes=classes))), path)
            runner.register_hook(CheckData(path))
            if classes[0] == 'a':
                assert 'accuracy/top1' in runner.test()
                continue
            with pytest.raises(ClassMismatchError, match=r"cba.pth numbers .* order than test_dataloader.dataset: 'a' "
                                                         r'is 2 there and 0 here, so labels would be wrong; test on'):
                runner.test()


@pytest.fixture
def coco(tmp_path):
    """(names of categories, classes) → mmdet's data set of a file with an object of each."""
    from mmdet.datasets import CocoDataset
    init_default_scope('mmdet')

    def build(names, classes):
        (tmp_path / 'x.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name='x.png', width=9, height=9)],
            categories=[dict(id=i + 5, name=name, keypoints=['a', 'b']) for i, name in enumerate(names)],
            annotations=[dict(id=i + 1, image_id=1, category_id=i + 5, bbox=[1, 1, 4, 4], area=16, iscrowd=0)
                         for i in range(len(names))])))
        with contextlib.redirect_stdout(io.StringIO()):
            return CocoDataset(ann_file=str(tmp_path / 'x.json'), metainfo=dict(classes=classes),
                               data_prefix=dict(img=''))
    return build


class TestAnnotations:

    def test_two_categories_of_one_name(self, coco):
        """mmdet gives the second a label of its own, which no head has."""
        with pytest.raises(ClassMismatchError, match="holds 3 categories of the 2 classes of x, 'a' more than once"):
            check_dataset(coco(('a', 'b', 'a'), ('a', 'b')), 'x')

    def test_others_than_are_wanted(self, coco):
        check_dataset(coco(('c', 'a', 'd', 'b'), ('a', 'b')), 'x')

    def test_a_label_beyond_the_classes(self, tmp_path):
        """The focal loss of mmcv takes it for background without a word."""
        from mmdet.datasets import BaseDetDataset
        init_default_scope('mmdet')
        (tmp_path / 'x.json').write_text(json.dumps(dict(metainfo={}, data_list=[dict(
            img_path='x.png', height=9, width=9, instances=[dict(bbox=[1, 1, 4, 4], bbox_label=2, ignore_flag=0)])])))
        dataset = BaseDetDataset(ann_file=str(tmp_path / 'x.json'), metainfo=dict(classes=('a', 'b')),
                                 data_prefix=dict(img_path=''))
        with pytest.raises(ClassMismatchError, match=r'x.png has the label 2 in x, whose 2 classes have 0 to 1: corre'):
            check_dataset(dataset, 'x')


class TestLoops:

    @staticmethod
    def loader(count):
        dataset = BaseDataset(lazy_init=True, metainfo=dict(classes=('a',)))
        dataset.data_list, dataset.serialize_data, dataset._fully_initialized = [{}] * count, False, True
        return DataLoader(dataset)

    def check(self, loop):
        runner = SimpleNamespace(model=heads(), cfg=Config({}), test_loop=loop)
        check = CheckData()
        check.before_test(runner)
        return check.passed

    @pytest.mark.parametrize('within', [False, True])
    def test_several_loaders(self, within):
        """Of a loop that has them by any name, itself or in loops of its own."""
        def loop(counts):
            loop = SimpleNamespace()
            loaders = [self.loader(count) for count in counts]
            loop.parts = [type('Loop', (BaseLoop,), dict(run=None, dataloader=loader))(None, loader)
                          for loader in loaders] if within else loaders
            return loop
        assert self.check(loop([1, 2]))
        with pytest.raises(ValueError, match=r'test_dataloader\.1\.dataset has no items'):
            self.check(loop([1, 0]))


def test_a_model_whose_train_returns_nothing():
    """So does mmdet's distillation."""
    from mmengine.model import BaseModel
    from mmengine.registry import MODELS

    from focalnet_mm.run.build import load_model

    @MODELS.register_module(force=True)
    class Silent(BaseModel):
        def forward(self, inputs):
            return inputs

        def train(self, mode=True):
            super().train(mode)

    model = load_model(Config(dict(model=dict(type='Silent'))))
    assert isinstance(model, Silent)
    assert not model.training
    assert torch.equal(model(torch.ones(1)), torch.ones(1))
