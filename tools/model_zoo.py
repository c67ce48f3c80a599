"""Build every config and compare its size with the published one; the README's tables are made by this."""

import argparse
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from rich.progress import Progress

from focalnet_mm import zoo

ROOT = Path(__file__).parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', default=['*'], metavar='NAME',
                        help='names of models, with * and ? as wildcards (default: all)')
    parser.add_argument('--write-readme', action='store_true', help='put the tables into README.md; needs all models')
    args = parser.parse_args()
    if args.write_readme and args.names != ['*']:
        parser.error('--write-readme needs all models: leave the names out')
    return args


def main() -> None:
    args = parse_args()
    rows = [row for row in zoo.read_zoo(ROOT) if any(fnmatch(row.name, name) for name in args.names)]
    if not rows:
        raise SystemExit(f'model_zoo.py: no model is named {" or ".join(args.names)}; '
                         f'there are {", ".join(row.name for row in zoo.read_zoo(ROOT))}.')
    measured = []
    with Progress(transient=True) as progress:
        task = progress.add_task('', total=len(rows))
        for row in rows:
            progress.update(task, description=row.name)
            measured.append(replace(row, size=zoo.measure(ROOT / row.config, row.input_size)))
            progress.advance(task)
    table = zoo.tables(measured)
    print(table)
    if args.write_readme and zoo.write_between_markers(ROOT / 'README.md', 'model zoo', table):
        print(f'{ROOT / "README.md"} updated.')
    stale = [f'{old.name} has {new.size}, its metafile says {old.size}'
             for old, new in zip(rows, measured) if old.size != new.size]
    if stale:
        raise SystemExit(f'model_zoo.py: {stale[0]}{f" (and {len(stale) - 1} more)" if len(stale) > 1 else ""}: '
                         'correct the metafile.')


if __name__ == '__main__':
    main()
