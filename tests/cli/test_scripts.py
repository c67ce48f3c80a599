"""Scripts for clusters, and the small commands."""


import cv2
import numpy as np
import pytest

from tests.helpers.tools import ROOT


class TestScripts:

    @pytest.mark.parametrize(('name', 'usage'), [
        ('dist_train.sh', 'CONFIG GPUS'), ('dist_test.sh', 'CONFIG CHECKPOINT GPUS'),
        ('slurm_train.sh', 'PARTITION JOB_NAME CONFIG WORK_DIR'),
        ('slurm_test.sh', 'PARTITION JOB_NAME CONFIG CHECKPOINT')])
    def test_usage(self, name, usage, run):
        assert f'{name} {usage} [arguments of ' in run('bash', ROOT / 'tools' / name, expect=1)

    @pytest.mark.parametrize(('name', 'arguments', 'expected'), [
        ('slurm_train.sh', ['gpu', 'job', 'c.py', 'out', '--amp', '--cfg-options', 'a="x y"'],
         ['--partition=gpu', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4',
          '--cpus-per-task=5', '--kill-on-bad-exit=1', '--signal=USR1@300', '--exclusive', '--time=1', 'python', '-u',
          'TOOLS/train.py', 'c.py', '--work-dir=out', '--launcher=slurm', '--amp', '--cfg-options', 'a="x y"']),
        ('slurm_test.sh', ['gpu', 'job', 'c.py', 'x.pth'],
         ['--partition=gpu', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4',
          '--cpus-per-task=5', '--kill-on-bad-exit=1', '--exclusive', '--time=1', 'python', '-u', 'TOOLS/test.py',
          'c.py', 'x.pth', '--launcher=slurm'])])
    def test_slurm(self, tmp_path, name, arguments, expected, run):
        srun = tmp_path / 'srun'
        srun.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
        srun.chmod(0o755)
        out = run('bash', ROOT / 'tools' / name, *arguments, PATH=f'{tmp_path}:/usr/bin:/bin', GPUS='16',
                  GPUS_PER_NODE='4', SRUN_ARGS='--exclusive --time=1')
        assert out.splitlines() == [part.replace('TOOLS', str(ROOT / 'tools')) for part in expected]

    def test_make_shapes_dataset(self, tmp_path, tool):
        arguments = ['make_shapes_dataset.py', tmp_path / 'x', '--train', '2', '--val', '1', '--size', '48']
        assert '2 + 1 pictures' in tool(*arguments)
        assert 'nothing to do' in tool(*arguments)
        assert 'or replace it with --force' in tool(*arguments, '--seed', '1', expect=1)
        assert '2 + 1 pictures' in tool(*arguments, '--seed', '1', '--force')

    def test_picture_grid(self, tmp_path, tool):
        for i in range(3):
            cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((10, 20, 3), 80 * i, np.uint8))
        tool('picture_grid.py', tmp_path, '--out', tmp_path / 'out' / 'grid.png')
        grid = cv2.imread(str(tmp_path / 'out' / 'grid.png'))
        assert grid.shape == (28, 48, 3)
        assert [grid[5, 5, 0], grid[5, 40, 0], grid[25, 5, 0], grid[25, 40, 0]] == [0, 80, 160, 255]
        (tmp_path / 'x.png').write_text('no picture')
        assert 'x.png is missing or no picture' in tool('picture_grid.py', tmp_path / 'x.png', '--out',
                                                         tmp_path / 'y.png', expect=1)
