"""Export a model to ONNX, TorchScript or PT2 for images of any number, height and width, and check what was written."""

import argparse
from pathlib import Path

from torch import nn

from ..deploy import FORMATS, MASKS, PARTS, export_model
from ..explain.maps import only_backbone
from ..run.build import load_model
from ..run.config import load_config
from .options import add_cfg_options, add_checkpoint, add_config, add_force, in_one_sentence, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_checkpoint(parser)
    parser.add_argument('--to', required=True, choices=FORMATS, help='format to write')
    parser.add_argument('--part', default='model', choices=PARTS,
                        help='model: all of it, of a detector in TorchScript and PT2 its features; features: backbone '
                        'and neck; backbone: its feature maps alone (default: %(default)s)')
    parser.add_argument('--masks', default='paste', choices=MASKS,
                        help='masks of a detector in ONNX: pasted onto the image, those of the boxes, or none '
                        '(default: %(default)s)')
    parser.add_argument('--backbone', metavar='NAME',
                        help='which FocalNet of a model with several, such as student.backbone; with --part backbone')
    parser.add_argument('--out', metavar='FILE',
                        help='the file to write (default: NAME_OF_CONFIG-PART.ENDING in the work dir)')
    add_force(parser, 'replace FILE where it is there')
    add_cfg_options(parser)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.backbone and args.part != 'backbone':
        parser.error('--backbone names a backbone: add --part backbone')
    with in_one_sentence(parser, (Exception,)):
        cfg = load_config(args.config, args.cfg_options)
        model: nn.Module = load_model(cfg, args.checkpoint)
        if args.backbone:
            model = only_backbone(model, args.backbone).eval()
        out = args.out or Path(cfg.work_dir) / f'{Path(args.config).stem}-{args.part}{FORMATS[args.to]}'
        export_model(model, out, args.to, args.part, args.force, say, cfg, args.masks)
