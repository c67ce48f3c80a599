"""List the shipped configs with their published results, or write one of them, to train from there.

Without NAME all are listed. With NAME its row and its path are printed; with --out it is written into a folder, with
the files of this package that it inherits, to be changed and trained there.
"""

import argparse
from pathlib import Path

from ..run.shipped import copy_config, find_config, shipped
from ..zoo.rows import read_zoo
from ..zoo.tables import listing
from .options import add_force, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', nargs='?', metavar='NAME', help='such as maskrcnn_focalnet_b_1x')
    parser.add_argument('--out', metavar='DIR', help='where to write the config and what it inherits')
    add_force(parser, 'replace files of these names in DIR')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.out and not args.name:
        parser.error('name the config to write: --out alone writes nothing')
    root = shipped()
    rows = read_zoo(root)
    if args.name is None:
        print(listing(rows))
        known = {row.name for row in rows}
        print('For the built-in data set (focalnet-mm shapes data/shapes); all but the first Mask R-CNN start from the '
              'backbone\nthat training it leaves in work_dirs/demo:')
        for path in sorted((root / 'configs').glob('*/*.py')):
            if path.stem not in known:
                print(f'  {path.stem}')
        return
    with in_one_sentence(parser):
        config = find_config(root, args.name)
        if args.out is None:
            print(listing([row for row in rows if row.name == config.stem]) or f'{config.stem}: built-in data set')
            print(config)
            return
        written, *inherited = copy_config(config, Path(args.out), args.force)
    print(f'{written}' + (f', with {", ".join(map(str, inherited))}' if inherited else ''))
    print(f'Train it: focalnet-mm train {written}')
