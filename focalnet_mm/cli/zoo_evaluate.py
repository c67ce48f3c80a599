"""Evaluate the published models on your data: measured beside published, row by row.

A checkpoint is found in the folder under its config's name (NAME.pth, NAME.safetensors, or the last one of a work dir
NAME), or under the name of its public file. Finished rows are kept in results.json of --out and not run again.
"""

import argparse
from pathlib import Path

from ..run.shipped import shipped
from ..zoo.evaluation import DATA, evaluate_rows
from ..zoo.rows import read_zoo, select_rows
from .options import in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoints', metavar='DIR', help='folder of checkpoints')
    parser.add_argument('--coco', metavar='DIR', help='COCO 2017, with val2017 and annotations in it')
    parser.add_argument('--ade', metavar='DIR', help='ADEChallengeData2016, with images and annotations in it')
    parser.add_argument('--imagenet', metavar='DIR', help='ImageNet-1K, with val in it')
    parser.add_argument('--out', metavar='DIR', default='work_dirs/zoo', help='where results go (default: %(default)s)')
    parser.add_argument('--names', nargs='+', default=['*'], metavar='NAME',
                        help='only these models, with * and ? as wildcards')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='handed on to the evaluation of every row')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    roots = {name: getattr(args, name) for name in DATA.values()}
    if not Path(args.checkpoints).is_dir():
        parser.error(f'{args.checkpoints} is no folder: give the one that holds the checkpoints')
    if not any(roots.values()):
        parser.error('give at least one of --coco, --ade and --imagenet: there is nothing to evaluate on')
    for name, folder in roots.items():
        if folder and not Path(folder).is_dir():
            parser.error(f'--{name} {folder} is no folder')
    rows = [row for row in select_rows(read_zoo(shipped()), args.names) if row.results]
    if not rows:
        raise SystemExit(f'{parser.prog}: no model with published results is named {" or ".join(args.names)}.')
    with in_one_sentence(parser):
        table = evaluate_rows(rows, Path(args.checkpoints), roots, Path(args.out), args.cfg_options)
    print(table)
    print(Path(args.out) / 'table.md')
