"""Installations that lack something end in a sentence that names the cure."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, utils
from mmengine.utils import package_utils

from focalnet_mm import releases
from focalnet_mm.families import name_distributions
from focalnet_mm.installed import cure
from focalnet_mm.run.config import load_config
from focalnet_mm.run.failures import explain_failure
from tests.helpers.tools import ROOT, run


def raised(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    pytest.fail('nothing was raised')


class TestCure:

    def test_pkg_resources(self, monkeypatch, tmp_path):
        """mmengine's own error for a base of a library."""
        if 'pkg_resources' not in package_utils.is_installed.__code__.co_names + tuple(
                package_utils.is_installed.__code__.co_varnames):
            pytest.skip('this mmengine does without')
        monkeypatch.setitem(sys.modules, 'pkg_resources', None)
        (tmp_path / 'x.py').write_text("_base_ = 'mmdet::_base_/default_runtime.py'\n")
        with pytest.raises(ValueError, match=r"x\.py inherits .*pip install 'setuptools<81' \(docs/install\.md\)\.$"):
            load_config(str(tmp_path / 'x.py'))

    def test_mmcv_without_operators(self, monkeypatch):
        """mmcv's own error."""
        from mmcv.utils.ext_loader import load_ext
        monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
        assert explain_failure(raised(load_ext, '_ext', ['nms'])).startswith(
            'mmcv is installed without its operators, as mmcv-lite is')

    def test_mmcv_of_another_torch(self, tmp_path):
        """Python's own error for a library that does not load."""
        (tmp_path / 'mmcv').mkdir()
        (tmp_path / 'mmcv' / '_ext.so').write_bytes(b'not a library')
        spec = importlib.util.spec_from_file_location('mmcv._ext', tmp_path / 'mmcv' / '_ext.so')
        error = raised(importlib.util.module_from_spec, spec)
        assert cure(error) == ('The operators of mmcv were compiled for another torch: compile mmcv anew beside this '
                               'one (docs/install.md).')

    def test_torchvision_of_another_torch(self):
        """What torchvision ends in, within what a registry makes of it."""
        error = RuntimeError('failed to build')
        error.__context__ = RuntimeError('operator torchvision::nms does not exist')
        assert 'torchvision was built for another torch' in cure(error)

    def test_other_errors_are_left_alone(self):
        assert cure(ModuleNotFoundError("No module named 'x'", name='x')) is None
        assert explain_failure(ValueError('this')) == 'this'


class TestNames:

    def test_a_distribution_of_another_name(self, monkeypatch, tmp_path):
        """As the forks' mmsegmentation, whose module is mmseg too; mmengine reads the base."""
        for name in ('mmseg', 'mmdet'):
            pytest.importorskip(name)
            monkeypatch.setitem(utils.MODULE2PACKAGE, name, f'no-{name}')
        name_distributions()
        (tmp_path / 'x.py').write_text("_base_ = ['mmseg::_base_/default_runtime.py']\n")
        assert Config.fromfile(str(tmp_path / 'x.py')).default_scope == 'mmseg'

    def test_names_that_are_right_stay(self, monkeypatch):
        monkeypatch.setitem(utils.MODULE2PACKAGE, 'mmdet', 'torch')
        name_distributions()
        assert utils.MODULE2PACKAGE['mmdet'] == 'torch'


class TestReleases:

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_autocast(self, dtype):
        """What autocast makes of a product, beside what we say of it."""
        weight = torch.ones(2, 2)
        assert releases.autocast_dtype('cpu') is None
        assert releases.autocast_dtype('meta') is None
        if dtype == torch.float16 and not releases.HAS_OPERATORS:
            pytest.skip('autocast of an old torch computes in bfloat16 alone on CPUs')
        with torch.autocast('cpu', dtype=dtype):
            assert releases.autocast_dtype('cpu') == (weight @ weight).dtype == dtype
            with torch.autocast('cpu', enabled=False):
                assert releases.autocast_dtype('cpu') is None

    def test_what_is_too_old(self):
        with pytest.raises(releases.OldTorchError, match=r'^This needs PyTorch 9\.9 or later, but \d.* is installed: '
                                                         r'try that\.$'):
            releases.needs('9.9', 'This', 'try that.', there=False)
        releases.needs('9.9', 'This', 'try that.', there=True)

    def test_export_with_an_old_torch(self, monkeypatch):
        from focalnet_mm.deploy import formats
        monkeypatch.setattr(formats, 'HAS_EXPORT', False)
        for to in ('onnx', 'pt2'):
            with pytest.raises(releases.OldTorchError, match=rf'^Export to {to} needs PyTorch 2\.7 .*try --to torch'):
                formats.check_installed(to)
        formats.check_installed('torchscript')

    def test_functions_in_the_place_of_operators(self, monkeypatch):
        monkeypatch.setattr(releases, 'HAS_OPERATORS', False)

        @releases.custom_op('focalnet_mm::twice', device_types='cpu')
        def twice(x):
            return 2 * x

        twice.register_fake(lambda x: x)
        twice.register_autograd(None, setup_context=None)
        assert twice(3) == 6
        assert releases.register_flops('twice')(len) is len


@pytest.mark.slow
@pytest.mark.parametrize('absent', ['torch', 'mmcv', 'mmengine'])
def test_commands_without_a_library(absent, tmp_path):
    """A newcomer's environment, in a process that does not find the library."""
    (tmp_path / 'sitecustomize.py').write_text(
        'import sys\nclass Finder:\n    def find_spec(self, name, path=None, target=None):\n'
        f'        if name.partition(".")[0] == {absent!r}:\n'
        '            raise ModuleNotFoundError(f"No module named {name!r}", name=name)\n'
        'sys.meta_path.insert(0, Finder())\nimport importlib.util as util\nfound = util.find_spec\n'
        f'util.find_spec = lambda name, package=None: None if name == {absent!r} else found(name, package)\n')
    done = run(sys.executable, '-m', 'focalnet_mm', 'train', 'x.py', expect=1, PYTHONPATH=f'{tmp_path}:{ROOT}')
    assert done.strip().splitlines()[-1].startswith(
        f'focalnet-mm train needs {absent}, which is not installed (docs/install.md says how)')


def test_the_demo_is_tested_with_its_last_checkpoint(tmp_path):
    """The Makefile finds it where the training notes it, of which the command in its place sees the file alone."""
    from focalnet_mm.run.resuming import note_last
    work, tools = tmp_path / 'work', tmp_path / 'bin'
    work.mkdir()
    tools.mkdir()
    (work / 'epoch_13.pth').touch()
    note_last(work, str(work / 'epoch_13.pth'))
    command = tools / 'focalnet-mm'
    command.write_text('#!/bin/sh\n[ "$1" != test ] || { [ "${3##*/}" = epoch_13.pth ] && [ -f "$3" ]; }\n')
    command.chmod(0o755)
    subprocess.run(['make', '-o', f'{work}/.trained', f'{work}/demo.png', f'WORK={work}', f'BIN={tools}'], cwd=ROOT,
                   check=True, capture_output=True)


class TestCheckOfMmcv:
    """requirements/check_mmcv.py, as the Makefile runs it, on machines with other GPUs and builds."""

    @pytest.fixture
    def check(self):
        pytest.importorskip('mmcv._ext')
        spec = importlib.util.spec_from_file_location('check_mmcv', ROOT / 'requirements' / 'check_mmcv.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.mark.parametrize(('visible', 'built', 'nvcc', 'status', 'words'), [
        (False, 'not available', False, 0, None),
        (True, '12.1', False, 0, None),
        (True, 'not available', True, 1, 'torch sees a GPU, but mmcv is compiled for the CPU alone'),
        (True, 'not available', False, 2, 'No nvcc was found'),
    ])
    def test_a_gpu(self, check, visible, built, nvcc, status, words, monkeypatch, capsys, tmp_path):
        from torch.utils import cpp_extension
        (tmp_path / 'bin').mkdir()
        (tmp_path / 'bin' / 'nvcc').touch(0o755)
        monkeypatch.setattr(cpp_extension, 'CUDA_HOME', str(tmp_path) if nvcc else None)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: visible)
        monkeypatch.setattr('mmcv.ops.get_compiling_cuda_version', lambda: built)
        monkeypatch.setattr(check.subprocess, 'run', lambda *_, **__: SimpleNamespace(stdout=''))
        assert check.main() == status
        assert (words or '') in capsys.readouterr().out

    def test_no_operators(self, check, monkeypatch, capsys):
        monkeypatch.delitem(sys.modules, 'mmcv.ops')
        monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
        for name in [name for name in sys.modules if name.startswith('mmcv.ops')]:
            monkeypatch.delitem(sys.modules, name)
        assert check.main() == 1
        assert 'The operators of mmcv do not load beside torch' in capsys.readouterr().out

    @pytest.mark.parametrize(('hidden', 'words'), [(None, 'This machine has NVIDIA X, but torch'), ('', '')])
    def test_a_gpu_that_torch_cannot_use(self, check, hidden, words, monkeypatch, capsys):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
        monkeypatch.setattr(check.subprocess, 'run', lambda *_, **__: SimpleNamespace(stdout='NVIDIA X\n'))
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if hidden is not None:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
        assert check.main() == 0
        assert words in capsys.readouterr().out

    def test_no_nvidia_smi(self, check, monkeypatch):
        def missing(*_, **__):
            raise subprocess.CalledProcessError(9, 'nvidia-smi')
        monkeypatch.setattr(check.subprocess, 'run', missing)
        assert check._names_of_gpus() == ''
