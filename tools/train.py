"""Train a detector, segmenter or classifier: the library is the config's default_scope."""

import argparse

from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from focalnet_mm import launch
from focalnet_mm.weights import local_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/NAME_OF_CONFIG)')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision; our configs do so already')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the batch size over auto_scale_lr.base_batch_size')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='resume from CHECKPOINT, or from the latest one in the work dir')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    return launch.parse_args(parser)


def main() -> None:
    args = parse_args()
    try:
        cfg = launch.load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
        if args.no_validate:
            cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        launch.check_data(cfg, 'train', 'val')
        launch.check_classes(cfg, 'train', 'val')
        if args.amp:
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        if args.auto_scale_lr:
            if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
                raise ValueError(f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which {args.config} lacks.')
            cfg.auto_scale_lr.enable = True
        if args.resume:
            cfg.resume = True
            cfg.load_from = None if args.resume == 'auto' else str(local_file(args.resume))
        elif cfg.get('load_from') and not cfg.get('resume'):
            cfg.load_from = launch.read_any_layout(cfg.load_from)
        launch.fit_to_machine(cfg)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f'train.py: {error}') from None

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(launch.CheckClasses())
    try:
        runner.train()
    except launch.ClassMismatchError as error:
        raise SystemExit(f'train.py: {error}') from None


if __name__ == '__main__':
    main()
