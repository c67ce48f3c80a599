"""Measure FocalNet beside its peers on this machine: time and memory of inference and of a training step.

Every measurement is a process of its own; the models take turns, so that what else the machine does hits all of them.
On a GPU the kernels are compared with the reference in float64 first, and their times printed last.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from ..backbone.archs import resolve_arch
from ..backbone.compute.needs import triton_fault
from ..benchmark.agreement import agreements
from ..benchmark.jobs import jobs_of, run_jobs
from ..benchmark.measure import DTYPES, floor, in_new_process, time_step
from ..benchmark.models import BUILDERS, OURS, default_models
from ..benchmark.report import agreement_table, draw, summary
from .options import Parser, as_worker, in_one_sentence

DEFAULT_SIZES = ('224x224:8:3', '800x1216:1:9')
# What is measured where nothing is named, of GPUs and of all else.
_ON_GPU = dict(sizes=['224x224:64:3', '800x1216:2:9'], dtypes=['bfloat16', 'float16'], modes=['eager', 'compile'])
_ELSEWHERE = dict(sizes=list(DEFAULT_SIZES), dtypes=['float32'], modes=['eager'])
_TRITON = 'focalnet-mm triton'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--arch', default='tiny-lrf',
                        help='variant of FocalNet: tiny, small or base, srf or lrf (default: %(default)s)')
    parser.add_argument('--models', nargs='+', choices=list(BUILDERS), metavar='MODEL',
                        help=f'which of {", ".join(BUILDERS)} (default: all that are meant for the device)')
    parser.add_argument('--config', metavar='CONFIG',
                        help='a training step of a whole detector of mmdet, with its backbone computed in the ways of '
                        'ours that --models names, in place of backbones alone')
    parser.add_argument('--peer', action='append', default=[], metavar='NAME=FILE:CLASS',
                        help='another backbone: a class in a Python file, built without arguments')
    parser.add_argument('--sizes', nargs='+', metavar='HxW:BATCH:WINDOW',
                        help=f'image sizes, batch, focal window ({_defaults("sizes")})')
    parser.add_argument('--steps', nargs='+', default=['inference', 'training'], choices=['inference', 'training'],
                        help='what to measure (default: both)')
    parser.add_argument('--dtypes', nargs='+', choices=list(DTYPES),
                        help=f'float32, or autocast to one of the others ({_defaults("dtypes")})')
    parser.add_argument('--modes', nargs='+', choices=['eager', 'compile', 'with_cp', 'frozen'],
                        help='with_cp recomputes the blocks of ours in the backward pass, frozen has a gradient of the '
                        f'images alone ({_defaults("modes")})')
    parser.add_argument('--agreement', action='store_true',
                        help='only compare the Triton kernels with the reference in float64, and measure nothing')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='where to compute (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=3, help='processes of each measurement (default: %(default)s)')
    parser.add_argument('--out', default='work_dirs/benchmark', metavar='DIR',
                        help='where results.json, table.md and chart.png go (default: %(default)s)')
    parser.add_argument('--worker', help=argparse.SUPPRESS)


def _defaults(key: str) -> str:
    return f'default: {" ".join(_ELSEWHERE[key])}; on a GPU {" ".join(_ON_GPU[key])}'


def main(args: argparse.Namespace, parser: Parser) -> None:
    if args.worker:
        with as_worker(parser):
            print(json.dumps(_work(json.loads(args.worker))))
        return
    device = _check(args, parser)
    has_kernels = _TRITON in args.models and device == 'cuda' and not args.config
    with in_one_sentence(parser, (RuntimeError,)):
        if args.agreement:
            _compare(args.device)
            return
        peers = dict(peer.split('=', 1) for peer in args.peer)
        sizes = [tuple(map(int, size.replace('x', ':').split(':'))) for size in args.sizes]
        jobs = jobs_of(args.models, peers, sizes, args.steps, args.dtypes, args.modes, args.arch, args.device,
                       args.config)
        if not jobs:
            parser.error('there is nothing to measure: with_cp and frozen are modes of training steps, with_cp of ours')
        out = _folder(args.out, parser)
        texts = [_compare(args.device)] if has_kernels else []
        rows, failed = run_jobs(jobs, args.repeats)
        texts.append(summary(rows))
        files = _write(out, texts, rows)
        # What follows may fail, and takes none of this away.
        print('\n'.join(texts), *files, sep='\n')
        for size in sizes if has_kernels else ():
            texts.append(_time_kernels(args, size))
            print(texts[-1])
            _write(out, texts, rows)
    if failed:
        parser.exit(1, f'{parser.prog}: error: {len(failed)} of {len(jobs)} could not be measured:\n' +
                    '\n'.join(failed) + '\n')


def _folder(name: str, parser: argparse.ArgumentParser) -> Path:
    """Where files go, made before anything is measured."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f'--out {name}: expected a folder, or a place for one, but: {error.strerror}')
    return folder


def _write(folder: Path, texts: list[str], rows: list[dict[str, Any]]) -> list[Path]:
    """Write what was measured, which files that are."""
    files = [folder / 'table.md', folder / 'results.json']
    files[0].write_text('\n'.join(texts))
    files[1].write_text(json.dumps(rows, indent=1) + '\n')
    if rows:
        files.append(folder / 'chart.png')
        draw(rows, files[-1])
    return files


def _work(job: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own measures."""
    if job['model'] == 'floor':
        return dict(floor=floor(job))
    if job['model'] == 'kernels':
        from ..benchmark.kernels import busy, kernel_table, kernel_times
        seconds, launches = busy({**job, 'model': _TRITON})
        return dict(table=f'{kernel_table(kernel_times(job))}\nIn a training step of the whole network the GPU works '
                    f'for {seconds * 1e3:.1f} ms, in {launches} launches.\n')
    return time_step(job)


def _compare(device: str) -> str:
    """Compare with the reference in float64, and print it, too.

    Raises:
        RuntimeError: The kernels do not agree.
    """
    rows = list(track(agreements(device), 'comparing with float64', total=None))
    table = agreement_table(rows)
    print(table)
    wrong = [row.name for row in rows if not row.share <= 1]
    if wrong:
        raise RuntimeError(f'the kernels differ from the reference: {"; ".join(wrong)}')
    return table


def _time_kernels(args: argparse.Namespace, size: tuple[int, ...]) -> str:
    """Times of the kernels in a block of the first stage, as tables, and how long the GPU works for a whole network."""
    settings = resolve_arch(args.arch)
    kernels = [size[-1] + 2 * level for level in range(settings['focal_levels'])]
    tables = []
    for job in jobs_of(['kernels'], {}, [size], ['training'], args.dtypes, ['eager'], args.arch, args.device, None):
        job.update(channels=settings['embed_dims'], kernels=kernels)
        tables.append(f'A block of the first stage, {job["size"]}, {job["dtype"]}:\n\n{in_new_process(job)["table"]}')
    return '\n'.join(tables)


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """The kind of device, where the arguments can be measured."""
    try:
        device = torch.device(args.device).type
    except RuntimeError:
        parser.error(f'--device {args.device}: expected a device of PyTorch, such as cpu, cuda or cuda:1')
    if device == 'cuda' and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: this PyTorch ({torch.__version__}) sees no GPU')
    if args.agreement and device != 'cuda' and os.environ.get('TRITON_INTERPRET') != '1':
        parser.error(f'--agreement: the kernels run on a GPU, not on {args.device}, but for TRITON_INTERPRET=1, with '
                     'which their interpreter runs them on a CPU')
    if args.agreement and triton_fault():
        parser.error(f'--agreement needs {triton_fault()}; PyTorch for CUDA brings it along')
    args.models = args.models or default_models(device)
    for key, values in (_ON_GPU if device == 'cuda' else _ELSEWHERE).items():
        setattr(args, key, getattr(args, key) or (['eager'] if args.config and key == 'modes' else values))
    if args.repeats < 1:
        parser.error(f'--repeats must be 1 or more, got {args.repeats}')
    for size in args.sizes:
        parts = size.replace('x', ':').split(':')
        if len(parts) != 4 or not all(part.isdecimal() and int(part) for part in parts):
            parser.error(f'--sizes {size}: expected HxW:BATCH:WINDOW, such as {DEFAULT_SIZES[0]}')
    if args.config:
        args.models = [model for model in args.models if model in OURS]
        if not Path(args.config).is_file():
            parser.error(f'--config {args.config}: there is no such file')
        if args.steps != ['training'] or args.peer or args.modes != ['eager'] or not args.models:
            parser.error('--config measures eager training steps of ours only: add --steps training, and leave --peer '
                         'and --modes out')
    for peer in args.peer:
        file = peer.partition('=')[2].rpartition(':')[0]
        if not Path(file).is_file():
            parser.error(f'--peer {peer}: expected NAME=FILE:CLASS with a Python file that exists')
    return device
