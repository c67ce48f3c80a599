"""Join pictures, such as those that a test with --show-dir drew, to a grid."""

import argparse

from ..data.pictures import join_pictures
from .options import in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('pictures', nargs='+', metavar='PICTURE', help='pictures, or folders of pictures')
    parser.add_argument('--out', required=True, metavar='FILE', help='the file to write, .png or .jpg')
    parser.add_argument('--columns', type=int, default=2, help='pictures in a row (default: %(default)s)')
    parser.add_argument('--most', type=int, default=8, help='how many pictures at the most (default: %(default)s)')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with in_one_sentence(parser):
        join_pictures(args.pictures, args.out, args.columns, args.most)
    print(args.out)
