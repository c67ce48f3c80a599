"""Predict on pictures, folders and videos: boxes, masks, segments, label maps or classes, as the config's model does.

Either CONFIG, CHECKPOINT and INPUTs are named, or an exported FILE.onnx and INPUTs. OUT gets predictions.json, with the
results in COCO's form, and under pictures/ every input with what was found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.made import check_folder
from ..data.pictures import Input, find_inputs, left_out, printable
from ..deploy.runtime import PROVIDERS, Runtime
from ..installed import MISSING
from ..predict import ExportedPredictor, predict_inputs
from ..run.stopping import stop_on_signals
from .options import add_cfg_options, add_force, in_one_sentence

if TYPE_CHECKING:
    from ..predict import Predictor


# The key of ir_version, the first field of ONNX's ModelProto. No text begins with it.
_FIRST_BYTE = b'\x08'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = ('%(prog)s (CONFIG CHECKPOINT | FILE.onnx) INPUT [INPUT ...] --out DIR [--score-thr SCORE] '
                    '[--device DEVICE] [--force] [--cfg-options KEY=VALUE ...] [--traceback]')
    parser.add_argument('model', nargs='+', metavar='CONFIG CHECKPOINT | FILE.onnx',
                        help='a config and a checkpoint of any layout (path, URL or hf://owner/name), or a file that '
                        'export --to onnx wrote; then pictures, videos, and folders of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='where predictions and pictures go')
    parser.add_argument('--score-thr', type=float, default=0.3,
                        help='draw what a detector scores at least this (default: %(default)s); the JSON has all')
    parser.add_argument('--device', help='where to compute (default: the GPU if there is one); of an exported file one '
                        f'of {", ".join(PROVIDERS)} (default: cpu)')
    add_force(parser, 'write into a folder that is not empty')
    add_cfg_options(parser)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    exported = _is_exported(args.model[0])
    named = args.model[1 if exported else 2:]
    if not named:
        parser.error('no INPUT is named: expected CONFIG CHECKPOINT INPUT, or FILE.onnx INPUT')
    if exported and args.cfg_options:
        parser.error('--cfg-options changes a config, and an exported file has none: leave it out')
    with in_one_sentence(parser, (Exception,)):
        out = check_folder(args.out, args.force)
        predictor, inputs, other = (_exported if exported else _built)(args, named, out)
        facts = dict(file=args.model[0]) if exported else dict(config=args.model[0], checkpoint=args.model[1])
    if other:
        print(left_out(other))
    with in_one_sentence(parser), stop_on_signals() as stop:
        done = predict_inputs(predictor, inputs, Path(out), args.score_thr, facts, name=parser.prog,
                              stop=stop.__bool__)
    print(f'{done.images} images, {done.predictions} predictions: {printable(done.file)}')
    if stop.signal:
        print(f'{parser.prog}: stopped by {stop.signal.name}: {done.done} of {len(inputs)} inputs are done; '
              'predictions.json has all images until then.', file=sys.stderr)
        raise SystemExit(stop.status)
    if done.failed:
        raise SystemExit(f'{parser.prog}: {len(done.failed)} of {len(inputs)} inputs failed, see above.')


def _is_exported(name: str) -> bool:
    """Whether a file is of ONNX, by its name or as it begins: export writes to any name that it is told."""
    if name.lower().endswith('.onnx'):
        return True
    try:
        with open(name, 'rb') as file:
            return file.read(1) == _FIRST_BYTE
    # A config may be one by its name alone.
    except OSError:
        return False


def _exported(args: argparse.Namespace, named: Sequence[str],
              out: Path) -> tuple[ExportedPredictor, list[Input], list[Path]]:
    runtime = Runtime(args.model[0], (args.device or 'cpu',))
    return ExportedPredictor(runtime), *find_inputs(named, out)


def _built(args: argparse.Namespace, named: Sequence[str], out: Path) -> tuple[Predictor, list[Input], list[Path]]:
    if MISSING:
        raise ModuleNotFoundError(f'A model of a config needs {" and ".join(MISSING)}: install them, or name a file '
                                  'that export --to onnx wrote.')
    from ..predict import Predictor
    from ..run.config import load_config
    from ..run.images import ImagePipeline
    cfg = load_config(args.model[0], args.cfg_options)
    pipeline = ImagePipeline(cfg)
    inputs, other = find_inputs(named, out, pipeline.endings, pipeline.channels_apart)
    return Predictor(cfg, args.model[1], args.device), inputs, other
