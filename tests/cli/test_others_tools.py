"""The configs in the tools of mmdet and mim, and in several processes."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.tools import ROOT, SHAPES, SMALL

pytestmark = pytest.mark.train


class TestOthersTools:

    @staticmethod
    def options(shapes, epochs):
        """With other tools than ours each data set and metric is moved by itself."""
        root = f'{shapes}/coco/'
        return ['--cfg-options', *SMALL, f'train_cfg.max_epochs={epochs}',
                *(f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val', 'test')),
                *(f'{split}_evaluator.ann_file={root}annotations/instances_val2017.json' for split in ('val', 'test'))]

    def test_mmdets_own_train(self, shapes, tmp_path, run):
        import mmdet
        path = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'
        run(sys.executable, path, SHAPES, '--work-dir', tmp_path, *self.options(shapes, 1))
        assert (tmp_path / 'epoch_1.pth').exists()
        out = run(sys.executable, path, SHAPES, '--work-dir', tmp_path, '--resume', *self.options(shapes, 2))
        assert 'resumed epoch: 1' in out

    def test_mim_train(self, shapes, tmp_path, run):
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
# A hook of one's own is left as it is: LongRunHook would have each rank draw other random numbers.
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(type='OwnCheckpoints'))
model = dict(backbone=dict(depths=(1, 1, 1, 1)))
'''


RECORD_LOSSES = '''
from pathlib import Path
import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class OwnCheckpoints(CheckpointHook):
    pass

@HOOKS.register_module()
class RecordLosses(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(Path(runner.work_dir) / f'losses_{get_rank()}.txt', 'a') as file:
            file.write(f'{outputs["loss"].item()!r}\\n')

    def after_train(self, runner):
        assert not runner.model.find_unused_parameters
        torch.save([p.detach() for p in runner.model.parameters()], Path(runner.work_dir) / f'weights_{get_rank()}.pth')
'''


def test_two_processes_agree(shapes, tmp_path, run, tool):
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
