"""Evaluate the published models on your data: measured beside published, row by row.

A checkpoint is found in the folder under its config's name (NAME.pth, NAME.safetensors, or the last one of a work dir
NAME), or under the name of its public file. Finished rows are kept in results.json of --out and not run again.
"""

import argparse
import json
import os
from fnmatch import fnmatch
from pathlib import Path

from rich.progress import Progress

from focalnet_mm import zoo

ROOT = Path(__file__).parents[1]
RESULTS = 'results.json'
DATA = {'COCO': 'coco', 'ADE20K': 'ade', 'ImageNet-1k': 'imagenet'}
# Metric of the metafiles → what the libraries log, and its factor to percent.
LOGGED = {
    'box AP': ('coco/bbox_mAP', 100),
    'mask AP': ('coco/segm_mAP', 100),
    'PQ': ('coco_panoptic/PQ', 1),
    'mIoU': ('mIoU', 1),
    'mIoU multi-scale': ('mIoU', 1),
    'Top 1 Accuracy': ('accuracy/top1', 1),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', metavar='DIR', help='folder of checkpoints')
    parser.add_argument('--coco', metavar='DIR', help='COCO 2017, with val2017 and annotations in it')
    parser.add_argument('--ade', metavar='DIR', help='ADEChallengeData2016, with images and annotations in it')
    parser.add_argument('--imagenet', metavar='DIR', help='ImageNet-1K, with val in it')
    parser.add_argument('--out', metavar='DIR', default='work_dirs/zoo', help='where results go (default: %(default)s)')
    parser.add_argument('--names', nargs='+', default=['*'], metavar='NAME',
                        help='only these models, with * and ? as wildcards')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='handed on to tools/test.py for every row')
    args = parser.parse_args()
    if not Path(args.checkpoints).is_dir():
        parser.error(f'{args.checkpoints} is no folder: give the one that holds the checkpoints')
    if not (args.coco or args.ade or args.imagenet):
        parser.error('give at least one of --coco, --ade and --imagenet: there is nothing to evaluate on')
    for name in DATA.values():
        folder = getattr(args, name)
        if folder and not Path(folder).is_dir():
            parser.error(f'--{name} {folder} is no folder')
    return args


def find_checkpoint(folder: Path, row: zoo.Row) -> Path | None:
    """The checkpoint of a row in a folder, if any."""
    names = [f'{row.name}.pth', f'{row.name}.safetensors']
    if row.weights:
        names.append(row.weights.rsplit('/', 1)[-1])
    for name in names:
        if (folder / name).is_file():
            return folder / name
    last = folder / row.name / 'last_checkpoint'
    if last.is_file():
        path = Path(last.read_text().strip())
        # The work dir may have been moved since.
        return next((p for p in (path, last.parent / path.name) if p.is_file()), None)
    return None


def table(lines: list[tuple[zoo.Row, str, float, float | str]]) -> str:
    """Rows of (model, metric, published value, measured value or why there is none) as Markdown."""
    cells = ['| model | metric | measured | published | difference |', '| --- | --- | --- | --- | --- |']
    for row, metric, published, measured in lines:
        if isinstance(measured, str):
            cells.append(f'| {row.name} | {metric} | {measured} | {published:.1f} | |')
        else:
            cells.append(f'| {row.name} | {metric} | {measured:.1f} | {published:.1f} | {measured - published:+.1f} |')
    return '\n'.join(cells) + '\n'


def outcome(row: zoo.Row, metric: str, checkpoint: Path | None, data_root: str | None, args: argparse.Namespace,
            results: dict) -> float | str:
    """The value of a metric in percent, evaluated unless it is among the results, or why there is none."""
    if checkpoint is None:
        return 'no checkpoint: ' + (f'download {row.weights}' if row.weights
                                    else f'train one with tools/train.py {row.config}')
    if data_root is None:
        return f'no data: give --{DATA[next(iter(row.results))]}'
    tta = ['--tta'] if metric == 'mIoU multi-scale' else []
    stat = checkpoint.stat()
    run = ' '.join([row.name, *tta, str(checkpoint.resolve()), str(stat.st_size), str(stat.st_mtime_ns),
                    os.path.abspath(data_root), *args.cfg_options])
    if run not in results:
        try:
            results[run] = zoo.evaluate(
                ROOT / row.config, checkpoint, Path(args.out) / (row.name + ('_tta' if tta else '')),
                [f'data_root={data_root}', *args.cfg_options], tta=bool(tta))
        except zoo.ToolError as error:
            # It is tried again next time.
            return f'failed: {error}'
        zoo.write_json(Path(args.out) / RESULTS, results)
    key, factor = LOGGED[metric]
    return results[run][key] * factor


def main() -> None:
    args = parse_args()
    rows = [row for row in zoo.read_zoo(ROOT) if row.results and any(fnmatch(row.name, name) for name in args.names)]
    if not rows:
        raise SystemExit(f'evaluate_zoo.py: no model with published results is named {" or ".join(args.names)}.')
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    store = out / RESULTS
    results = json.loads(store.read_text()) if store.is_file() else {}

    lines = []
    with Progress() as progress:
        task = progress.add_task('', total=len(rows))
        for row in rows:
            progress.update(task, description=row.name)
            dataset, published = next(iter(row.results.items()))
            data_root = getattr(args, DATA[dataset])
            checkpoint = find_checkpoint(Path(args.checkpoints), row)
            for metric, value in published.items():
                lines.append((row, metric, value, outcome(row, metric, checkpoint, data_root, args, results)))
            progress.advance(task)
    text = table(lines)
    (out / 'table.md').write_text(text)
    print(text)
    print(out / 'table.md')


if __name__ == '__main__':
    main()
