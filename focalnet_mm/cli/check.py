"""Check a config and its data before a long training, and write a report.

Builds model and data sets as train does, looks for what would go wrong, trains on two batches for a minute, and draws
what the network is given and what it then predicts. Ends with status 1 where something is certainly wrong.
"""

import argparse
from pathlib import Path

from ..run.config import load_config
from .options import add_cfg_options, add_config, in_one_sentence, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint of any layout to begin with (default: the weights '
                        'that the config names)')
    parser.add_argument('--work-dir', help='the report goes into the folder check of it (default: '
                        'work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--steps', type=int, metavar='N',
                        help='how long to train on two batches (default: a minute, or 100 steps)')
    parser.add_argument('--no-train', action='store_true', help='only look, without training')
    parser.add_argument('--device', help='where to train (default: the GPU if there is one)')
    add_cfg_options(parser)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.steps is not None and args.steps < 1:
        parser.error(f'--steps must be 1 or more, got {args.steps}; --no-train leaves training out')
    with in_one_sentence(parser, (Exception,)):
        # Needs the extra `own`, and says so where it is missing.
        from ..new.check import check_config
        cfg = load_config(args.config, args.cfg_options, args.work_dir)
    with in_one_sentence(parser, (Exception,), cfg):
        result = check_config(cfg, Path(cfg.work_dir) / 'check', args.checkpoint, steps=args.steps,
                              train=not args.no_train, device=args.device, tell=say)
    for finding in result.checked.findings:
        say(f'{finding.level}: {finding.text}')
    print(result.file)
    if result.errors:
        raise SystemExit(f'{parser.prog}: {result.errors} thing{"s are" if result.errors > 1 else " is"} certainly '
                         'wrong, see above.')
