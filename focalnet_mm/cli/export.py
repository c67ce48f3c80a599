"""Export a model to ONNX, TorchScript or PT2 for images of any number, height and width, and check what was written."""

import argparse
from pathlib import Path
from typing import Any

from torch import nn

from ..data.made import check_no_source
from ..data.pictures import find_inputs, left_out
from ..deploy import FORMATS, MASKS, PARTS, PRECISIONS, PROVIDERS, Finish, check_files, checked_table, export_model
from ..explain.maps import only_backbone
from ..run.build import load_model
from ..run.config import load_config
from ..run.machine import fit_to_machine
from .options import add_cfg_options, add_checkpoint, add_config, add_force, in_one_sentence, say

# Options that are for --check alone, and those that it has no use for.
_OF_CHECKING = 'compile', 'device'
_OF_WRITING = 'part', 'masks', 'no_preprocess', 'precision', 'calibrate', 'backbone', 'out', 'force'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_checkpoint(parser)
    does = parser.add_mutually_exclusive_group(required=True)
    does.add_argument('--to', choices=FORMATS, help='format to write')
    does.add_argument('--check', nargs='+', metavar='FILE', action=_CheckedFiles,
                      help='write nothing: evaluate files that were exported on the validation set of the config, '
                      'beside PyTorch')
    parser.add_argument('--compile', action='store_true',
                        help='with --check: evaluate PyTorch with a compiled backbone, too')
    parser.add_argument('--device', choices=PROVIDERS, default='cpu',
                        help='with --check: where the files compute; PyTorch beside them computes on the GPU with cuda '
                        'and tensorrt, else on the CPU (default: %(default)s)')
    parser.add_argument('--part', default='model', choices=PARTS,
                        help='model: all of it, of a detector in TorchScript and PT2 its features; features: backbone '
                        'and neck; backbone: its feature maps alone (default: %(default)s)')
    parser.add_argument('--masks', default='paste', choices=MASKS,
                        help='masks of a detector in ONNX: pasted onto the image, those of the boxes, or none '
                        '(default: %(default)s)')
    parser.add_argument('--no-preprocess', action='store_true',
                        help='whole models in ONNX: take normalised images in place of RGB pictures in uint8')
    parser.add_argument('--precision', default='fp32', choices=PRECISIONS,
                        help='whole models in ONNX: what layers are kept and computed in (default: %(default)s)')
    parser.add_argument('--calibrate', nargs='+', metavar='PICTURES',
                        help='pictures and folders that --precision int8 finds ranges with')
    parser.add_argument('--backbone', metavar='NAME',
                        help='which FocalNet of a model with several, such as student.backbone; with --part backbone')
    parser.add_argument('--out', metavar='FILE',
                        help='the file to write (default: NAME_OF_CONFIG-PART.ENDING in the work dir)')
    add_force(parser, 'replace FILE where it is there')
    add_cfg_options(parser)


class _CheckedFiles(argparse.Action):
    """Files behind an option, which takes config and checkpoint along where they come after it, too."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        if namespace.config is None and len(values) > 2:
            namespace.config, namespace.checkpoint, *values = values
            for action in parser._actions:
                action.required = action.required and bool(action.option_strings)
        setattr(namespace, self.dest, values)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.backbone and args.part != 'backbone':
        parser.error('--backbone names a backbone: add --part backbone')
    idle = [name for name in _OF_CHECKING if not args.check and getattr(args, name) != parser.get_default(name)]
    if idle:
        parser.error(f'--{idle[0]} is about evaluating: add --check FILE')
    idle = [name for name in _OF_WRITING if args.check and getattr(args, name) != parser.get_default(name)]
    if idle:
        parser.error(f'--{idle[0].replace("_", "-")} is about writing, and --check writes nothing: leave it out')
    if (args.precision == 'int8') != bool(args.calibrate):
        parser.error('--precision int8 and --calibrate PICTURES go together: add the one that is missing')
    with in_one_sentence(parser, (Exception,)):
        cfg = load_config(args.config, args.cfg_options)
    with in_one_sentence(parser, (Exception,), cfg):
        if args.check:
            fit_to_machine(cfg)
            say(checked_table(check_files(cfg, args.checkpoint, args.check, args.compile, args.device)))
            return
        found, other = find_inputs(args.calibrate) if args.calibrate else ([], [])
        if other:
            say(left_out(other))
        out = args.out or Path(cfg.work_dir) / f'{Path(args.config).stem}-{args.part}{FORMATS[args.to]}'
        check_no_source(out, [args.config, args.checkpoint, *(item.path for item in found)])
        model: nn.Module = load_model(cfg, args.checkpoint)
        if args.backbone:
            model = only_backbone(model, args.backbone).eval()
        how = Finish(not args.no_preprocess, args.precision, [Path(item.path) for item in found])
        export_model(model, out, args.to, args.part, args.force, say, cfg, args.masks, how)
