"""Predict on pictures, folders and videos: boxes, masks, segments, label maps or classes, as the config's model does.

OUT gets predictions.json, with the results in COCO's form, and under pictures/ every input with what was found.
"""

import argparse
from pathlib import Path

from ..data.pictures import find_inputs, left_out
from ..predict import Predictor, predict_inputs
from ..run.checks import check_folder
from ..run.config import load_config
from .options import add_cfg_options, add_checkpoint, add_config, add_force, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_checkpoint(parser)
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='pictures, videos, and folders of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='where predictions and pictures go')
    parser.add_argument('--score-thr', type=float, default=0.3,
                        help='draw what a detector scores at least this (default: %(default)s); the JSON has all')
    parser.add_argument('--device', help='where to compute (default: the GPU if there is one)')
    add_force(parser, 'write into a folder that is not empty')
    add_cfg_options(parser)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    with in_one_sentence(parser):
        out = check_folder(args.out, args.force)
        cfg = load_config(args.config, args.cfg_options)
        inputs, other = find_inputs(args.inputs, leave_out=out)
        predictor = Predictor(cfg, args.checkpoint, args.device)
    if other:
        print(left_out(other))
    done = predict_inputs(predictor, inputs, Path(out), args.score_thr,
                          dict(config=args.config, checkpoint=args.checkpoint), name=parser.prog)
    print(f'{done.images} images, {done.predictions} predictions: {done.file}')
    if done.failed:
        raise SystemExit(f'{parser.prog}: {len(done.failed)} of {len(inputs)} inputs could not be read, see above.')
