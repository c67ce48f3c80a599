"""Write the built-in synthetic data set in the layouts of COCO and ADE20K."""

import argparse

from focalnet_mm.shapes import write_dataset


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('folder', metavar='DIR', help='where to write; DIR/coco and DIR/ade are made')
    parser.add_argument('--train', type=int, default=400, help='number of training pictures')
    parser.add_argument('--val', type=int, default=100, help='number of validation pictures')
    parser.add_argument('--size', type=int, default=192, help='width and height in pixels')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same bytes')
    parser.add_argument('--force', action='store_true', help='replace a shapes data set of other settings')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        written = write_dataset(args.folder, args.train, args.val, args.size, args.seed, args.force)
    except (ValueError, OSError) as error:
        raise SystemExit(f'make_shapes_dataset.py: {error}') from None
    print(f'{args.folder}: {args.train} + {args.val} pictures' if written
          else f'{args.folder} already holds this data set, nothing to do.')


if __name__ == '__main__':
    main()
