"""The kernels compiled for cards, without one: none of them spills, and all fit on the card."""

import pytest

pytest.importorskip('triton', '3.6', reason='triton 3.6 or later is not installed')

from tests.helpers.kernel_table import TARGETS, cases, compile_case, row_cases

# Every kernel of a training step in bfloat16; and what differs by channels and data types, at some sizes of kernel.
CASES = [*cases(), *cases((13,), dtype='fp32'), *cases((1,), channels=12, dtype='fp16', aligned=False), *row_cases(),
         *row_cases(1536), *row_cases(2816, dtype='fp32')]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    """What was compiled before would take no time."""
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize('target', TARGETS)
def test_nothing_spills(target):
    found = {f'{case.name} {case.label()}': compile_case(case, target) for case in CASES}
    warps = {f'{case.name} {case.label()}': case.warps for case in CASES}
    card = TARGETS[target]
    assert not {name: use for name, use in found.items() if use.stack}
    assert not {name: use for name, use in found.items()
                if use.registers * card.target.warp_size * warps[name] > card.registers or use.shared > card.shared}


@pytest.mark.slow
@pytest.mark.parametrize('target', TARGETS)
def test_those_of_a_network_compile_in_a_minute(target):
    """FocalNet-T with the largest kernels of the paper, as it trains; on a machine that does something else too."""
    assert sum(compile_case(case, target).seconds for case in [
        *cases((9, 11, 13)), *(case for channels in (96, 1536) for case in row_cases(channels))]) < 60
