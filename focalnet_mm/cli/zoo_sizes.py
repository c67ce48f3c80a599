"""Build every config and compare its size with the published one; the tables of the docs are made by this."""

import argparse
from dataclasses import replace

from rich.progress import Progress

from ..run.shipped import shipped
from ..zoo.rows import read_zoo, select_rows
from ..zoo.sizes import model_size
from ..zoo.tables import tables, write_tables
from .options import in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('names', nargs='*', default=['*'], metavar='NAME',
                        help='names of models, with * and ? as wildcards (default: all)')
    parser.add_argument('--write', action='store_true',
                        help='put the tables into README.md, docs/zoo.md and the pages in configs/; needs all models '
                        'and a checkout')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.write and args.names != ['*']:
        parser.error('--write needs all models: leave the names out')
    root = shipped()
    rows = select_rows(read_zoo(root), args.names)
    if not rows:
        raise SystemExit(f'{parser.prog}: no model is named {" or ".join(args.names)}; '
                         f'there are {", ".join(row.name for row in read_zoo(root))}.')
    measured = []
    with Progress(transient=True) as progress:
        task = progress.add_task('', total=len(rows))
        for row in rows:
            progress.update(task, description=row.name)
            measured.append(replace(row, size=model_size(root / row.config, row.input_size)))
            progress.advance(task)
    print(tables(measured))
    if args.write:
        with in_one_sentence(parser):
            changed = write_tables(measured, root)
        print(f'Updated: {", ".join(map(str, changed)) or "nothing"}')
    stale = [f'{old.name} has {new.size}, its metafile says {old.size}'
             for old, new in zip(rows, measured) if old.size != new.size]
    if stale:
        raise SystemExit(f'{parser.prog}: {stale[0]}{f" (and {len(stale) - 1} more)" if len(stale) > 1 else ""}: '
                         'correct the metafile.')
