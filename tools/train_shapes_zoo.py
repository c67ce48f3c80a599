"""Train and evaluate every method on the built-in data set: each beside its untrained self.

Finished models are kept in results.json of --out and not trained again.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.progress import Progress

from focalnet_mm import zoo

ROOT = Path(__file__).parents[1]
# Config → the metric that must rise.
CONFIGS = {
    'mmseg/upernet_focalnet_t_shapes': 'mIoU',
    'mmdet/atss_focalnet_t_shapes': 'box AP50',
    'mmdet/cascade_maskrcnn_focalnet_t_shapes': 'box AP50',
    'mmdet/sparsercnn_focalnet_t_shapes': 'box AP50',
    'mmdet/mask2former_focalnet_t_shapes_panoptic': 'PQ',
    'mmdet/dino_focalnet_t_shapes': 'box AP50',
}
# What the libraries log → name and factor to percent.
METRICS = {'coco/bbox_mAP_50': ('box AP50', 100), 'coco/segm_mAP_50': ('mask AP50', 100),
           'coco_panoptic/PQ': ('PQ', 1), 'mIoU': ('mIoU', 1)}
# Less than so many points above the untrained model is no learning.
MARGIN = 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME',
                        help='only these configs, by the names of their files (default: all)')
    parser.add_argument('--out', metavar='DIR', default='work_dirs/shapes_zoo',
                        help='where checkpoints and pictures go (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='handed on to tools/train.py and tools/test.py')
    args = parser.parse_args()
    known = {Path(path).name: path for path in CONFIGS}
    for name in args.names:
        if name not in known:
            parser.error(f'unknown name {name}: choose from {", ".join(known)}')
    args.paths = [known[name] for name in args.names or known]
    return args


def save_untrained(config: str, file: Path) -> None:
    """Save a model as it is before training."""
    # mmengine lists how every tensor was initialised.
    MMLogger.get_instance('untrained', log_level='ERROR')
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    importlib.import_module(f'{cfg.default_scope}.models')
    model = importlib.import_module(f'{cfg.default_scope}.registry').MODELS.build(cfg.model)
    torch.manual_seed(0)
    model.init_weights()
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.state_dict()), file)


def main() -> None:
    args = parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    store = out / 'results.json'
    results = json.loads(store.read_text()) if store.is_file() else {}
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    with Progress() as progress:
        task = progress.add_task('', total=len(args.paths))
        for path in args.paths:
            config, name = str(ROOT / 'configs' / f'{path}.py'), Path(path).name
            progress.update(task, description=name)
            if name not in results:
                work_dir = out / name
                started = time.monotonic()
                try:
                    save_untrained(config, work_dir / 'untrained.pth')
                    before = zoo.evaluate(config, work_dir / 'untrained.pth', work_dir / 'untrained',
                                          args.cfg_options)
                    zoo.run_tool('train.py', config, '--work-dir', work_dir, '--no-validate', *options,
                                 log=work_dir / 'train.txt')
                    checkpoint = (work_dir / 'last_checkpoint').read_text()
                    after = zoo.evaluate(config, checkpoint, work_dir / 'trained', args.cfg_options,
                                         show_dir=work_dir / 'pictures')
                except (zoo.ToolError, ValueError, OSError) as error:
                    raise SystemExit(f'train_shapes_zoo.py: {name}: {error}') from None
                results[name] = dict(before=before, after=after, minutes=(time.monotonic() - started) / 60)
                zoo.write_json(store, results)
            progress.advance(task)

    weak = []
    print('| model | metric | untrained | trained | minutes |\n| --- | --- | --- | --- | --- |')
    for path in args.paths:
        name = Path(path).name
        result = results[name]
        for key, (metric, factor) in METRICS.items():
            if key not in result['after']:
                continue
            # Where nothing was detected, nothing is logged.
            before, after = (result[when].get(key, 0) * factor for when in ('before', 'after'))
            print(f'| {name} | {metric} | {before:.1f} | {after:.1f} | {result["minutes"]:.1f} |')
            if metric == CONFIGS[path] and after < before + MARGIN:
                weak.append(f'{name} ({metric})')
    print(f'Pictures, truth beside prediction: {out}/*/pictures')
    if weak:
        raise SystemExit(f'train_shapes_zoo.py: hardly better than untrained: {", ".join(weak)}.')


if __name__ == '__main__':
    main()
