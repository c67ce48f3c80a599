"""Training and evaluation as a user runs them."""

import json
import pickle
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.helpers.tools import ROOT, SHAPES, SMALL

pytestmark = pytest.mark.train


class TestTrainAndTest:

    def test_resume_goes_on(self, trained, shapes, tmp_path, tool):
        shutil.copytree(trained, tmp_path / 'work')
        work_dir = tmp_path / 'work'
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
        out = tool('train.py', SHAPES, '--work-dir', work_dir, '--resume', '--cfg-options', f'data_root={shapes}/coco',
                   *SMALL, 'train_cfg.max_epochs=2', 'train_cfg.val_interval=1')
        assert 'resumed epoch: 1, iter: 2' in out
        assert 'Epoch(train) [2][1/2]' in re.sub(r'\s+', ' ', out)
        assert 'Epoch(train) [1][' not in re.sub(r'\s+', ' ', out.split('resumed epoch')[1])
        # Files of our own, with mmengine's classes in them.
        paths = trained / 'epoch_1.pth', work_dir / 'epoch_2.pth'
        old, new = (torch.load(path, weights_only=False) for path in paths)
        assert new['meta']['iter'] == 4
        assert not torch.equal(old['state_dict']['backbone.norm0.weight'], new['state_dict']['backbone.norm0.weight'])

    def test_evaluation_repeats_the_last_validation(self, trained, shapes, tmp_path, scalars, tool):
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

    def test_checkpoint_of_another_config(self, trained, shapes, tmp_path, tool):
        out = tool('test.py', SHAPES, trained / 'epoch_1.pth', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', *SMALL[1:], expect=1)
        assert re.search(r"test.py: The checkpoint \S+epoch_1.pth is not of this config: it lacks \d+ of the model's "
                         r'\d+ tensors, the first is backbone.layers.0.blocks.1.norm1.weight.$', out, re.M)

    def test_checkpoint_that_is_no_checkpoint(self, shapes, tmp_path, tool):
        (tmp_path / 'x.pth').write_bytes(b'oops')
        for name, message in (('x.pth', r'\(4 bytes\) is damaged'), ('y.pth', 'does not exist: give the path or URL')):
            out = tool('test.py', SHAPES, tmp_path / name, '--work-dir', tmp_path, '--cfg-options',
                       f'data_root={shapes}/coco', *SMALL, expect=1)
            assert re.search(rf'\ntest.py: The checkpoint \S+{name} .*{message}.*\n$|'
                             rf'^test.py: The checkpoint \S+{name} .*{message}.*\n$', out), out[-500:]

    def test_tta_of_masks(self, trained, shapes, tmp_path, tool):
        out = tool('test.py', SHAPES, trained / 'epoch_1.pth', '--tta', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', *SMALL, expect=1)
        assert out.endswith('and this config predicts masks; leave --tta out.\n')

    def test_missing_data(self, trained, tmp_path, tool):
        for name, extra in (('train.py', []), ('test.py', [trained / 'epoch_1.pth'])):
            out = tool(name, 'configs/mmdet/maskrcnn_focalnet_b_1x.py', *extra, '--work-dir', tmp_path,
                       '--cfg-options', f'data_root={tmp_path}/nowhere', expect=1)
            assert re.search(rf'^{name}: {tmp_path}/nowhere/?, which \w+_dataloader.dataset.data_root names, does not '
                             r'exist \(and \d more\): download COCO 2017 .* from https://cocodataset.org/#download; or '
                             r'point to your copy of the data with --cfg-options data_root=DIR.\n$', out, re.M), out
            assert 'Traceback' not in out

    def test_missing_config_and_checkpoint_to_resume(self, shapes, tmp_path, tool):
        assert tool('train.py', 'configs/mmdet/maskrcnn_focalnet_x_1x.py', expect=1).endswith(
            'train.py: The config configs/mmdet/maskrcnn_focalnet_x_1x.py does not exist: give the path of a config '
            'file.\n')
        out = tool('train.py', SHAPES, '--resume', tmp_path / 'x.pth', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', expect=1)
        assert 'train.py: The checkpoint ' in out
        assert 'Traceback' not in out

    def test_flags_of_mmdets_tools(self, tool):
        for name, flags in (
                ('train.py', '--work-dir --amp --resume --auto-scale-lr --cfg-options --launcher'),
                ('test.py', '--work-dir --out --show --show-dir --wait-time --tta --cfg-options --launcher')):
            assert set(flags.split()) <= set(re.findall(r'--[\w-]+', tool(name, '--help')))


OTHER_METHODS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').glob('*/*_shapes*.py')
                       if path.name != Path(SHAPES).name)


@pytest.mark.parametrize('config', OTHER_METHODS)
def test_every_method_trains_resumes_evaluates_and_draws(config, shapes, tmp_path, scalars, tool):
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


def test_other_layouts_of_whole_models(shapes, tmp_path, tool):
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


def test_multi_scale_evaluation_of_a_segmenter(shapes, tmp_path, tool):
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

    def test_loss_falls(self, coco_samples, tmp_path, scalars, tool):
        tool('train.py', 'configs/mmdet/maskrcnn_focalnet_t_1x.py', '--work-dir', tmp_path, '--cfg-options',
             f'data_root={coco_samples}', *self.OPTIONS)
        losses = [line['loss'] for line in scalars(tmp_path) if 'loss' in line]
        assert len(losses) == 12
        assert np.mean(losses[-3:]) < 0.7 * losses[0]
        assert 'coco/segm_mAP' in scalars(tmp_path)[-1]
        assert (tmp_path / 'epoch_12.pth').exists()
