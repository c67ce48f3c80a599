"""The same tests on a CPU that has less, and without oneDNN; torch reads both when it starts."""

import sys

import pytest

from focalnet_mm.releases import HAS_OPERATORS
from tests.helpers.tools import ROOT

MACHINES = {
    'AVX2': dict(ONEDNN_MAX_CPU_ISA='AVX2', ATEN_CPU_CAPABILITY='avx2'),
    'without oneDNN': dict(FOCALNET_WITHOUT_ONEDNN='1'),
}
NAMES = [pytest.param('AVX2', marks=pytest.mark.skipif(
    not HAS_OPERATORS, reason="PyTorch 2.1's own convolution in bfloat16 ends in an error there")), 'without oneDNN']


@pytest.mark.parametrize('name', NAMES)
def test_everything_again(name, run):
    out = run(sys.executable, '-W', 'ignore', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-x',
              'tests/backbone/compute/test_cpu.py', 'tests/backbone/test_against_timm.py', '-k',
              'not compiled and not memory and not (huge or large or base or small)',
              cwd=ROOT, **MACHINES[name])
    assert ' passed' in out


@pytest.mark.parametrize('name', NAMES)
def test_bfloat16(name, run):
    """Where the CPU has no bfloat16, oneDNN's operators for it end in an error: the reference computes it."""
    code = ('import torch, focalnet_mm; from focalnet_mm.backbone.compute import choose; '
            'net = focalnet_mm.FocalNet("tiny-lrf").eval(); x = torch.randn(1, 3, 64, 64)\n'
            'with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):\n'
            '    print(net(x)[-1].isfinite().all().item(), choose("auto", x))')
    assert run(sys.executable, '-W', 'ignore', '-c', 'import tests.conftest\n' + code, cwd=ROOT,
               **MACHINES[name]).split()[-2:] == ['True', 'reference']
