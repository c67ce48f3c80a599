"""Predict on pictures, folders and videos: boxes, masks, segments, label maps or classes, as the config's model does.

OUT gets predictions.json, with the results in COCO's form, and under pictures/ every input with what was found.
"""

import argparse
import sys
from pathlib import Path

from ..data.pictures import find_inputs, left_out, printable
from ..predict import Predictor, predict_inputs
from ..run.checks import check_folder
from ..run.config import load_config
from ..run.images import ImagePipeline
from ..run.stopping import stop_on_signals
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
    with in_one_sentence(parser, (Exception,)):
        out = check_folder(args.out, args.force)
        cfg = load_config(args.config, args.cfg_options)
        pipeline = ImagePipeline(cfg)
        inputs, other = find_inputs(args.inputs, out, pipeline.endings, pipeline.channels_apart)
        predictor = Predictor(cfg, args.checkpoint, args.device)
    if other:
        print(left_out(other))
    with in_one_sentence(parser), stop_on_signals() as stop:
        done = predict_inputs(predictor, inputs, Path(out), args.score_thr,
                              dict(config=args.config, checkpoint=args.checkpoint), name=parser.prog,
                              stop=stop.__bool__)
    print(f'{done.images} images, {done.predictions} predictions: {printable(done.file)}')
    if stop.signal:
        print(f'{parser.prog}: stopped by {stop.signal.name}: {done.done} of {len(inputs)} inputs are done; '
              'predictions.json has all images until then.', file=sys.stderr)
        raise SystemExit(stop.status)
    if done.failed:
        raise SystemExit(f'{parser.prog}: {len(done.failed)} of {len(inputs)} inputs failed, see above.')
