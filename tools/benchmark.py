"""Measure FocalNet beside its peers on this machine: time and memory of inference and of a training step.

Every measurement is a process of its own; the models take turns, so that what else the machine does hits all of them.
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SCALES = {'tiny': 'T', 'small': 'S', 'base': 'B'}
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
DEFAULT_SIZES = ('224x224:8:3', '800x1216:1:9')
MEASURED_SECONDS = 2.0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', default='tiny-lrf',
                        help='variant of FocalNet: tiny, small or base, srf or lrf (default: %(default)s)')
    parser.add_argument('--models', nargs='+', default=list(BUILDERS), choices=list(BUILDERS), metavar='MODEL',
                        help=f'which of {", ".join(BUILDERS)} (default: all)')
    parser.add_argument('--config', metavar='CONFIG',
                        help='a training step of a whole detector of mmdet, with its backbone computed in the ways of '
                        'ours that --models names, in place of backbones alone')
    parser.add_argument('--peer', action='append', default=[], metavar='NAME=FILE:CLASS',
                        help='another backbone: a class in a Python file, built without arguments')
    parser.add_argument('--sizes', nargs='+', default=DEFAULT_SIZES, metavar='HxW:BATCH:WINDOW',
                        help='image sizes, batch, focal window (default: %(default)s)')
    parser.add_argument('--steps', nargs='+', default=['inference', 'training'], choices=['inference', 'training'])
    parser.add_argument('--dtypes', nargs='+', default=['float32'], choices=list(DTYPES),
                        help='float32, or autocast to one of the others (default: %(default)s)')
    parser.add_argument('--modes', nargs='+', default=['eager'], choices=['eager', 'compile', 'with_cp'],
                        help='with_cp recomputes the blocks of ours in the backward pass (default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--repeats', type=int, default=3, help='processes of each measurement (default: %(default)s)')
    parser.add_argument('--out', default='work_dirs/benchmark', metavar='DIR',
                        help='where results.json, table.md and chart.png go (default: %(default)s)')
    parser.add_argument('--worker', help=argparse.SUPPRESS)
    args = parser.parse_args()
    for size in args.sizes:
        parts = size.replace('x', ':').split(':')
        if len(parts) != 4 or not all(part.isdigit() and int(part) for part in parts):
            parser.error(f'--sizes {size}: expected HxW:BATCH:WINDOW, such as {DEFAULT_SIZES[0]}')
    if args.config:
        args.models = [model for model in args.models if model in OURS]
        if not Path(args.config).is_file():
            parser.error(f'--config {args.config}: there is no such file')
        if args.steps != ['training'] or args.peer or args.modes != ['eager'] or not args.models:
            parser.error('--config measures eager training steps of ours only: add --steps training, and leave --peer '
                         'and --modes out')
    for peer in args.peer:
        file = peer.partition('=')[2].rpartition(':')[0]
        if not Path(file).is_file():
            parser.error(f'--peer {peer}: expected NAME=FILE:CLASS with a Python file that exists')
    return args


def ours(implementation: str) -> Callable[..., nn.Module]:
    def build(arch: str, window: int, with_cp: bool = False) -> nn.Module:
        from focalnet_mm import FocalNet
        return FocalNet(arch, focal_windows=window, with_cp=with_cp, implementation=implementation)
    return build


def timm_focalnet(arch: str, window: int) -> nn.Module:
    import timm

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            name = f'focalnet_{arch.replace("-", "_")}'
            self.net = timm.create_model(name, num_classes=0, focal_windows=(window,) * 4)

        def forward(self, x: Tensor) -> list[Tensor]:
            return self.net.forward_intermediates(x, intermediates_only=True)
    return Features()


def transformers_focalnet(arch: str, window: int) -> nn.Module:
    from transformers import FocalNetConfig, FocalNetModel

    from focalnet_mm.archs import resolve_arch
    settings = resolve_arch(arch)
    return FocalNetModel(FocalNetConfig(
        embed_dim=settings['embed_dims'], depths=list(settings['depths']), focal_windows=[window] * 4,
        focal_levels=[settings['focal_levels']] * 4))


def swin(arch: str, window: int) -> nn.Module:
    from mmdet.models import SwinTransformer
    scale = arch.split('-')[0]
    return SwinTransformer(
        embed_dims=128 if scale == 'base' else 96, depths=(2, 2, 6 if scale == 'tiny' else 18, 2),
        num_heads=(4, 8, 16, 32) if scale == 'base' else (3, 6, 12, 24))


def convnext(arch: str, window: int) -> nn.Module:
    import timm
    return timm.create_model(f'convnext_{arch.split("-")[0]}', features_only=True)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    'focalnet-mm': ours('auto'),
    'focalnet-mm reference': ours('reference'),
    'timm': timm_focalnet,
    'timm channels-last': timm_focalnet,
    'transformers': transformers_focalnet,
    'Swin (mmdet)': swin,
    'ConvNeXt (timm)': convnext,
}
OURS = ('focalnet-mm', 'focalnet-mm reference')


def build(job: dict[str, Any]) -> nn.Module:
    if job.get('peer'):
        file, _, name = job['peer'].rpartition(':')
        spec = importlib.util.spec_from_file_location('peer', file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)()
    if job['config']:
        return DetectorLoss(job['config'], 'reference' if 'reference' in job['model'] else 'auto')
    cp = {'with_cp': True} if job['mode'] == 'with_cp' else {}
    return BUILDERS[job['model']](job['arch'], job['window'], **cp)


class DetectorLoss(nn.Module):
    """The loss of a whole detector without pretrained weights, for images with random boxes and masks."""

    def __init__(self, config: str, implementation: str) -> None:
        super().__init__()
        from focalnet_mm import launch
        cfg = launch.load_config(config)
        cfg.model.backbone.init_cfg = None
        cfg.model.backbone.implementation = implementation
        self.model = launch.build_model(cfg)

    def forward(self, images: Tensor) -> Tensor:
        from mmdet.testing import demo_mm_inputs
        np.random.seed(0)
        count, shape = len(images), tuple(images.shape[1:])
        data = demo_mm_inputs(count, image_shapes=[shape] * count, num_items=[8] * count, num_classes=5, with_mask=True)
        samples = self.model.data_preprocessor(data, True)['data_samples']
        return self.model.parse_losses(self.model.loss(images, samples))[0]


def tensors(outputs: Any) -> list[Tensor]:
    """All feature maps that a backbone returns, in whatever form."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = outputs.values()
    return [tensor for output in outputs for tensor in tensors(output)]


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM at most so far."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Median time of a step in seconds, and peak memory of model and step in bytes, in this process."""
    device, training = job['device'], job['step'] == 'training'
    torch.manual_seed(0)
    model = build(job)
    images = torch.randn(job['batch'], 3, job['height'], job['width'])
    if 'channels-last' in job['model']:
        model, images = (thing.to(memory_format=torch.channels_last) for thing in (model, images))
    # mmdet's Swin returns nothing from train().
    model.train(training)
    model, images = model.to(device), images.to(device)
    before = resident('VmRSS') if device == 'cpu' else 0
    run = torch.compile(model) if job['mode'] == 'compile' else model
    dtype = DTYPES[job['dtype']]

    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32), torch.set_grad_enabled(training):
            outputs = tensors(run(images))
            if training:
                loss = sum(output.float().mean() for output in outputs)
        if training:
            loss.backward()
            model.zero_grad(set_to_none=True)
        if device == 'cuda':
            torch.cuda.synchronize()

    step()
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    while len(times) < 2 or sum(times) < MEASURED_SECONDS:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    if device == 'cuda':
        peak = torch.cuda.max_memory_allocated()
    else:
        # The images and the model are counted with the step: both begin after the imports.
        held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), images))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before + held
    return dict(seconds=statistics.median(times), peak=peak)


def machine(device: str, dtype: str) -> tuple[float, float]:
    """Measured rates of this machine: multiply-adds a second of pointwise layers, bytes a second of a copy."""
    def fastest(run: Callable[[], Any]) -> float:
        times = []
        for _ in range(8):
            started = time.perf_counter()
            run()
            if device == 'cuda':
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return min(times)

    channels, pixels = 512, 128
    x = torch.randn(1, channels, pixels, pixels, device=device, dtype=DTYPES[dtype])
    x = x.to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 1, 1, device=device, dtype=DTYPES[dtype])
    with torch.inference_mode():
        rate = channels**2 * pixels**2 / fastest(lambda: nn.functional.conv2d(x, weight))
        block = torch.zeros(1 << 26, device=device)
        other = torch.empty_like(block)
        bandwidth = 2 * block.nbytes / fastest(lambda: other.copy_(block))
    return rate, bandwidth


def floor(job: dict[str, Any]) -> float:
    """Seconds that the arithmetic of ours takes at the machine's rate, or its reading and writing if that is more."""
    with torch.device('meta'):
        model = BUILDERS['focalnet-mm reference'](job['arch'], job['window'])
        images = torch.empty(job['batch'], 3, job['height'], job['width'])
    moved = sum(parameter.numel() for parameter in model.parameters())

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += inputs[0].numel() + output.numel()

    for stage in model.layers:
        for block in stage.blocks:
            block.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    rate, bandwidth = machine(job['device'], job['dtype'])
    # A backward pass multiplies twice as much as the forward pass, and reads and writes what that did twice.
    factor = 3 if job['step'] == 'training' else 1
    return factor * max(counter.get_total_flops() / 2 / rate, moved * DTYPES[job['dtype']].itemsize / bandwidth)


def in_new_process(job: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run([sys.executable, '-W', 'ignore', __file__, '--worker', json.dumps(job)], text=True,
                          capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
        raise SystemExit(f'benchmark.py: {job["model"]} failed ({job["step"]}, {job["size"]}, {job["dtype"]}, '
                         f'{job["mode"]}): {reason}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table, each beside the best peer of its group."""
    lines = ['| model | step | size | dtype | mode | ms | spread | images/s | peak GB | speed / best peer | '
             'memory / best peer | time / floor |', '| --- ' * 12 + '|']
    for row in rows:
        peers = [other for other in rows if group(other) == group(row) and other['model'] not in OURS
                 and 'FocalNet' in other['kind']]
        speed = memory = ''
        above = f'{row["seconds"] / row["floor"]:.1f}' if row['floor'] else ''
        if peers:
            speed = f'{min(peer["seconds"] for peer in peers) / row["seconds"]:.2f}'
            memory = f'{row["peak"] / min(peer["peak"] for peer in peers):.2f}'
        lines.append(
            f'| {row["model"]} | {row["step"]} | {row["size"]} | {row["dtype"]} | {row["mode"]} | '
            f'{row["seconds"] * 1e3:.0f} | ±{row["spread"]:.0%} | {row["batch"] / row["seconds"]:.1f} | '
            f'{row["peak"] / 1e9:.2f} | {speed} | {memory} | {above} |')
    return '\n'.join(lines) + '\n'


def group(row: dict[str, Any]) -> tuple[str, ...]:
    """Rows that are compared: a peer is measured once, eager or compiled."""
    mode = 'eager' if row['mode'] == 'with_cp' else row['mode']
    return row['step'], row['size'], row['dtype'], mode


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib
    matplotlib.use('agg')
    import matplotlib.pyplot as plt
    groups = list(dict.fromkeys(group(row) for row in rows))
    figure, axes = plt.subplots(2, len(groups), figsize=(4 * len(groups), 6), squeeze=False, layout='constrained')
    for column, key in enumerate(groups):
        members = [row for row in rows if group(row) == key]
        names = [row['model'] + (' with_cp' if row['mode'] == 'with_cp' else '') for row in members]
        colours = ['tab:orange' if row['model'] in OURS else 'tab:gray' for row in members]
        for axis, values, label in ((axes[0][column], [row['seconds'] * 1e3 for row in members], 'time (ms)'),
                                    (axes[1][column], [row['peak'] / 1e9 for row in members], 'peak memory (GB)')):
            axis.barh(names, values, color=colours)
            axis.invert_yaxis()
            axis.set_xlabel(label)
            if column:
                axis.set_yticklabels([])
        axes[0][column].set_title(f'{key[0]}, {key[1]}\n{key[2]}, {key[3]}', fontsize=10)
    figure.savefig(path, dpi=100)


def main() -> None:
    args = parse_args()
    if args.worker:
        job = json.loads(args.worker)
        print(json.dumps(dict(floor=floor(job)) if job['model'] == 'floor' else measure(job)))
        return
    peers = dict(peer.split('=', 1) for peer in args.peer)
    jobs = []
    for size in args.sizes:
        height, width, batch, window = map(int, size.replace('x', ':').split(':'))
        for step in args.steps:
            for dtype in args.dtypes:
                for mode in args.modes:
                    for model in (*args.models, *peers):
                        if mode == 'with_cp' and (model not in OURS or step == 'inference'):
                            continue
                        jobs.append(dict(
                            model=model, arch=args.arch, step=step, size=f'{height}×{width} b{batch} w{window}',
                            height=height, width=width, batch=batch, window=window, dtype=dtype, mode=mode,
                            device=args.device, peer=peers.get(model), config=args.config,
                            kind='another' if model.startswith(('Swin', 'ConvNeXt')) or model in peers else 'FocalNet'))
    results: list[list[dict[str, float]]] = [[] for _ in jobs]
    with Progress() as progress:
        task = progress.add_task('', total=args.repeats * len(jobs))
        for _ in range(args.repeats):
            for job, found in zip(jobs, results):
                progress.update(task, description=f'{job["model"]} {job["step"]} {job["size"]} {job["dtype"]}')
                found.append(in_new_process(job))
                progress.advance(task)
    floors = {}
    rows = []
    for job, found in zip(jobs, results):
        key = job['step'], job['size'], job['dtype']
        if args.config:
            floors[key] = None
        elif key not in floors:
            floors[key] = in_new_process({**job, 'model': 'floor', 'peer': None})['floor']
        seconds = [result['seconds'] for result in found]
        middle = statistics.median(seconds)
        rows.append(dict(job, seconds=middle, spread=(max(seconds) - min(seconds)) / 2 / middle,
                         peak=statistics.median(result['peak'] for result in found), floor=floors[key]))
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    text = summary(rows)
    (out / 'results.json').write_text(json.dumps(rows, indent=1) + '\n')
    (out / 'table.md').write_text(text)
    draw(rows, out / 'chart.png')
    print(text)
    print(out / 'table.md', out / 'results.json', out / 'chart.png')


if __name__ == '__main__':
    main()
