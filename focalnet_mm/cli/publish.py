"""Make a checkpoint of a training run ready for others: weights, classes and versions, with the hash in its name."""

import argparse
from pathlib import Path

from ..weights import publish
from .options import add_force, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('in_file', metavar='IN', help='checkpoint of a training run')
    parser.add_argument('out_file', metavar='OUT',
                        help='NAME.safetensors or NAME.pth; NAME-HASH.safetensors or .pth is written')
    parser.add_argument('--with-config', action='store_true',
                        help='keep the config too, without paths, names of users and hosts, keys and passwords')
    add_force(parser, 'replace a file of that name')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with in_one_sentence(parser):
        path, left_out = publish(args.in_file, args.out_file, args.force, args.with_config)
    before, after = (Path(file).stat().st_size / 1e6 for file in (args.in_file, path))
    print(f'{path}: {after:.1f} MB of {before:.1f} MB; left out: {", ".join(left_out) or "nothing"}')
