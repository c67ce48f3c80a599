"""Write the built-in synthetic data set in the layouts of COCO and ADE20K."""

import argparse

from ..data.shapes import write_dataset
from .options import add_force, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('folder', metavar='DIR', help='where to write; DIR/coco and DIR/ade are made')
    for name, default, meaning in (('train', 400, 'number of training pictures'),
                                   ('val', 100, 'number of validation pictures'),
                                   ('size', 192, 'width and height in pixels'),
                                   ('seed', 0, 'the same seed gives the same bytes')):
        parser.add_argument(f'--{name}', type=int, default=default, help=f'{meaning} (default: %(default)s)')
    add_force(parser, 'replace a shapes data set of other settings')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with in_one_sentence(parser):
        written = write_dataset(args.folder, args.train, args.val, args.size, args.seed, args.force)
    print(f'{args.folder}: {args.train} + {args.val} pictures' if written
          else f'{args.folder} already holds this data set, nothing to do.')
