"""The command lines, run as a user runs them."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from focalnet_mm.shapes import write_dataset
from tests.conftest import ROOT

SHAPES = 'configs/mmdet/maskrcnn_focalnet_t_shapes.py'
# A thinner model still, and workers that cost no start-up.
SMALL = ['model.backbone.depths=(1,1,1,1)', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
         'test_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
         'val_dataloader.persistent_workers=False', 'test_dataloader.persistent_workers=False',
         'default_hooks.logger.interval=1']


def run(*command, expect=0, cwd=ROOT, **environment):
    """Run a command that must succeed, or fail where ``expect`` is not 0; returns what it printed to both streams."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=540, check=False,
                          env={**os.environ, 'OMP_NUM_THREADS': '1', **environment})
    assert (done.returncode == 0) == (expect == 0), done.stdout[-4000:]
    return done.stdout


def tool(name, *arguments, **kwargs):
    return run(sys.executable, ROOT / 'tools' / name, *arguments, **kwargs)


def scalars(work_dir):
    """The logged values of the newest run in a work dir."""
    newest = max(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in newest.read_text().splitlines()]


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    write_dataset(folder, train=8, val=4, size=96)
    return folder


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory):
    """A work dir after one epoch of training."""
    work_dir = tmp_path_factory.mktemp('work')
    tool('train.py', SHAPES, '--work-dir', work_dir, '--cfg-options', f'data_root={shapes}/coco', *SMALL,
         'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    return work_dir


class TestTrainAndTest:

    def test_resume_goes_on(self, trained, shapes, tmp_path):
        shutil.copytree(trained, tmp_path / 'work')
        work_dir = tmp_path / 'work'
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
        out = tool('train.py', SHAPES, '--work-dir', work_dir, '--resume', '--cfg-options', f'data_root={shapes}/coco',
                   *SMALL, 'train_cfg.max_epochs=2', 'train_cfg.val_interval=1')
        assert 'resumed epoch: 1, iter: 2' in out
        assert 'Epoch(train) [2][1/2]' in re.sub(r'\s+', ' ', out)
        assert 'Epoch(train) [1][' not in re.sub(r'\s+', ' ', out.split('resumed epoch')[1])
        old, new = torch.load(trained / 'epoch_1.pth'), torch.load(work_dir / 'epoch_2.pth')
        assert new['meta']['iter'] == 4
        assert not torch.equal(old['state_dict']['backbone.norm0.weight'], new['state_dict']['backbone.norm0.weight'])

    def test_evaluation_repeats_the_last_validation(self, trained, shapes, tmp_path):
        tool('test.py', SHAPES, trained / 'epoch_1.pth', '--work-dir', tmp_path / 'work', '--out',
             tmp_path / 'predictions.pkl', '--show-dir', tmp_path / 'pictures', '--cfg-options',
             f'data_root={shapes}/coco', *SMALL)
        validated = [line for line in scalars(trained) if 'coco/bbox_mAP' in line][-1]
        evaluated = json.loads(next((tmp_path / 'work').glob('*/*.json')).read_text())
        compared = [key for key in evaluated if key.startswith('coco/')]
        assert len(compared) == 12
        assert {key: evaluated[key] for key in compared} == {key: validated[key] for key in compared}
        assert (tmp_path / 'predictions.pkl').stat().st_size > 1000
        pictures = sorted((tmp_path / 'pictures').iterdir())
        assert [path.name for path in pictures] == [f'{i:012d}.jpg' for i in range(9, 13)]
        # Truth and prediction stand side by side.
        assert cv2.imread(str(pictures[0])).shape == (96, 192, 3)

    def test_checkpoint_of_another_config(self, trained, shapes, tmp_path):
        out = tool('test.py', SHAPES, trained / 'epoch_1.pth', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', *SMALL[1:], expect=1)
        assert re.search(r"test.py: The checkpoint \S+epoch_1.pth is not of this config: it lacks \d+ of the model's "
                         r'\d+ tensors, the first is backbone.layers.0.blocks.1.norm1.weight.$', out, re.M)

    def test_checkpoint_that_is_no_checkpoint(self, shapes, tmp_path):
        (tmp_path / 'x.pth').write_bytes(b'oops')
        for name, message in (('x.pth', r'\(4 bytes\) is damaged'), ('y.pth', 'does not exist: give the path or URL')):
            out = tool('test.py', SHAPES, tmp_path / name, '--work-dir', tmp_path, '--cfg-options',
                       f'data_root={shapes}/coco', *SMALL, expect=1)
            assert re.search(rf'\ntest.py: The checkpoint \S+{name} .*{message}.*\n$|'
                             rf'^test.py: The checkpoint \S+{name} .*{message}.*\n$', out), out[-500:]

    def test_tta_of_masks(self, trained, shapes, tmp_path):
        out = tool('test.py', SHAPES, trained / 'epoch_1.pth', '--tta', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', *SMALL, expect=1)
        assert out.endswith('and this config predicts masks; leave --tta out.\n')

    def test_missing_data(self, tmp_path):
        for name, extra in (('train.py', []), ('test.py', ['x.pth'])):
            out = tool(name, 'configs/mmdet/maskrcnn_focalnet_b_1x.py', *extra, '--work-dir', tmp_path,
                       '--cfg-options', f'data_root={tmp_path}/nowhere', expect=1)
            assert re.search(rf'^{name}: {tmp_path}/nowhere/?, which \w+_dataloader.dataset.data_root names, does not '
                             r'exist \(and \d more\): download COCO 2017 .* from https://cocodataset.org/#download; or '
                             r'point to your copy of the data with --cfg-options data_root=DIR.\n$', out, re.M), out
            assert 'Traceback' not in out

    def test_missing_config_and_checkpoint_to_resume(self, shapes, tmp_path):
        assert tool('train.py', 'configs/mmdet/maskrcnn_focalnet_x_1x.py', expect=1).endswith(
            'train.py: The config configs/mmdet/maskrcnn_focalnet_x_1x.py does not exist: give the path of a config '
            'file.\n')
        out = tool('train.py', SHAPES, '--resume', tmp_path / 'x.pth', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', expect=1)
        assert 'train.py: The checkpoint ' in out
        assert 'Traceback' not in out

    def test_flags_of_mmdets_tools(self):
        for name, flags in (
                ('train.py', '--work-dir --amp --resume --auto-scale-lr --cfg-options --launcher'),
                ('test.py', '--work-dir --out --show --show-dir --wait-time --tta --cfg-options --launcher')):
            assert set(flags.split()) <= set(re.findall(r'--[\w-]+', tool(name, '--help')))


OTHER_METHODS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').glob('*/*_shapes*.py')
                       if path.name != Path(SHAPES).name)


@pytest.mark.parametrize('config', OTHER_METHODS)
def test_every_method_trains_resumes_evaluates_and_draws(config, shapes, tmp_path):
    semantic = 'mmseg' in config
    root = shapes / ('ade/ADEChallengeData2016' if semantic else 'coco')
    unit, first = ('iter', 2) if semantic else ('epoch', 1)

    def options(last):
        return ['--cfg-options', f'data_root={root}', 'model.backbone.init_cfg=None', f'train_cfg.max_{unit}s={last}',
                f'train_cfg.val_interval={last}', f'default_hooks.checkpoint.interval={first}',
                'default_hooks.logger.interval=1', *SMALL[1:-1]]

    tool('train.py', config, '--work-dir', tmp_path, *options(first))
    out = tool('train.py', config, '--work-dir', tmp_path, '--resume', *options(2 * first))
    assert f'resumed epoch: {0 if semantic else 1}, iter: 2' in out
    trained = tmp_path / f'{unit}_{2 * first}.pth'
    assert trained.exists()
    assert not (tmp_path / f'{unit}_{first}.pth').exists()
    validated = scalars(tmp_path)[-1]

    tool('test.py', config, trained, '--work-dir', tmp_path, '--show-dir', tmp_path / 'pictures', *options(first))
    tested = json.loads(max(tmp_path.glob('*/*.json')).read_text())
    metric = 'mIoU' if semantic else 'coco_panoptic/PQ' if 'panoptic' in config else 'coco/bbox_mAP'
    # A detector that finds nothing logs nothing.
    assert tested.get(metric) == validated.get(metric)
    if semantic:
        assert tested[metric] > 0
    pictures = list((tmp_path / 'pictures').rglob('*.png')) + list((tmp_path / 'pictures').rglob('*.jpg'))
    assert len(pictures) == 4
    for picture in pictures:
        image = cv2.imread(str(picture))
        assert image.std() > 0
        # Truth and prediction side by side.
        assert image.shape[1] >= 2 * image.shape[0] - 1


def test_other_layouts_of_whole_models(shapes, tmp_path):
    """detrex's layout of a trained DINO: evaluated as its own, and where training starts."""
    config = 'configs/mmdet/dino_focalnet_t_shapes.py'
    options = ['--cfg-options', f'data_root={shapes}/coco', 'model.backbone.init_cfg=None', 'train_cfg.max_epochs=1',
               'train_cfg.val_interval=1', 'default_hooks.logger.interval=1', *SMALL[1:-1]]
    tool('train.py', config, '--work-dir', tmp_path, *options)
    out = tool('convert_checkpoint.py', tmp_path / 'epoch_1.pth', tmp_path / 'x.safetensors', '--to', 'detrex')
    assert 'layout mm, ' in out
    assert 'layout detrex, ' in out
    results = []
    for checkpoint in ('epoch_1.pth', 'x.safetensors'):
        tool('test.py', config, tmp_path / checkpoint, '--work-dir', tmp_path / checkpoint[0], '--out',
             tmp_path / f'{checkpoint}.pkl', *options)
        results.append(pickle.loads((tmp_path / f'{checkpoint}.pkl').read_bytes()))
    for own, theirs in zip(*results, strict=True):
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(own['pred_instances'][key], theirs['pred_instances'][key])
    out = tool('train.py', config, '--work-dir', tmp_path / 'again', *options, f'load_from={tmp_path}/x.safetensors')
    assert f'Load checkpoint from focalnet://{tmp_path}/x.safetensors' in out
    assert 'missing keys' not in out


def test_multi_scale_evaluation_of_a_segmenter(shapes, tmp_path):
    config, root = 'configs/mmseg/upernet_focalnet_t_shapes.py', shapes / 'ade' / 'ADEChallengeData2016'
    options = ['--cfg-options', f'data_root={root}', 'model.backbone.init_cfg=None', 'train_cfg.max_iters=1',
               'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1', *SMALL[1:-1]]
    tool('train.py', config, '--work-dir', tmp_path, *options)
    tool('test.py', config, tmp_path / 'iter_1.pth', '--work-dir', tmp_path, '--tta', '--out', tmp_path / 'maps',
         *options)
    assert json.loads(max(tmp_path.glob('*/*.json')).read_text())['mIoU'] > 0
    maps = sorted((tmp_path / 'maps').iterdir())
    assert len(maps) == 4
    assert cv2.imread(str(maps[0]), cv2.IMREAD_UNCHANGED).shape == (96, 96)


class TestBadData:

    def test_class_counts(self, shapes, tmp_path):
        out = tool('train.py', SHAPES, '--work-dir', tmp_path, '--cfg-options', f'data_root={shapes}/coco', *SMALL,
                   'model.roi_head.bbox_head.num_classes=7', expect=1)
        assert out.endswith(
            'train.py: model.roi_head.bbox_head has 7 classes, the data set of train_dataloader.dataset has 5: set '
            'num_classes of every head to 5, or train_dataloader.dataset.metainfo.classes to the classes that the '
            'model has.\n')

    def test_annotations_of_other_classes(self, shapes, tmp_path):
        out = tool('train.py', 'configs/mmdet/maskrcnn_focalnet_t_1x.py', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', *SMALL, 'model.backbone.init_cfg=None', expect=1)
        assert out.endswith(
            f'train.py: {shapes}/coco/annotations/instances_train2017.json holds 0 of the 80 classes that the data set '
            'has: name those of your annotations in train_dataloader.dataset.metainfo.classes.\n')

    def test_panoptic_folder_without_its_pngs(self, shapes, tmp_path):
        root = tmp_path / 'coco'
        shutil.copytree(shapes / 'coco', root)
        for png in (root / 'annotations' / 'panoptic_train2017').iterdir():
            png.unlink()
        out = tool('train.py', 'configs/mmdet/mask2former_focalnet_t_shapes_panoptic.py', '--work-dir', tmp_path,
                   '--cfg-options', f'data_root={root}', *SMALL, expect=1)
        assert out.endswith(
            f'train.py: {root}/annotations/panoptic_train2017/, which train_dataloader.dataset.data_prefix.seg names, '
            "holds no .png file: the label maps belong there; for COCO panoptic, unpack the panoptic annotations' own "
            'archive, panoptic_train2017.zip, beside it.\n')

    @pytest.mark.parametrize('given', ['ade', 'ade/ADEChallengeData2016/images'])
    def test_ade_folder_of_another_nesting(self, shapes, tmp_path, given):
        out = tool('train.py', 'configs/mmseg/upernet_focalnet_t_160k.py', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/{given}', expect=1)
        right = f'{shapes}/ade/ADEChallengeData2016'
        assert re.search(rf'^train.py: {shapes}/{given}/images/training, which train_dataloader.dataset.data_prefix.'
                         rf'img_path names, does not exist \(and \d more\), but the data lies in {right}: add '
                         rf'--cfg-options data_root={right}\.\n$', out, re.M), out[-600:]

    def test_checkpoint_of_another_row(self, trained, shapes, tmp_path):
        out = tool('test.py', 'configs/mmdet/atss_focalnet_t_shapes.py', trained / 'epoch_1.pth', '--work-dir',
                   tmp_path, '--cfg-options', f'data_root={shapes}/coco', 'model.backbone.init_cfg=None', *SMALL[1:],
                   expect=1)
        assert re.search(r"test.py: The checkpoint \S+epoch_1.pth is not of this config: it lacks \d+ of the model's "
                         r'\d+ tensors, the first is \S+\.\n$', out), out[-600:]

    def test_config_without_test_data(self, trained, tmp_path):
        out = tool('test.py', 'configs/mmpretrain/focalnet_l_fl3_in22k.py', trained / 'epoch_1.pth', '--work-dir',
                   tmp_path, expect=1)
        assert out.endswith('focalnet_l_fl3_in22k.py has no test data: there is nothing to evaluate.\n')


class TestOnCoco:
    """The real config, thin and at a small scale, on real photos."""

    OPTIONS = (
        'train_dataloader.dataset.ann_file=annotations/instances_val2017.json',
        'train_dataloader.dataset.data_prefix.img=val2017/', *(
            f'train_dataloader.dataset.pipeline.3.transforms.{branch}.scales=[(96,160)]' for branch in
            ('0.0', '1.0', '1.2')), 'val_dataloader.dataset.pipeline.1.scale=(160,96)',
        'test_dataloader.dataset.pipeline.1.scale=(160,96)',
        'model.backbone.init_cfg=None', 'model.backbone.embed_dims=16', 'model.backbone.depths=(1,1,1,1)',
        'model.neck.in_channels=[16,32,64,128]', 'param_scheduler.0.end=3',
        # Without clipping, a model from scratch sometimes diverges at a rate that learns anything in so few steps.
        'optim_wrapper.optimizer.lr=5e-4', 'optim_wrapper.clip_grad.max_norm=5.0', 'randomness.seed=1',
        'train_cfg.max_epochs=12', 'train_cfg.val_interval=12',
        'model.test_cfg.rcnn.score_thr=0.0', *SMALL[1:])

    def test_loss_falls(self, coco_samples, tmp_path):
        tool('train.py', 'configs/mmdet/maskrcnn_focalnet_t_1x.py', '--work-dir', tmp_path, '--cfg-options',
             f'data_root={coco_samples}', *self.OPTIONS)
        losses = [line['loss'] for line in scalars(tmp_path) if 'loss' in line]
        assert len(losses) == 12
        assert np.mean(losses[-3:]) < 0.7 * losses[0]
        assert 'coco/segm_mAP' in scalars(tmp_path)[-1]
        assert (tmp_path / 'epoch_12.pth').exists()


class TestOthersTools:

    @staticmethod
    def options(shapes, epochs):
        """With other tools than ours each data set and metric is moved by itself."""
        root = f'{shapes}/coco/'
        return ['--cfg-options', *SMALL, f'train_cfg.max_epochs={epochs}',
                *(f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')),
                *(f'{split}_evaluator.ann_file={root}annotations/instances_val2017.json' for split in ('val', 'test'))]

    def test_mmdets_own_train(self, shapes, tmp_path):
        import mmdet
        path = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
        run(sys.executable, path, SHAPES, '--work-dir', tmp_path, *self.options(shapes, 1))
        assert (tmp_path / 'epoch_1.pth').exists()
        out = run(sys.executable, path, SHAPES, '--work-dir', tmp_path, '--resume', *self.options(shapes, 2))
        assert 'resumed epoch: 1' in out

    def test_mim_train(self, shapes, tmp_path):
        run(Path(sys.executable).parent / 'mim', 'train', 'mmdet', ROOT / SHAPES, '--work-dir', tmp_path,
            *self.options(shapes, 1))
        assert (tmp_path / 'epoch_1.pth').exists()

    def test_det_inferencer(self, trained, shapes):
        from mmdet.apis import DetInferencer
        inferencer = DetInferencer(str(trained / Path(SHAPES).name), str(trained / 'epoch_1.pth'), device='cpu',
                                   show_progress=False)
        image = str(next((shapes / 'coco' / 'val2017').iterdir()))
        predictions = inferencer(image, pred_score_thr=0, return_datasamples=True)['predictions']
        assert predictions[0].pred_instances.masks.shape[1:] == (96, 96)


RANKS_CONFIG = '''
_base_ = '{config}'
custom_imports = dict(imports=['focalnet_mm', 'record_losses'], allow_failed_imports=False)
custom_hooks = [dict(type='RecordLosses')]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, sampler=dict(shuffle=False))
train_cfg = dict(max_epochs=1, val_interval=2)
default_hooks = dict(logger=dict(interval=1))
model = dict(backbone=dict(depths=(1, 1, 1, 1)))
'''
RECORD_LOSSES = '''
from pathlib import Path
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class RecordLosses(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(Path(runner.work_dir) / f'losses_{get_rank()}.txt', 'a') as file:
            file.write(f'{outputs["loss"].item()!r}\\n')

    def after_train(self, runner):
        assert not runner.model.find_unused_parameters
        torch.save([p.detach() for p in runner.model.parameters()], Path(runner.work_dir) / f'weights_{get_rank()}.pth')
'''


def test_two_processes_agree(shapes, tmp_path):
    """Both ranks see the same picture in the same order, so their losses are equal where their weights are."""
    root = tmp_path / 'coco'
    shutil.copytree(shapes / 'coco', root)
    annotations = root / 'annotations' / 'instances_train2017.json'
    content = json.loads(annotations.read_text())
    first = content['images'][0]['id']
    own = [a for a in content['annotations'] if a['image_id'] == first]
    content['images'] = [dict(content['images'][0], id=i) for i in range(8)]
    content['annotations'] = [dict(a, image_id=i, id=100 * i + j) for i in range(8) for j, a in enumerate(own)]
    annotations.write_text(json.dumps(content))
    (tmp_path / 'record_losses.py').write_text(RECORD_LOSSES)
    (tmp_path / 'two_ranks.py').write_text(RANKS_CONFIG.format(config=ROOT / SHAPES))

    out = run('bash', ROOT / 'tools' / 'dist_train.sh', tmp_path / 'two_ranks.py', 2, '--work-dir', tmp_path / 'work',
              '--cfg-options', f'data_root={root}', PYTHONPATH=str(tmp_path), PORT='29611',
              PATH=f'{Path(sys.executable).parent}:/usr/bin:/bin')
    assert 'the processes talk through gloo' in out
    losses = [(tmp_path / 'work' / f'losses_{rank}.txt').read_text().splitlines() for rank in (0, 1)]
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]
    weights = [torch.load(tmp_path / 'work' / f'weights_{rank}.pth') for rank in (0, 1)]
    assert all(torch.equal(*pair) for pair in zip(*weights))

    arguments = ['--cfg-options', f'data_root={root}', *SMALL]
    run('bash', ROOT / 'tools' / 'dist_test.sh', tmp_path / 'two_ranks.py', tmp_path / 'work' / 'epoch_1.pth', 2,
        '--work-dir', tmp_path / 'two', *arguments, PYTHONPATH=str(tmp_path), PORT='29612',
        PATH=f'{Path(sys.executable).parent}:/usr/bin:/bin')
    tool('test.py', tmp_path / 'two_ranks.py', tmp_path / 'work' / 'epoch_1.pth', '--work-dir', tmp_path / 'one',
         *arguments, PYTHONPATH=str(tmp_path))
    one, two = (json.loads(next((tmp_path / name).glob('*/*.json')).read_text()) for name in ('one', 'two'))
    assert {key: value for key, value in one.items() if 'mAP' in key} == {
        key: value for key, value in two.items() if 'mAP' in key}


class TestScripts:

    @pytest.mark.parametrize(('name', 'usage'), [
        ('dist_train.sh', 'CONFIG GPUS'), ('dist_test.sh', 'CONFIG CHECKPOINT GPUS'),
        ('slurm_train.sh', 'PARTITION JOB_NAME CONFIG WORK_DIR'),
        ('slurm_test.sh', 'PARTITION JOB_NAME CONFIG CHECKPOINT')])
    def test_usage(self, name, usage):
        assert f'{name} {usage} [arguments of ' in run('bash', ROOT / 'tools' / name, expect=1)

    @pytest.mark.parametrize(('name', 'arguments', 'expected'), [
        ('slurm_train.sh', ['gpu', 'job', 'c.py', 'out', '--amp', '--cfg-options', 'a="x y"'],
         ['--partition=gpu', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4',
          '--cpus-per-task=5', '--kill-on-bad-exit=1', '--exclusive', '--time=1', 'python', '-u', 'TOOLS/train.py',
          'c.py', '--work-dir=out', '--launcher=slurm', '--amp', '--cfg-options', 'a="x y"']),
        ('slurm_test.sh', ['gpu', 'job', 'c.py', 'x.pth'],
         ['--partition=gpu', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4',
          '--cpus-per-task=5', '--kill-on-bad-exit=1', '--exclusive', '--time=1', 'python', '-u', 'TOOLS/test.py',
          'c.py', 'x.pth', '--launcher=slurm'])])
    def test_slurm(self, tmp_path, name, arguments, expected):
        srun = tmp_path / 'srun'
        srun.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
        srun.chmod(0o755)
        out = run('bash', ROOT / 'tools' / name, *arguments, PATH=f'{tmp_path}:/usr/bin:/bin', GPUS='16',
                  GPUS_PER_NODE='4', SRUN_ARGS='--exclusive --time=1')
        assert out.splitlines() == [part.replace('TOOLS', str(ROOT / 'tools')) for part in expected]

    def test_make_shapes_dataset(self, tmp_path):
        arguments = ['make_shapes_dataset.py', tmp_path / 'x', '--train', '2', '--val', '1', '--size', '48']
        assert '2 + 1 pictures' in tool(*arguments)
        assert 'nothing to do' in tool(*arguments)
        assert 'or replace it with --force' in tool(*arguments, '--seed', '1', expect=1)
        assert '2 + 1 pictures' in tool(*arguments, '--seed', '1', '--force')

    def test_picture_grid(self, tmp_path):
        for i in range(3):
            cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((10, 20, 3), 80 * i, np.uint8))
        tool('picture_grid.py', tmp_path, '--out', tmp_path / 'out' / 'grid.png')
        grid = cv2.imread(str(tmp_path / 'out' / 'grid.png'))
        assert grid.shape == (28, 48, 3)
        assert [grid[5, 5, 0], grid[5, 40, 0], grid[25, 5, 0], grid[25, 40, 0]] == [0, 80, 160, 255]
        (tmp_path / 'x.png').write_text('no picture')
        assert 'x.png is missing or no picture' in tool('picture_grid.py', tmp_path / 'x.png', '--out',
                                                         tmp_path / 'y.png', expect=1)
