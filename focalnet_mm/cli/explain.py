"""Show what a detector, segmenter or classifier looks at: the gates, modulators and kernels of its FocalNet.

DIR gets a figure of each image, one of the kernels, and index.html, a gallery of all blocks that opens from disk.
"""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.utils.data import DataLoader

from ..backbone.focalnet import find_backbone
from ..data.pictures import find_inputs, left_out
from ..explain import norm_on_objects
from ..explain.maps import choose_blocks, only_backbone
from ..explain.report import explain_inputs
from ..run.build import load_model
from ..run.checks import check_folder
from ..run.config import load_config, loaders
from ..run.images import ImagePipeline
from ..run.stopping import stop_on_signals
from .options import add_cfg_options, add_config, add_force, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument('images', nargs='*', metavar='IMAGE', help='pictures, and folders of them')
    parser.add_argument('--checkpoint', help="checkpoint of any layout: path, URL or hf://owner/name (default: what "
                        "the config's init_cfg names)")
    parser.add_argument('--stage', type=int, nargs='+', metavar='STAGE', help='stages from 0 on (default: all)')
    parser.add_argument('--block', type=int, nargs='+', metavar='BLOCK',
                        help='blocks of these stages from 0 on, negative from the last (default: all in the gallery, '
                        'the last of each stage in the figures)')
    parser.add_argument('--backbone', metavar='NAME',
                        help='which FocalNet of a model with several, such as student.backbone')
    parser.add_argument('--out', metavar='DIR', help='where figures and gallery go')
    parser.add_argument('--objects', action='store_true',
                        help="print how much larger the modulator is on objects than elsewhere, over the config's "
                        'validation set, which needs masks')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='where to compute (default: %(default)s)')
    add_force(parser, 'write into a folder that is not empty')
    add_cfg_options(parser)


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if not args.images and not args.objects:
        parser.error('name pictures, or add --objects')
    if args.images and not args.out:
        parser.error('name a folder for the pictures with --out')
    out = Path(args.out or '.')
    with in_one_sentence(parser, (Exception,)):
        if args.images:
            check_folder(out, args.force)
        cfg = load_config(args.config, args.cfg_options)
        pipeline = ImagePipeline(cfg)
        inputs, other = find_inputs(args.images, out, pipeline.endings, pipeline.channels_apart) if args.images else (
            [], [])
        model: nn.Module = load_model(cfg, args.checkpoint).to(args.device)
        # Wrong backbones, stages and blocks are told before the work.
        backbone = find_backbone(model, args.backbone)
        model = only_backbone(model, args.backbone)
        try:
            choose_blocks(backbone, args.stage, args.block)
        except IndexError as error:
            raise ValueError(error) from error
    if args.objects:
        with in_one_sentence(parser, (Exception,), cfg):
            loader = _validation_loader(cfg, args.config)
        with in_one_sentence(parser, cfg=cfg):
            _print_norm_on_objects(loader, model, args)
    if args.checkpoint is None and not backbone.pretrained:
        print('No --checkpoint, and the config names none for the backbone: the weights are random.')
    if other:
        print(left_out(other))
    if not inputs:
        return
    with in_one_sentence(parser), stop_on_signals() as stop:
        done = explain_inputs(model, cfg, pipeline, inputs, out, args.stage, args.block,
                              {'config': args.config, 'checkpoint': args.checkpoint or 'none'}, name=parser.prog,
                              stop=stop.__bool__)
    print(done.file)
    if stop.signal:
        print(f'{parser.prog}: stopped by {stop.signal.name}: {done.done} of {len(inputs)} inputs are done.',
              file=sys.stderr)
        raise SystemExit(stop.status)
    if done.failed:
        raise SystemExit(f'{parser.prog}: {len(done.failed)} of {len(inputs)} inputs could not be read, see above.')


def _validation_loader(cfg: Config, config: str) -> DataLoader:
    settings = loaders(cfg, 'val')
    if not settings:
        raise ValueError(f'--objects: {config} has no validation data.')
    return Runner.build_dataloader(settings[0])


def _print_norm_on_objects(loader: DataLoader, model: nn.Module, args: argparse.Namespace) -> None:
    with Progress(console=Console(stderr=True)) as progress:
        ratios = norm_on_objects(model, progress.track(loader, description='validation set'), args.stage, args.block)
    print('stage  block  modulator norm on objects / elsewhere')
    for (stage, block), ratio in ratios.items():
        print(f'{stage:5d}  {block:5d}  {ratio:.2f}')
