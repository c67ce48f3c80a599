"""Show what a detector, segmenter or classifier looks at: the gates, modulators and kernels of its FocalNet.

DIR gets a figure of each image, one of the kernels, and index.html, a gallery of all blocks that opens from disk.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import Progress
from torch import nn

from focalnet_mm import launch
from focalnet_mm.explain import (
    as_picture,
    find_backbone,
    focal_maps,
    mean_kernels,
    norm_on_objects,
    plot_focal_maps,
    plot_kernels,
    receptive_fields,
)
from focalnet_mm.gallery import Gallery
from focalnet_mm.predict import find_inputs, left_out, read_image


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('images', nargs='*', metavar='IMAGE', help='pictures, and folders of them')
    parser.add_argument('--checkpoint', help="checkpoint of any layout: path, URL or hf://owner/name (default: what "
                        "the config's init_cfg names)")
    parser.add_argument('--stage', type=int, nargs='+', metavar='STAGE', help='stages from 0 on (default: all)')
    parser.add_argument('--block', type=int, nargs='+', metavar='BLOCK',
                        help='blocks of these stages from 0 on, negative from the last (default: all in the gallery, '
                        'the last of each stage in the figures)')
    parser.add_argument('--out', metavar='DIR', help='where figures and gallery go')
    parser.add_argument('--objects', action='store_true',
                        help="print how much larger the modulator is on objects than elsewhere, over the config's "
                        'validation set, which needs masks')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='where to compute (default: %(default)s)')
    parser.add_argument('--force', action='store_true', help='write into a folder that is not empty')
    launch.add_cfg_options(parser)
    args = parser.parse_args()
    if not args.images and not args.objects:
        parser.error('name pictures, or add --objects')
    if args.images and not args.out:
        parser.error('name a folder for the pictures with --out')
    return args


def print_norm_on_objects(cfg: Config, model: nn.Module, args: argparse.Namespace) -> None:
    loader = Runner.build_dataloader(cfg.val_dataloader)
    with Progress(console=Console(stderr=True)) as progress:
        ratios = norm_on_objects(model, progress.track(loader, description='validation set'), args.stage, args.block)
    print('stage  block  modulator norm on objects / elsewhere')
    for (stage, block), ratio in ratios.items():
        print(f'{stage:5d}  {block:5d}  {ratio:.2f}')


def main() -> None:
    args = parse_args()
    out = Path(args.out or '.')
    try:
        if args.images:
            launch.check_folder(out, args.force)
        cfg = launch.load_config(args.config, args.cfg_options)
        if args.objects:
            launch.check_data(cfg, 'val')
        inputs, other = find_inputs(args.images, leave_out=out) if args.images else ([], [])
        model = launch.build_model(cfg, args.checkpoint).to(args.device)
        prepare = launch.prepare_image(cfg)
        fields = receptive_fields(model, stages=args.stage, blocks=args.block)
        if args.objects:
            print_norm_on_objects(cfg, model, args)
    except (ValueError, IndexError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f'explain.py: {error}') from None
    if args.checkpoint is None and not find_backbone(model).pretrained:
        print('No --checkpoint, and the config names none for the backbone: the weights are random.')
    if other:
        print(left_out(other))
    if not inputs:
        return
    gallery = Gallery(out, 'What the FocalNet looks at', {
        'config': args.config, 'checkpoint': args.checkpoint or 'none'})
    failed = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task('', total=len(inputs))
        for item in inputs:
            progress.update(task, description=item.name)
            try:
                batch = prepare(read_image(item.path), str(item.path))
            except (ValueError, OSError) as error:
                failed.append(item)
                progress.console.print(f'explain.py: {error}', markup=False, soft_wrap=True)
                continue
            finally:
                progress.advance(task)
            image = as_picture(batch['inputs'][0])
            maps = focal_maps(model, batch, args.stage, args.block)
            gallery.add(item.name, image, maps)
            # A dict of the keys has the last block of each stage.
            drawn = maps if args.block else {key: maps[key] for key in dict(maps.keys()).items()}
            figure = out / 'figures' / f'{item.name}.png'
            figure.parent.mkdir(parents=True, exist_ok=True)
            plot_focal_maps(image, drawn, title=item.name).savefig(figure, dpi=80)
    if len(failed) == len(inputs):
        raise SystemExit('explain.py: none of the inputs could be read, see above.')
    kernels = mean_kernels(model)
    if kernels:
        plot_kernels(kernels).savefig(out / 'kernels.png', dpi=100)
    print(gallery.finish(fields, 'kernels.png' if kernels else None))
    if failed:
        raise SystemExit(f'explain.py: {len(failed)} of {len(inputs)} inputs could not be read, see above.')


if __name__ == '__main__':
    main()
