"""Evaluate a detector, segmenter or classifier: the library is the config's default_scope."""

import argparse

from ..data.made import check_no_source
from ..run.build import read_any_layout
from ..run.checks import build_runner
from ..run.config import load_config
from ..run.evaluation import add_tta, draw_predictions, keep_predictions
from ..run.machine import fit_to_machine
from .options import add_cfg_options, add_checkpoint, add_config, add_launcher, in_one_sentence, settle_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_checkpoint(parser)
    parser.add_argument('--work-dir', help='where the metrics go (default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--out', help='where the predictions go: a .pkl file, for mmseg a folder')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='how long --show shows each picture, in seconds')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_cfg_options(parser)
    add_launcher(parser)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    settle_rank(args)
    with in_one_sentence(parser, (Exception,)):
        cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
        if not cfg.get('test_dataloader'):
            raise ValueError(f'{args.config} has no test data: there is nothing to evaluate.')
        cfg.load_from = read_any_layout(args.checkpoint)
        fit_to_machine(cfg)
        if args.show or args.show_dir:
            draw_predictions(cfg, args.show_dir, args.show, args.wait_time)
        if args.tta:
            add_tta(cfg)
        if args.out:
            check_no_source(args.out, [args.config, args.checkpoint])
            keep_predictions(cfg, args.out)

    with in_one_sentence(parser, (Exception,), cfg):
        runner, check = build_runner(cfg, args.checkpoint)
    with in_one_sentence(parser, (Exception,), cfg, lambda: check.passed):
        runner.test()
