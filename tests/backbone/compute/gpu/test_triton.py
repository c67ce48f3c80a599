"""Where the kernels for GPUs are chosen; and what they compute, in processes of their own."""

import re
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from focalnet_mm import FocalNet
from focalnet_mm.backbone.compute import choose, measured, needs
from focalnet_mm.backbone.compute.measured import MEASURED
from focalnet_mm.releases import HAS_OPERATORS
from tests.helpers.tools import ROOT


@pytest.fixture
def log_once():
    """Sentences that are told once are told again."""
    needs._tell_once.cache_clear()
    yield
    needs._tell_once.cache_clear()


@pytest.fixture
def card(monkeypatch):
    """A GPU that is only told of, as every test of this file needs no more."""
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'a card')
    monkeypatch.setattr(needs, 'triton_fault', lambda: '')
    return monkeypatch


class Images:
    """What ``choose`` asks of images on a GPU, which a machine without one cannot make."""

    device, dtype = torch.device('cuda', 1), torch.float32


class TestChoice:

    @pytest.mark.skipif(not HAS_OPERATORS, reason='blocks learn through operators, which PyTorch 2.4 and later have')
    def test_by_name(self, card):
        assert choose('triton', Images) == 'triton'
        assert choose('auto', Images, 13) == 'reference'
        assert choose('reference', Images) == 'reference'

    @pytest.mark.skipif(not HAS_OPERATORS, reason='blocks learn through operators, which PyTorch 2.4 and later have')
    def test_where_they_were_measured_to_be_faster(self, card):
        """That card, that data type, those kernels; without torch.compile, with which nothing was measured."""
        row = MEASURED[0]
        card.setattr(torch.cuda, 'get_device_name', lambda device: row.card)
        card.setattr(Images, 'dtype', row.dtypes[0])
        assert choose('auto', Images, row.kernel) == 'triton'
        assert choose('auto', Images, row.kernel - 2) == 'reference'
        assert choose('reference', Images, row.kernel) == 'reference'
        with card.context() as other:
            other.setattr(Images, 'dtype', torch.float32)
            assert choose('auto', Images, row.kernel) == 'reference'
        with card.context() as other:
            other.setattr(measured, 'is_compiling', lambda: True)
            assert choose('auto', Images, row.kernel) == 'reference'
        with card.context() as other:
            other.setattr(torch.cuda, 'get_device_name', lambda device: 'another card')
            assert choose('auto', Images, row.kernel) == 'reference'

    @pytest.mark.parametrize(('settings', 'kernel'), [
        (dict(focal_windows=9, focal_levels=3), 13), (dict(focal_windows=3, focal_levels=2), 5),
        (dict(focal_windows=(3, 3, 3, 9), focal_levels=3), 13), (dict(focal_levels=0), 0),
        (dict(focal_windows=(3, 3, 3, 9), focal_levels=3, out_indices=(0, 1)), 7)])
    def test_the_largest_kernel_is_asked_for(self, settings, kernel, monkeypatch):
        asked = []
        monkeypatch.setattr('focalnet_mm.backbone.compute.choose', lambda *args: asked.append(args) or 'reference')
        FocalNet('tiny-lrf', embed_dims=8, depths=(1, 1, 1, 1), **settings)(torch.rand(1, 3, 32, 32))
        assert asked[0][2] == kernel

    def test_not_on_a_cpu(self):
        with pytest.raises(ValueError, match=r"implementation='triton' runs on cuda, but the images are on cpu"):
            FocalNet('tiny-lrf', embed_dims=8, depths=(1, 1, 1, 1), implementation='triton')(torch.rand(1, 3, 32, 32))

    @pytest.mark.parametrize(('what', 'sentence'), [
        ('triton', r'needs triton 3\.6 or later, which is not installed'), ('rocm', 'this PyTorch is for ROCm'),
        ('old', r'needs compute capability 8\.0, and a card has 7\.5'),
        ('float64', 'computes in float32, float16, bfloat16, not in float64')])
    def test_else_the_reference_and_a_sentence_once(self, what, sentence, card, log, log_once):
        if what == 'triton':
            card.setattr(needs, 'triton_fault', lambda: 'triton 3.6 or later, which is not installed')
        elif what == 'rocm':
            card.setattr(torch.version, 'hip', '6.4')
        elif what == 'old':
            card.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
        else:
            card.setattr(Images, 'dtype', torch.float64)
        assert [choose('triton', Images) for _ in range(3)] == ['reference'] * 3
        told = [line for line in log if re.search(sentence, line)]
        assert len(told) == 1
        assert told[0].endswith('the reference computes the blocks.')


@pytest.mark.parametrize(('code', 'fault'), [
    ('__version__ = "3.7.1+git"', r'^$'), ('__version__ = "3.6"', r'^$'), ('__version__ = "10.0.0"', r'^$'),
    ('__version__ = "3.5.1"', r'^triton 3\.6 or later, and 3\.5\.1 is installed$'),
    ('__version__ = "?"', r'^triton 3\.6 or later, and \? is installed$'),
    ('raise OSError("libtriton.so:\\ncannot open")', r'cannot be imported \(OSError: libtriton.so: cannot open\)$'),
    ('import no_such_module', r"cannot be imported \(ModuleNotFoundError: No module named 'no_such_module'\)$"),
    (None, r'^triton 3\.6 or later, which is not installed$')])
def test_which_triton_is_there(code, fault, tmp_path, monkeypatch):
    """By the module, which distributions of other names bring along too."""
    for name in [name for name in sys.modules if name.partition('.')[0] == 'triton']:
        monkeypatch.delitem(sys.modules, name)
    if code is None:
        monkeypatch.setitem(sys.modules, 'triton', None)
    else:
        (tmp_path / 'triton.py').write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
    needs.triton_fault.cache_clear()
    try:
        assert re.search(fault, needs.triton_fault())
    finally:
        sys.modules.pop('triton', None)
        needs.triton_fault.cache_clear()


@pytest.mark.parametrize('implementation', ['auto', 'triton'])
def test_a_gpu_that_is_imitated_is_not_asked(implementation):
    """As where shapes are worked out before a GPU is there."""
    with FakeTensorMode():
        x = torch.empty(1, 3, 8, 8, device='cuda', dtype=MEASURED[0].dtypes[0])
        assert choose(implementation, x, MEASURED[0].kernel) == 'reference'


def test_it_is_imported_where_it_is_chosen(run):
    out = run(sys.executable, '-W', 'ignore', '-c',
              'import sys, focalnet_mm, torch\n'
              'imported = {"triton", "focalnet_mm.backbone.compute.gpu"}\n'
              'print(imported & set(sys.modules))\n'
              'focalnet_mm.FocalNet("tiny-lrf", embed_dims=8)(torch.rand(1, 3, 32, 32))\n'
              'print(imported & set(sys.modules) - {"triton"})', cwd=ROOT)
    assert out.splitlines()[-2:] == ['set()', 'set()']


@pytest.mark.parametrize('keep', [False, True])
def test_shapes_on_a_gpu(keep):
    """What torch.compile is told of tensors on a GPU, without one."""
    pytest.importorskip('triton', '3.6', reason='triton 3.6 or later is not installed')
    from focalnet_mm.backbone.compute.gpu.block import _block, _block_backward
    with FakeTensorMode():
        def tensor(*shape, dtype=torch.float32):
            return torch.empty(*shape, dtype=dtype, device='cuda')

        x, channels = tensor(2, 6, 7, 20), 20
        parameters = [tensor(*shape) for rows, columns in ((43, 20), (20, 20), (20, 20), (80, 20), (20, 80))
                      for shape in ((rows, columns), (rows,))] + [tensor(channels) for _ in range(4)]
        given = x, parameters, [tensor(channels, 1, k, k) for k in (3, 5)], [], []
        settings = [1e-5, 1e-5], False, True, torch.bfloat16
        out, *kept = _block(*given, *settings, keep, False)
        assert (out.shape, out.dtype, out.device.type) == (x.shape, torch.float32, 'cuda')
        assert len(kept) == (9 if keep else 0)
        grads = _block_backward(torch.empty_like(out), *given, kept, *settings, [True] * 8 + [False, True, False])
        assert [grad.shape for grad in grads] == [x.shape, *(part.shape for part in (*parameters, *given[2]))]
        assert {grad.device.type for grad in grads} == {'cuda'}


@pytest.mark.slow
@pytest.mark.parametrize('part', ['test_block', 'not test_block'])
def test_interpreted(part, run):
    """The whole of interpreted.py, minutes of it; Triton reads the variable when it is imported."""
    pytest.importorskip('triton', '3.6', reason='triton 3.6 or later is not installed')
    out = run(sys.executable, '-W', 'ignore', '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
              'tests/backbone/compute/gpu/interpreted.py', '-k', part, cwd=ROOT, TRITON_INTERPRET='1')
    assert re.search(r'^\d+ passed', out, re.MULTILINE)
