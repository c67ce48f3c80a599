"""Evaluate a detector, segmenter or classifier: the library is the config's default_scope."""

import argparse

from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from focalnet_mm import launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='checkpoint of any layout: path, URL or hf://owner/name')
    parser.add_argument('--work-dir', help='where the metrics go (default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--out', help='where the predictions go: a .pkl file, for mmseg a folder')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into DIR')
    parser.add_argument('--wait-time', type=float, default=2, help='how long --show shows each picture, in seconds')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    return launch.parse_args(parser)


def main() -> None:
    args = parse_args()
    try:
        cfg = launch.load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
        if not cfg.get('test_dataloader'):
            raise ValueError(f'{args.config} has no test data: there is nothing to evaluate.')
        launch.check_data(cfg, 'test')
        launch.check_classes(cfg, 'test')
        cfg.load_from = launch.read_any_layout(args.checkpoint)
        launch.fit_to_machine(cfg)
        if args.show or args.show_dir:
            launch.draw_predictions(cfg, args.show_dir, args.show, args.wait_time)
        if args.tta:
            launch.add_tta(cfg)
        if args.out:
            launch.keep_predictions(cfg, args.out)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f'test.py: {error}') from None

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(launch.CheckClasses())
    try:
        launch.check_checkpoint(runner.model, args.checkpoint)
    except ValueError as error:
        raise SystemExit(f'test.py: {error}') from None
    try:
        runner.test()
    except launch.ClassMismatchError as error:
        raise SystemExit(f'test.py: {error}') from None


if __name__ == '__main__':
    main()
