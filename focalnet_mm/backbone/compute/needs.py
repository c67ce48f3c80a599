"""What the implementations need of this process and this machine."""

from __future__ import annotations

import functools
import logging
import os
import re

import torch
from mmengine.logging import print_log

from .compiling import decided_while_compiling

__all__ = ['TRITON_DEVICES', 'onednn_runs', 'triton_fault', 'triton_runs']

# The data types of the kernels, and the oldest cards that they are compiled for in the tests.
_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_OLDEST = (8, 0)
# The oldest triton that was looked at.
_TRITON = (3, 6)
#: Where the kernels run: Triton's interpreter takes tensors of CPUs.
TRITON_DEVICES = ('cuda', 'cpu') if os.environ.get('TRITON_INTERPRET') == '1' else ('cuda',)


@decided_while_compiling
def onednn_runs(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN is enabled, and computes in the data type."""
    return bool(torch.backends.mkldnn.enabled) and _onednn_has(dtype)


@functools.cache
def _onednn_has(dtype: torch.dtype) -> bool:
    """Whether oneDNN is built in, and this CPU, or what ``ONEDNN_MAX_CPU_ISA`` leaves of it, has the data type."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@decided_while_compiling
def triton_runs(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernels for GPUs run; says once why they do not."""
    lacking = _triton_lacks(dtype, device)
    if lacking:
        _tell_once(f"implementation='triton' {lacking}: the reference computes the blocks.")
    return not lacking


def _triton_lacks(dtype: torch.dtype, device: torch.device) -> str:
    """What keeps the kernels from running, or nothing."""
    if torch.version.hip:
        return 'is for CUDA, and this PyTorch is for ROCm'
    if triton_fault():
        return f'needs {triton_fault()}'
    if dtype not in _TRITON_DTYPES:
        return f'computes in {", ".join(str(known)[6:] for known in _TRITON_DTYPES)}, not in {str(dtype)[6:]}'
    if device.type == 'cpu':
        return ''
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST:
        return (f'needs compute capability {_OLDEST[0]}.{_OLDEST[1]}, and {torch.cuda.get_device_name(device)} has '
                f'{capability[0]}.{capability[1]}')
    return ''


@functools.cache
def triton_fault() -> str:
    """Which triton is needed and what is there instead, or nothing where it is as it should be."""
    wanted = f'triton {_TRITON[0]}.{_TRITON[1]} or later'
    # Several distributions bring the module along, so that it alone knows its release.
    try:
        import triton
        numbers = re.match(r'(\d+)\.(\d+)', triton.__version__)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == 'triton':
            return f'{wanted}, which is not installed'
        # Whatever keeps it from being imported keeps the kernels from running, and nothing else.
        return f'{wanted}, which cannot be imported ({type(error).__name__}: {" ".join(str(error).split())})'
    if numbers is None or tuple(map(int, numbers.groups())) < _TRITON:
        return f'{wanted}, and {triton.__version__} is installed'
    return ''


@functools.cache
def _tell_once(sentence: str) -> None:
    print_log(sentence, logger='current', level=logging.WARNING)
