"""What a user installs."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from focalnet_mm.zoo.rows import read_zoo
from tests.helpers.tools import ROOT

pytestmark = pytest.mark.slow


def tracked():
    return set(subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True,
                              check=True).stdout.split('\0')) - {''}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """An sdist, and the wheel that is built from it, of a checkout in which files lie that git does not track."""
    checkout = tmp_path_factory.mktemp('checkout')
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    for command in ('init', 'add -A'):
        subprocess.run(['git', *command.split()], cwd=checkout, check=True, capture_output=True)
    for name in ('tools/wandb.key', 'tools/mine.py', 'configs/mmdet/mine.py', 'focalnet_mm/mine.py', 'docs/mine.md'):
        (checkout / name).touch()
    folder = tmp_path_factory.mktemp('dist')
    done = subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, checkout],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob('*.tar.gz')), next(folder.glob('*.whl'))


def test_wheel_holds_the_package_and_what_mim_looks_for(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if '.dist-info/' not in name}
        metadata, scripts = (wheel.read(next(name for name in wheel.namelist() if name.endswith(end))).decode()
                             for end in ('METADATA', 'entry_points.txt'))
    carried = {name for name in tracked() if name.startswith(('configs/', 'tools/')) or name == 'model-index.yml'}
    package = {name for name in tracked() if name.startswith('focalnet_mm/')}
    assert 'focalnet_mm/backbone/compute/cpu/block.py' in package
    assert names == package | {f'focalnet_mm/.mim/{name}' for name in carried}
    assert 'focalnet-mm = focalnet_mm.cli:main' in scripts
    # A fork of an OpenMMLab library provides the same modules under another distribution's name.
    assert not any(name in line for line in metadata.splitlines() if line.startswith('Requires-Dist')
                   and 'extra ==' not in line for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain'))


def test_nothing_that_is_installed_is_replaced(built):
    """Beside the oldest stack that is supported, each requirement is met by what is there."""
    with zipfile.ZipFile(built[1]) as wheel:
        metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith('METADATA'))).decode()
    required = [Requirement(line.partition(': ')[2]) for line in metadata.splitlines()
                if line.startswith('Requires-Dist') and 'extra ==' not in line]
    versions = dict(torch='2.0.1', numpy='1.26.4')
    assert versions.keys() <= {each.name for each in required}
    assert all(each.specifier.contains(versions.get(each.name, '0.0.1')) for each in required)


def test_sdist_holds_what_git_tracks(built):
    with tarfile.open(built[0]) as sdist:
        names = {member.name.split('/', 1)[1] for member in sdist.getmembers() if member.isfile()}
    assert {name for name in names if '.egg-info/' not in name} - {'PKG-INFO', 'setup.cfg'} == tracked()


@pytest.fixture(scope='module')
def site(built, tmp_path_factory):
    """A folder that the wheel is installed in."""
    folder = tmp_path_factory.mktemp('site')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', folder, built[1]],
                   check=True, timeout=300)
    return str(folder)


def test_mim_search_finds_the_models(site, tmp_path):
    done = subprocess.run(
        [Path(sys.executable).parent / 'mim', 'search', 'focalnet-mm', '--config', 'upernet_focalnet_t_160k',
         'dino_focalnet_l_fl3_4scale_12e', '--json', tmp_path / 'found.json'], cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': site}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / 'found.json').read_text())
    results = {row.name: next(iter(row.results.values())) for row in read_zoo(ROOT) if row.results}
    assert found['ade20k/miou_(published)']['upernet_focalnet_t_160k'] == results['upernet_focalnet_t_160k']['mIoU']
    assert found['coco/box_ap_(published)']['dino_focalnet_l_fl3_4scale_12e'] == results[
        'dino_focalnet_l_fl3_4scale_12e']['box AP']
    assert set(found['parameters']) == {'upernet_focalnet_t_160k', 'dino_focalnet_l_fl3_4scale_12e'}
    assert found['weight']['dino_focalnet_l_fl3_4scale_12e'].endswith('dino_focal_large_lrf_384_4scale_12ep.pth')


def test_installed_wheel_imports_without_the_checkout(site, tmp_path):
    code = (f'import sys; sys.path.insert(0, {site!r}); import focalnet_mm; from mmengine.registry import MODELS; '
            'print(focalnet_mm.__file__, MODELS.get("FocalNet") is focalnet_mm.FocalNet)')
    out = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.split() == [f'{site}/focalnet_mm/__init__.py', 'True']


def test_import_brings_only_torch_mmengine_and_mmcv_along():
    code = ('import sys, torch, numpy, mmcv.cnn, mmengine.model, mmengine.registry, mmengine.runner; '
            'before = set(sys.modules); import focalnet_mm; '
            'new = {name.split(".")[0] for name in set(sys.modules) - before}; '
            'print(new - {"torch"} - sys.stdlib_module_names, "mmcv.ops" in sys.modules)')
    out = subprocess.run([sys.executable, '-c', code], cwd='/', capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "{'focalnet_mm'} False"
