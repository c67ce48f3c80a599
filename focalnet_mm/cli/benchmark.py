"""Measure FocalNet beside its peers on this machine: time and memory of inference and of a training step.

Every measurement is a process of its own; the models take turns, so that what else the machine does hits all of them.
"""

import argparse
import json
from pathlib import Path

import torch

from ..benchmark.jobs import jobs_of, run_jobs
from ..benchmark.measure import DTYPES, floor, time_step
from ..benchmark.models import BUILDERS, OURS
from ..benchmark.report import draw, summary
from .options import Parser, as_worker, in_one_sentence

DEFAULT_SIZES = ('224x224:8:3', '800x1216:1:9')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--arch', default='tiny-lrf',
                        help='variant of FocalNet: tiny, small or base, srf or lrf (default: %(default)s)')
    parser.add_argument('--models', nargs='+', default=list(BUILDERS), choices=list(BUILDERS), metavar='MODEL',
                        help=f'which of {", ".join(BUILDERS)} (default: all)')
    parser.add_argument('--config', metavar='CONFIG',
                        help='a training step of a whole detector of mmdet, with its backbone computed in the ways of '
                        'ours that --models names, in place of backbones alone')
    parser.add_argument('--peer', action='append', default=[], metavar='NAME=FILE:CLASS',
                        help='another backbone: a class in a Python file, built without arguments')
    parser.add_argument('--sizes', nargs='+', default=DEFAULT_SIZES, metavar='HxW:BATCH:WINDOW',
                        help='image sizes, batch, focal window (default: %(default)s)')
    parser.add_argument('--steps', nargs='+', default=['inference', 'training'], choices=['inference', 'training'],
                        help='what to measure (default: both)')
    parser.add_argument('--dtypes', nargs='+', default=['float32'], choices=list(DTYPES),
                        help='float32, or autocast to one of the others (default: %(default)s)')
    parser.add_argument('--modes', nargs='+', default=['eager'], choices=['eager', 'compile', 'with_cp', 'frozen'],
                        help='with_cp recomputes the blocks of ours in the backward pass, frozen has a gradient of the '
                        'images alone (default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='where to compute (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=3, help='processes of each measurement (default: %(default)s)')
    parser.add_argument('--out', default='work_dirs/benchmark', metavar='DIR',
                        help='where results.json, table.md and chart.png go (default: %(default)s)')
    parser.add_argument('--worker', help=argparse.SUPPRESS)


def main(args: argparse.Namespace, parser: Parser) -> None:
    if args.worker:
        job = json.loads(args.worker)
        with as_worker(parser):
            print(json.dumps(dict(floor=floor(job)) if job['model'] == 'floor' else time_step(job)))
        return
    _check(args, parser)
    peers = dict(peer.split('=', 1) for peer in args.peer)
    sizes = [tuple(map(int, size.replace('x', ':').split(':'))) for size in args.sizes]
    jobs = jobs_of(args.models, peers, sizes, args.steps, args.dtypes, args.modes, args.arch, args.device, args.config)
    if not jobs:
        parser.error('there is nothing to measure: with_cp and frozen are modes of training steps, with_cp of ours')
    with in_one_sentence(parser, (RuntimeError,)):
        rows = run_jobs(jobs, args.repeats)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    text = summary(rows)
    (out / 'results.json').write_text(json.dumps(rows, indent=1) + '\n')
    (out / 'table.md').write_text(text)
    draw(rows, out / 'chart.png')
    print(text)
    print(out / 'table.md', out / 'results.json', out / 'chart.png')


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.repeats < 1:
        parser.error(f'--repeats must be 1 or more, got {args.repeats}')
    for size in args.sizes:
        parts = size.replace('x', ':').split(':')
        if len(parts) != 4 or not all(part.isdigit() and int(part) for part in parts):
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
