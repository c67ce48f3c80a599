"""Evaluate a detector, segmenter or classifier: the library is the config's default_scope."""

import argparse
import os

from mmengine.config import DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from focalnet_mm.launch import (
    add_tta,
    check_checkpoint,
    check_data,
    draw_predictions,
    fit_to_machine,
    keep_predictions,
    load_config,
)
from focalnet_mm.weights import local_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--work-dir', help='where the metrics go (default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--out', help='where the predictions go: a .pkl file, for mmseg a folder')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='how long --show shows each picture, in seconds')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override settings of the config; data_root=DIR moves all data sets')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='job launcher')
    # Older launchers pass the rank as an argument, torchrun in the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
        check_data(cfg, 'test')
        cfg.load_from = str(local_file(args.checkpoint))
        fit_to_machine(cfg)
        if args.show or args.show_dir:
            draw_predictions(cfg, args.show_dir, args.show, args.wait_time)
        if args.tta:
            add_tta(cfg)
        if args.out:
            keep_predictions(cfg, args.out)
    except (ValueError, OSError) as error:
        raise SystemExit(f'test.py: {error}') from None

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    try:
        check_checkpoint(runner.model, cfg.load_from)
    except ValueError as error:
        raise SystemExit(f'test.py: {error}') from None
    runner.test()


if __name__ == '__main__':
    main()
