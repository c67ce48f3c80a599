"""What the benchmark does on a GPU, as far as a machine without one shows."""

import contextlib
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import Interval

from focalnet_mm.backbone.compute.needs import triton_fault
from focalnet_mm.benchmark.agreement import Agreement
from focalnet_mm.benchmark.jobs import jobs_of
from focalnet_mm.benchmark.models import BUILDERS, OURS, default_models
from focalnet_mm.benchmark.report import agreement_table
from focalnet_mm.cli import benchmark, main
from tests.helpers.tools import ROOT

needs_triton = pytest.mark.skipif(bool(triton_fault()), reason='triton 3.6 or later is not installed')


def test_models_by_device():
    """On a GPU all of ours that are computed differently, and nothing that needs mmcv."""
    assert {name for name in default_models('cuda') if name in OURS} == {
        'focalnet-mm triton', 'focalnet-mm reference', 'focalnet-mm reference channels-last'}
    assert 'Swin (mmdet)' in default_models('cpu')
    assert 'Swin (timm)' in default_models('cuda')
    assert set(default_models('cuda')) | set(default_models('cpu')) == set(BUILDERS)


@needs_triton
def test_share_of_the_roofline():
    """The larger one of the times of memory and of arithmetic, for each launch, as the mean of all steps."""
    from focalnet_mm.benchmark.kernels import Launch, kernel_table, shares
    from focalnet_mm.benchmark.traffic import Step
    steps = [Step('level', 60, 40, 10, 13), Step('torch: f', 1000, 1000), Step('rows', 5, 5),
             Step('level', 10, 10, 500, 3), Step('rows', 15, 5), Step('level', 60, 40, 10, 13)]
    order = [('level', 9.0), ('gemm', 7.0), ('rows', 1.0), ('level', 5.0), ('rows', 2.0), ('level', 11.0)]
    launches = [Launch(name, seconds + late) for late in (-0.5, 0.5) for name, seconds in order]
    found = shares(steps, launches, 2, bandwidth=20.0, rate=100.0)
    assert found == [('level 13', 2, 20.0, 5.0 + 5.0), ('level 3', 1, 5.0, 5.0), ('rows', 2, 3.0, 0.5 + 1.0)]
    assert '| level 13 | 2 | 20000000 | 10000000 | 50% |' in kernel_table(found)
    with pytest.raises(RuntimeError, match=r'seen level 5 times in 2 steps, which should run it 6 times'):
        shares(steps, launches[1:], 2, 20.0, 100.0)


@needs_triton
def test_what_a_gpu_ran(monkeypatch):
    """In its order, without what the host did."""
    from focalnet_mm.benchmark import kernels

    class Profiler(contextlib.nullcontext):

        def __enter__(self):
            return self

        def events(self):
            return [SimpleNamespace(name=name, device_type=kind, time_range=Interval(start, start + microseconds))
                    for name, kind, start, microseconds in (
                        ('rows', DeviceType.CUDA, 60, 5), ('cudaLaunchKernel', DeviceType.CPU, 1, 2),
                        ('level', DeviceType.CUDA, 20, 30))]

    monkeypatch.setattr(torch.profiler, 'profile', lambda activities: Profiler())
    steps = []
    assert kernels.launches_of(lambda: steps.append(1), 3) == [('level', 30e-6), ('rows', 5e-6)]
    assert len(steps) == 3


@needs_triton
def test_the_whole_network_is_profiled_as_it_is_measured(monkeypatch):
    from focalnet_mm.benchmark import kernels
    job, = jobs_of(['focalnet-mm'], {}, [(32, 32, 2, 3)], ['training'], ['float32'], ['eager'], 'tiny-srf', 'cpu', None)
    monkeypatch.setattr(kernels, '_REPEATS', 2)
    monkeypatch.setattr(kernels, 'launches_of', lambda step, repeats: [step() for _ in range(repeats)] and [
        kernels.Launch('level', 0.25)] * 3 * repeats)
    assert kernels.busy(job) == (0.75, 3)


def test_a_difference_stops_before_anything_is_measured(monkeypatch, capsys):
    """And NaN is one."""
    for share in (1.2, float('nan')):
        monkeypatch.setattr(benchmark, 'agreements', lambda device, share=share: iter([
            Agreement('blocks', share), Agreement('DDP', 0.0, 'needs a GPU')]))
        with pytest.raises(RuntimeError, match=r'the kernels differ from the reference: blocks$'):
            benchmark._compare('cpu')
        assert '| DDP | not compared: needs a GPU |' in capsys.readouterr().out
    assert '| blocks | 0.50 |' in agreement_table([Agreement('blocks', 0.5)])


@pytest.mark.slow
@pytest.mark.parametrize(('arguments', 'message'), [
    (['--device', 'cuda'], 'sees no GPU'),
    (['--device', 'cpu', '--agreement'], 'the kernels run on a GPU, not on cpu, but for TRITON_INTERPRET=1'),
    (['--device', 'gpu'], '--device gpu: expected a device of PyTorch, such as cpu, cuda or cuda:1'),
    (['--sizes', '²x2:1:3'], '--sizes ²x2:1:3: expected HxW:BATCH:WINDOW'),
    (['--device', 'cpu', '--out', f'{__file__}'], 'expected a folder, or a place for one, but: File exists'),
    (['--device', 'cpu', '--out', f'{__file__}/below'], 'expected a folder, or a place for one, but: Not a directory'),
])
def test_what_it_needs(arguments, message, tool):
    assert message in tool('benchmark.py', *arguments, expect=2)


def test_times_of_kernels_that_fail_take_nothing_else_away(monkeypatch, tmp_path, capsys):
    job, = jobs_of(['focalnet-mm triton'], {}, [(32, 32, 1, 3)], ['training'], ['bfloat16'], ['eager'], 'tiny-lrf',
                   'cuda', None)
    row = dict(job, seconds=0.5, spread=0.0, peak=1e9, floor=0.1)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(benchmark, '_compare', lambda device: 'compared')
    monkeypatch.setattr(benchmark, 'run_jobs', lambda jobs, repeats: ([row], []))
    monkeypatch.setattr(benchmark, 'in_new_process', lambda job: {}['table'])
    with pytest.raises(KeyError):
        main(['benchmark', '--device', 'cuda', '--models', 'focalnet-mm triton', '--out', str(tmp_path)])
    assert json.loads((tmp_path / 'results.json').read_text()) == [row]
    assert (tmp_path / 'table.md').read_text() in (printed := capsys.readouterr().out)
    assert printed.startswith('compared\n')
    assert str(tmp_path / 'chart.png') in printed
    monkeypatch.setattr(benchmark, 'in_new_process', lambda job: dict(table=f'{job["kernels"]} of {job["channels"]}'))
    main(['benchmark', '--device', 'cuda', '--models', 'focalnet-mm triton', '--out', str(tmp_path), '--sizes',
          '32x32:1:3'])
    assert '32×32 b1 w3, bfloat16:\n\n[3, 5, 7] of 96' in (tmp_path / 'table.md').read_text()
    assert '[3, 5, 7] of 96' in capsys.readouterr().out


def test_nothing_could_be_measured(monkeypatch, tmp_path, capsys):
    """Then there is no chart, and none is named."""
    monkeypatch.setattr(benchmark, 'run_jobs', lambda jobs, repeats: ([], ['all failed']))
    with pytest.raises(SystemExit):
        main(['benchmark', '--device', 'cpu', '--models', 'timm', '--out', str(tmp_path)])
    printed = capsys.readouterr()
    assert 'chart.png' not in printed.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ['results.json', 'table.md']
    assert 'all failed' in printed.err


@pytest.mark.slow
@needs_triton
def test_compared_by_the_interpreter_and_without_operators_of_mmcv(run):
    """As on a machine that was rented for it, where mmcv-lite is."""
    code = ('import sys\n'
            'sys.modules.update(dict.fromkeys(("mmcv.ops", "mmcv._ext", "mmdet", "mmseg", "mmpretrain")))\n'
            'from focalnet_mm.cli import main\n'
            'sys.exit(main(["benchmark", "--device", "cpu", "--agreement"]))')
    printed = run(sys.executable, '-W', 'ignore', '-c', code, cwd=ROOT, TRITON_INTERPRET='1')
    assert '| the same numbers twice | 0.00 |' in printed


@pytest.mark.slow
def test_what_fails_is_said_and_the_rest_measured(tmp_path, tool):
    (tmp_path / 'peer.py').write_text('import torch\n\nclass Broken(torch.nn.Module):\n'
                                      '    def forward(self, x):\n        raise RuntimeError("no such layer")\n\n'
                                      'class Whole(torch.nn.Conv2d):\n'
                                      '    def __init__(self):\n        super().__init__(3, 4, 3)\n')
    printed = tool('benchmark.py', '--models', 'Swin (timm)', '--peer', f'broken={tmp_path}/peer.py:Broken',
                   '--peer', f'whole={tmp_path}/peer.py:Whole', '--sizes', '32x32:1:3', '--steps', 'inference',
                   '--repeats', 1, '--device', 'cpu', '--out', tmp_path / 'out', expect=1)
    assert '| whole | inference |' in printed
    assert '1 of 3 could not be measured' in printed
    assert 'broken failed (inference, 32×32 b1 w3, float32, eager)' in printed
    assert 'RuntimeError: no such layer' in printed
