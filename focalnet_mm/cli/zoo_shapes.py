"""Train and evaluate every method on the built-in data set: each beside its untrained self.

Finished models are kept in results.json of --out and not trained again.
"""

import argparse
from pathlib import Path

from ..zoo.shapes import CONFIGS, train_zoo, weak_models, zoo_table
from .options import in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('names', nargs='*', metavar='NAME',
                        help='only these configs, by the names of their files (default: all)')
    parser.add_argument('--out', metavar='DIR', default='work_dirs/shapes_zoo',
                        help='where checkpoints and pictures go (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='handed on to training and evaluation')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    known = {Path(path).name: path for path in CONFIGS}
    for name in args.names:
        if name not in known:
            parser.error(f'unknown name {name}: choose from {", ".join(known)}')
    paths = [known[name] for name in args.names or known]
    with in_one_sentence(parser):
        results = train_zoo(paths, Path(args.out), args.cfg_options)
    print(zoo_table(paths, results))
    print(f'Pictures, truth beside prediction: {args.out}/*/pictures')
    weak = weak_models(paths, results)
    if weak:
        raise SystemExit(f'{parser.prog}: hardly better than untrained: {", ".join(weak)}.')
