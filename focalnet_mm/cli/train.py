"""Train a detector, segmenter or classifier: the library is the config's default_scope."""

import argparse

from ..run.build import read_any_layout
from ..run.checks import build_runner
from ..run.config import load_config
from ..run.hook_settings import check_hook_settings
from ..run.long_run import keep_long_runs
from ..run.machine import fit_to_machine
from ..weights import local_file
from .options import add_cfg_options, add_config, add_launcher, in_one_sentence, settle_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision; our configs do so already')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch size over auto_scale_lr.base_batch_size')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='resume from CHECKPOINT, or from the newest whole one in the work dir')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    add_cfg_options(parser)
    add_launcher(parser)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    settle_rank(args)
    if args.resume == '':
        parser.error('--resume is given an empty name: name a checkpoint, or nothing for the newest one')
    with in_one_sentence(parser, (Exception,)):
        cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
        if args.no_validate:
            cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        if args.amp:
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        if args.auto_scale_lr:
            if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
                raise ValueError(f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which {args.config} lacks.')
            cfg.auto_scale_lr.enable = True
        start_from = None
        if cfg.get('load_from') and not cfg.get('resume') and args.resume in (None, 'auto'):
            start_from = cfg.load_from = read_any_layout(cfg.load_from)
        if args.resume:
            cfg.resume = True
            cfg.load_from = None if args.resume == 'auto' else str(local_file(args.resume))
        fit_to_machine(cfg)

    with in_one_sentence(parser, (Exception,), cfg):
        check_hook_settings(cfg)
        runner, check = build_runner(cfg)
        keep_long_runs(runner, start_from)
    with in_one_sentence(parser, (Exception,), cfg, lambda: check.passed):
        runner.train()
