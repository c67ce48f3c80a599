"""Compiles the Triton kernels ahead of time, without a GPU, and tells what each needs of the card.

``python -m tests.helpers.kernel_table`` prints the table of docs/speed.md.
"""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from focalnet_mm.backbone.compute.gpu import gradient_kernels, level_kernels, row_kernels
from focalnet_mm.backbone.compute.gpu.classes import (
    column_class,
    depthwise_class,
    kernel_gradient_class,
    pointwise_class,
    row_class,
)


class Card(NamedTuple):
    """What kernels are compiled for."""

    target: GPUTarget
    #: Bytes of shared memory that a program may have at most, and registers of all of its threads.
    shared: int
    registers: int


TARGETS = {'sm_80': Card(GPUTarget('cuda', 80, 32), 166_912, 65_536),
           'sm_90': Card(GPUTarget('cuda', 90, 32), 232_448, 65_536),
           # Compiled, and not run: the kernels are taken on CUDA alone.
           'gfx942': Card(GPUTarget('hip', 'gfx942', 64), 65_536, 131_072)}
KERNELS = (3, 5, 7, 9, 11, 13)
_TOOL = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
_NUMBERS = {'eps': 'fp32', 'next_eps': 'fp32'}
#: Sums, and parameters, residual stream and its gradient under autocast, have 32 bits.
_WHOLE = dict.fromkeys(('mean', 'through_mean', 'partial', 'dots', 'weight', 'bias', 'next_weight', 'next_bias', 'base',
                        'added', 'scale', 'drop', 'kernel'), '*fp32')
#: What is not specialised on being a multiple of 16.
_ANY = {'height', 'width', 'gate', 'dots', 'dot_stride', 'scale', 'pixels', 'strips', 'share', 'eps', 'per_image',
        'next_eps'}


class Case(NamedTuple):
    """A kernel with its constants."""

    name: str
    kernel: object
    warps: int
    constants: dict
    dtype: str = 'bf16'
    #: Whether channels and strides are multiples of 16.
    aligned: bool = True

    def label(self):
        tile = 'x'.join(str(self.constants[key]) for key in ('TILE_H', 'TILE_W', 'STRIP', 'LANES', 'ROWS', 'BLOCK')
                        if key in self.constants)
        return f'{tile} {self.dtype}{"" if self.aligned else ", any channels"}'


class Found(NamedTuple):
    """What a compiled kernel needs."""

    registers: int
    stack: int
    shared: int
    seconds: float


def cases(kernels=KERNELS, channels=96, dtype='bf16', aligned=True):
    """All kernels of a training step for depthwise kernels of these sizes."""
    found = []

    def add(name, kernel, warps, **constants):
        found.append(Case(name, kernel, warps, constants, dtype, aligned))

    def tile(of):
        return dict(TILE_H=of.height, TILE_W=of.width, BLOCK=of.channels, WIDE=False)

    of = pointwise_class(channels)
    add('add_global', level_kernels.add_global, of.warps, **tile(of), FIRST=False)
    add('global_gradient', gradient_kernels.global_gradient, of.warps, **tile(of))
    of = depthwise_class(channels, 0)
    add('level_gradient, last', gradient_kernels.level_gradient, of.warps, **tile(of), STRIP=of.strip, KERNEL=0,
        LEARNS=False)
    for size in kernels:
        of = depthwise_class(channels, size)
        # The last level has the longest code, by the sums over its tile.
        add(f'level_forward {size}', level_kernels.level_forward, of.warps, **tile(of), STRIP=of.strip, KERNEL=size,
            FIRST=False, LAST=True, KEEP=True)
        add(f'level_gradient {size}', gradient_kernels.level_gradient, of.warps, **tile(of), STRIP=of.strip,
            KERNEL=size, LEARNS=True)
        add(f'context_gradient {size}', gradient_kernels.context_gradient, of.warps, **tile(of), STRIP=of.strip,
            KERNEL=size)
        of = kernel_gradient_class(channels)
        add(f'kernel_gradient {size}', gradient_kernels.kernel_gradient, of.warps, KERNEL=size, STRIP=of.strip,
            LANES=of.width // of.strip, BLOCK=of.channels, WIDE=False)
    return found


def row_cases(channels=96, dtype='bf16', aligned=True):
    """The kernels between the linear layers, with all that they can do and with what a plain block asks of them."""
    of = row_class(channels)
    rows = dict(ROWS=of.width, BLOCK=of.channels)
    found = [Case('rows_normed', row_kernels.rows_normed, of.warps, rows, dtype, aligned)]
    for name, does in (('', False), (', all', True)):
        found.append(Case(f'residual_forward{name}', row_kernels.residual_forward, of.warps, dict(
            rows, NORMED=does, SCALED=does, DROPPED=does, NEXT=True, NEXT_NORMED=True), dtype, aligned))
        found.append(Case(f'row_gradient{name}', row_kernels.row_gradient, of.warps, dict(
            rows, NORMED=True, SCALED=does, DROPPED=does, ADDED=True, LEARNS=True, SUMMED=does), dtype, aligned))
    of = column_class(channels)
    columns = dict(ROWS=of.width, BLOCK=of.channels)
    found.append(Case('column_sums', row_kernels.column_sums, of.warps, dict(columns, ACTIVATED=True), dtype, aligned))
    found.append(Case('product_gradient', row_kernels.product_gradient, of.warps, columns, dtype, aligned))
    return found


def signature(case):
    """Types of the arguments, and which of them are multiples of 16."""
    types, multiples = {}, {}
    for i, name in enumerate(case.kernel.arg_names):
        if name in case.constants:
            types[name] = 'constexpr'
            continue
        is_number = name.endswith('_stride') or name in {
            'height', 'width', 'channels', 'pixels', 'strips', 'share', 'per_image'}
        if name == 'scale' and case.kernel.fn.__module__ != row_kernels.__name__:
            # That of Zᵒᵘᵗ, a number; among the rows it is the layer scale.
            types[name] = 'fp32'
            continue
        types[name] = _NUMBERS.get(name) or _WHOLE.get(name) or ('i32' if is_number else f'*{case.dtype}')
        if name not in _ANY and (case.aligned or not is_number):
            multiples[(i,)] = [['tt.divisibility', 16]]
    return types, multiples


_found = {}


def compile_case(case, target):
    """Compile a kernel for a card and look into what came out; once in a process."""
    key = case.name, case.label(), target
    if key not in _found:
        _found[key] = _compile(case, target)
    return _found[key]


def _processor_time():
    """Seconds of this thread and of what it waited for, such as ptxas: work of other threads has no part in it."""
    return time.thread_time() + sum(os.times()[2:4])


def _compile(case, target):
    types, multiples = signature(case)
    source = ASTSource(case.kernel, types, case.constants, multiples)
    start = _processor_time()
    compiled = triton.compile(source, target=TARGETS[target].target, options=dict(num_warps=case.warps))
    seconds = _processor_time() - start
    needs = _needs_of_amd(compiled) if 'amdgcn' in compiled.asm else _needs_of_nvidia(compiled)
    return Found(*needs, compiled.metadata.shared, seconds)


def _needs_of_nvidia(compiled):
    """Registers and stack."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'kernel.cubin'
        path.write_bytes(compiled.asm['cubin'])
        told = subprocess.run([_TOOL, '-res-usage', path], text=True, capture_output=True, check=True).stdout
    return [int(re.search(rf'{key}:(\d+)', told)[1]) for key in ('REG', 'STACK')]


def _needs_of_amd(compiled):
    """Registers of vectors, and stack."""
    return [int(re.search(rf'\.{key}:\s+(\d+)', compiled.asm['amdgcn'])[1])
            for key in ('vgpr_count', 'private_segment_fixed_size')]


def main():
    """Print the table, a row a kernel and a column a card."""
    total = dict.fromkeys(TARGETS, 0.0)
    cards = ' | '.join(f'{target}: registers, stack, shared, s to compile' for target in TARGETS)
    print(f'| kernel | tile | {cards} |')
    print(f'|---|---|{"---|" * len(TARGETS)}')
    for case in [*cases(), *row_cases(), *row_cases(1536)]:
        cells = []
        for target in TARGETS:
            found = compile_case(case, target)
            total[target] += found.seconds
            cells.append(f'{found.registers}, {found.stack}, {found.shared}, {found.seconds:.1f}')
        print(f'| {case.name} | {case.label()} | {" | ".join(cells)} |', flush=True)
    print('\n' + ', '.join(f'{target}: {seconds:.0f} s in all' for target, seconds in total.items()))


if __name__ == '__main__':
    main()
