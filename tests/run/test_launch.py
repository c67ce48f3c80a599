"""What the tools settle before they build anything."""

import importlib

import pytest
import torch
from mmengine.config import Config

from focalnet_mm.run.build import check_checkpoint, read_any_layout
from focalnet_mm.run.config import load_config
from focalnet_mm.run.evaluation import add_tta, draw_predictions, keep_predictions
from focalnet_mm.run.machine import fit_to_machine

CONFIG = '''
data_root = 'data/coco/'
data_source = 'download it from somewhere'
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(
    type='CocoDataset', data_root=data_root, ann_file='annotations/train.json', data_prefix=dict(img='train/'))))
val_dataloader = dict(dataset=dict(
    type='CocoDataset', data_root=data_root, ann_file='annotations/val.json', data_prefix=dict(img='val/')))
test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[
    dict(type='CocoDataset', data_root=data_root, ann_file='annotations/val.json', data_prefix=dict(img='val/')),
    dict(type='CocoDataset', data_root='elsewhere/', ann_file='s3://bucket/x.json', data_prefix=dict(img='val/'))]))
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json', metric=['bbox'])
test_evaluator = [dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json', metric=['bbox', 'segm'])]
'''


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'a_config.py'
    path.write_text(CONFIG)
    return str(path)


class TestLoadConfig:

    def test_missing(self):
        with pytest.raises(FileNotFoundError, match=r'The config nowhere.py does not exist'):
            load_config('nowhere.py')

    def test_work_dir(self, config):
        assert load_config(config).work_dir == 'work_dirs/a_config'
        assert load_config(config, dict(work_dir='x')).work_dir == 'x'
        assert load_config(config, dict(work_dir='x'), work_dir='y').work_dir == 'y'

    def test_a_data_root_that_moves_nothing(self, tmp_path, log):
        (tmp_path / 'x.py').write_text("model = dict(type='x')\n")
        load_config(str(tmp_path / 'x.py'), dict(data_root='/my/coco'))
        assert any('x.py has no data_root that --cfg-options could move: set the' in line for line in log)

    def test_a_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='is a folder: give the path of a config file'):
            load_config(str(tmp_path))

    @pytest.mark.parametrize('root', ['/my/coco', '/my/coco/'])
    def test_data_root_moves_everything_below_it(self, config, root):
        cfg = load_config(config, {'data_root': root, 'val_dataloader.dataset.ann_file': 'mini.json'})
        assert cfg.train_dataloader.dataset.dataset.data_root.rstrip('/') == '/my/coco'
        assert cfg.val_evaluator.ann_file == '/my/coco/annotations/val.json'
        assert cfg.test_evaluator[0].ann_file == '/my/coco/annotations/val.json'
        assert cfg.test_dataloader.dataset.datasets[1].data_root == 'elsewhere/'
        assert cfg.val_dataloader.dataset.ann_file == 'mini.json'


    @pytest.mark.parametrize(('scope', 'collate'), [('mmpretrain', 'default_collate'), ('mmdet', None)])
    def test_loaders_as_the_library_s_tools_have_them(self, scope, collate, tmp_path):
        """mmpretrain's put batches together; what the config or the command line says stays."""
        path = tmp_path / 'x.py'
        path.write_text(f"default_scope = '{scope}'\nmodel = dict(type='ImageClassifier')\n"
                        "train_dataloader = dict(num_workers=2, dataset=dict())\n"
                        "val_dataloader = dict(num_workers=0, collate_fn=dict(type='mine'), dataset=dict())\n"
                        "test_dataloader = [val_dataloader, dict(dataset=dict())]\n")
        cfg = load_config(str(path), {'train_dataloader.persistent_workers': False})
        assert cfg.train_dataloader.get('collate_fn') == (dict(type=collate) if collate else None)
        assert not cfg.train_dataloader.persistent_workers
        assert cfg.val_dataloader.collate_fn == dict(type='mine')
        assert not cfg.val_dataloader.get('persistent_workers')
        assert cfg.test_dataloader[1].get('collate_fn') == cfg.train_dataloader.get('collate_fn')


class TestFitToMachine:

    def config(self, launcher):
        return Config(dict(launcher=launcher, optim_wrapper=dict(
            type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16', optimizer=dict(type='AdamW')),
            env_cfg=dict(dist_cfg=dict(backend='nccl'))))

    def test_without_a_gpu(self, monkeypatch):
        monkeypatch.setattr('focalnet_mm.run.machine.get_device', lambda: 'cpu')
        cfg = self.config('none')
        fit_to_machine(cfg)
        assert cfg.optim_wrapper == dict(type='OptimWrapper', optimizer=dict(type='AdamW'))

    def test_sync_bn_without_a_gpu(self, monkeypatch):
        monkeypatch.setattr('focalnet_mm.run.machine.get_device', lambda: 'cpu')
        cfg = Config(dict(launcher='none', model=dict(
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            heads=[dict(norm_cfg=dict(type='SyncBN')), dict(norm_cfg=dict(type='GN', num_groups=2))])))
        fit_to_machine(cfg)
        assert cfg.model == dict(
            norm_cfg=dict(type='BN', requires_grad=True),
            heads=[dict(norm_cfg=dict(type='BN')), dict(norm_cfg=dict(type='GN', num_groups=2))])

    @pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
    def test_launchers_that_need_a_gpu(self, monkeypatch, launcher):
        monkeypatch.setattr('focalnet_mm.run.machine.get_device', lambda: 'cpu')
        with pytest.raises(ValueError, match=f'--launcher {launcher} needs GPUs, and there is none: use'):
            fit_to_machine(self.config(launcher))

    def test_with_a_gpu(self, monkeypatch):
        monkeypatch.setattr('focalnet_mm.run.machine.get_device', lambda: 'cuda')
        cfg = self.config('pytorch')
        fit_to_machine(cfg)
        assert cfg.to_dict() == self.config('pytorch').to_dict()

    def test_another_wrapper_is_told_of(self, monkeypatch, log):
        monkeypatch.setattr('focalnet_mm.run.machine.get_device', lambda: 'cpu')
        monkeypatch.setattr('torch.distributed.init_process_group', lambda *_: None)
        cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')))
        fit_to_machine(cfg)
        assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel'
        assert 'No GPU: model_wrapper_cfg is MMDistributedDataParallel in place of MMFullyShardedDataParallel.' in log

    def test_evaluation_without_an_optimizer(self, monkeypatch):
        monkeypatch.setattr('focalnet_mm.run.machine.get_device', lambda: 'cpu')
        fit_to_machine(Config(dict(launcher='none')))


class TestCheckCheckpoint:

    @staticmethod
    def model(width=2):
        return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width))

    def test_its_own(self, tmp_path):
        torch.save(dict(state_dict=self.model().state_dict()), tmp_path / 'x.pth')
        check_checkpoint(self.model(), str(tmp_path / 'x.pth'))

    def test_under_test_time_augmentation(self, tmp_path):
        from mmengine.model import BaseTTAModel

        class TTA(BaseTTAModel):
            def __init__(self, module):
                torch.nn.Module.__init__(self)
                self.module = module

            def merge_preds(self, data_samples_list):
                return data_samples_list

        torch.save(dict(state_dict=self.model().state_dict()), tmp_path / 'x.pth')
        check_checkpoint(TTA(self.model()), str(tmp_path / 'x.pth'))

    def test_of_another_width(self, tmp_path):
        torch.save(dict(state_dict=self.model(5).state_dict()), tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r"x.pth is not of this config: 6 of the model's 7 tensors have other "
                                             r'shapes, the first is 0.weight: \(5, 3\) in the checkpoint, \(2, 3\)'):
            check_checkpoint(self.model(), str(tmp_path / 'x.pth'))

    def test_of_another_model(self, tmp_path):
        torch.save({'backbone.0.weight': torch.zeros(1)}, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r"it lacks 6 of the model's 7 tensors, the first is 0\.weight"):
            check_checkpoint(self.model(), str(tmp_path / 'x.pth'))


class TestReadAnyLayout:

    def test_official_classifier(self, tmp_path, classifier, mmpretrain_classifier):
        """mmengine's loader gets mmpretrain's names, head included."""
        from mmengine.runner.checkpoint import CheckpointLoader
        _, state = classifier('tiny-srf')
        torch.save({'model': state}, tmp_path / 'x.pth')
        source = read_any_layout(str(tmp_path / 'x.pth'))
        loaded = CheckpointLoader.load_checkpoint(source, map_location='cpu')
        model = mmpretrain_classifier('tiny-srf', embed_dims=8)
        model.load_state_dict(loaded['state_dict'], strict=True)
        assert torch.equal(model.head.fc.weight, state['head.weight'])
        check_checkpoint(model, str(tmp_path / 'x.pth'))

    def test_what_mmengine_reads_stays(self):
        assert read_any_layout('s3://bucket/x.pth') == 's3://bucket/x.pth'

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'x.pth does not exist'):
            read_any_layout(str(tmp_path / 'x.pth'))


HOOKS = dict(mmdet='DetVisualizationHook', mmseg='SegVisualizationHook', mmpretrain='VisualizationHook')


class TestFlags:
    """With the hooks that the libraries register."""

    def config(self, scope, **settings):
        steps = [dict(type='LoadImageFromFile'), dict(type='Pack', meta_keys=('img_id',))]
        return Config(dict(
            default_scope=scope, default_hooks=dict(visualization=dict(type=HOOKS.get(scope, 'LoggerHook'))),
            model=dict(type='Model'), visualizer=dict(type='Visualizer'),
            test_evaluator=dict(type='Metric', metric=['bbox']),
            test_dataloader=dict(dataset=dict(dataset=dict(pipeline=steps))), **settings))

    @pytest.mark.parametrize('as_class', [False, True])
    @pytest.mark.parametrize(('scope', 'expected'), [
        ('mmdet', dict(draw=True, test_out_dir='/x/y')),
        ('mmseg', dict(draw=True, interval=1)),
        ('mmpretrain', dict(enable=True, out_dir='/x/y'))])
    def test_show_dir(self, scope, expected, as_class):
        pytest.importorskip(scope)
        cfg = self.config(scope)
        if as_class:
            cfg.default_hooks.visualization.type = getattr(
                importlib.import_module(f'{scope}.engine.hooks'), HOOKS[scope])
        kind = cfg.default_hooks.visualization.type
        draw_predictions(cfg, '/x/y')
        assert cfg.default_hooks.visualization == dict(type=kind, **expected)
        assert cfg.visualizer.get('save_dir') == ('/x/y' if scope == 'mmseg' else None)

    def test_show(self):
        pytest.importorskip('mmdet')
        cfg = self.config('mmdet')
        draw_predictions(cfg, None, show=True, wait_time=0.5)
        assert cfg.default_hooks.visualization == dict(
            type='DetVisualizationHook', draw=True, show=True, wait_time=0.5)

    @pytest.mark.parametrize('hooks', [{}, dict(visualization=dict(type='LoggerHook')),
                                       dict(visualization=dict(type='NobodyHasThis'))])
    def test_show_without_such_a_hook(self, hooks):
        cfg = self.config('mmdet')
        cfg.default_hooks = hooks
        with pytest.raises(ValueError, match='--show and --show-dir need a visualization hook that draws'):
            draw_predictions(cfg, 'x')

    def test_tta_of_a_library_without(self):
        with pytest.raises(ValueError, match='--tta: mmpose has no test-time augmentation of its own; write tta_model'):
            add_tta(self.config('mmpose'))

    @pytest.mark.parametrize(('scope', 'dump'), [('mmdet', 'mmdet.DumpDetResults'), (
        'mmpretrain', 'mmengine.DumpResults')])
    def test_out(self, scope, dump):
        cfg = self.config(scope)
        keep_predictions(cfg, 'x.pkl')
        assert cfg.test_evaluator[0].type == 'Metric'
        assert cfg.test_evaluator[1] == dict(type=dump, out_file_path='x.pkl')
        with pytest.raises(ValueError, match=r'--out must end in .pkl or .pickle, got x.json'):
            keep_predictions(cfg, 'x.json')

    def test_several_loaders(self):
        """As a loop of the config's own takes them: each is augmented, and has metrics of its own."""
        cfg = self.config('mmdet')
        joined = dict(dataset=dict(type='ConcatDataset', datasets=[cfg.test_dataloader.dataset.dataset] * 2))
        cfg.test_dataloader = [cfg.test_dataloader, joined]
        cfg.test_evaluator = [[cfg.test_evaluator], [dict(type='Another')]]
        with pytest.raises(ValueError, match='--out: the config tests on 2 data loaders in turn, each with metrics of'):
            keep_predictions(cfg, 'x.pkl')
        add_tta(cfg)
        steps = [cfg.test_dataloader[0].dataset.dataset.pipeline, *(
            part.pipeline for part in cfg.test_dataloader[1].dataset.datasets)]
        assert [[step.type for step in pipeline] for pipeline in steps] == [['LoadImageFromFile', 'TestTimeAug']] * 3
        cfg.test_evaluator[1][0].metric = ['segm']
        with pytest.raises(ValueError, match='this config predicts masks'):
            add_tta(cfg)

    def test_out_of_a_segmenter(self):
        cfg = self.config('mmseg')
        keep_predictions(cfg, 'folder')
        assert cfg.test_evaluator == dict(type='Metric', metric=['bbox'], output_dir='folder', keep_results=True)

    def test_tta_flips_by_default(self):
        cfg = self.config('mmdet')
        add_tta(cfg)
        assert cfg.model.type == 'DetTTAModel'
        assert cfg.model.module == dict(type='Model')
        load, tta = cfg.test_dataloader.dataset.dataset.pipeline
        flips, (pack,) = tta.transforms
        assert load.type == 'LoadImageFromFile'
        assert [flip.prob for flip in flips] == [1.0, 0.0]
        assert pack.meta_keys == ('img_id', 'flip', 'flip_direction')

    def test_tta_of_the_config(self):
        cfg = self.config('mmseg', tta_model=dict(type='Mine'), tta_pipeline=[dict(type='Mine')])
        add_tta(cfg)
        assert cfg.model == dict(type='Mine', module=dict(type='Model'))
        assert cfg.test_dataloader.dataset.dataset.pipeline == [dict(type='Mine')]

    def test_tta_of_masks(self):
        cfg = self.config('mmdet')
        cfg.test_evaluator.metric = ['bbox', 'segm']
        with pytest.raises(ValueError, match=r'merges boxes only, and this config predicts masks; leave'):
            add_tta(cfg)
