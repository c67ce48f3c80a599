"""Convert a FocalNet checkpoint: between official, timm, transformers, mm (mmdet, mmseg, mmpretrain) and detrex."""

import argparse

from ..backbone import ARCHS
from ..weights import LAYOUTS, convert_file
from .options import add_force, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('src', metavar='SRC', help='path, folder, URL or hf://owner/name[@revision][/file]')
    parser.add_argument('dst', metavar='DST',
                        help='a file that ends in .safetensors or .pth; for transformers a folder')
    parser.add_argument('--to', required=True, choices=LAYOUTS, help='layout to convert to')
    parser.add_argument('--arch', choices=ARCHS, metavar='ARCH',
                        help='variant, where the tensors do not show it: ' + ', '.join(ARCHS))
    parser.add_argument('--backbone-only', action='store_true', help='leave out the heads')
    add_force(parser, 'replace DST where it is there')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with in_one_sentence(parser):
        print(convert_file(args.src, args.dst, args.to, args.arch, args.backbone_only, args.force))
