"""Export every model of the zoo to ONNX with random weights, and run each file beside PyTorch.

Configs with the same model are exported once. Each export is a process of its own. Finished rows are kept in
results.json of --out and not run again; the exported files are deleted.
"""

import argparse
import json
from pathlib import Path

from ..run.shipped import shipped
from ..zoo.export_run import measure_export
from ..zoo.exports import export_rows, exports_table, same_models
from ..zoo.rows import read_zoo, select_rows, write_json
from .options import Parser, as_worker, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('names', nargs='*', default=['*'], metavar='NAME',
                        help='names of models, with * and ? as wildcards (default: all)')
    parser.add_argument('--out', metavar='DIR', default='work_dirs/exports',
                        help='where results.json, table.md and logs go (default: %(default)s)')
    parser.add_argument('--worker', help=argparse.SUPPRESS)


def main(args: argparse.Namespace, parser: Parser) -> None:
    if args.worker:
        job = json.loads(args.worker)
        with as_worker(parser):
            write_json(job['result'], measure_export(job['config'], Path(job['file']), tuple(job['size'])))
        return
    rows = select_rows(read_zoo(shipped()), args.names)
    if not rows:
        raise SystemExit(f'{parser.prog}: no model is named {" or ".join(args.names)}; focalnet-mm config lists them.')
    out = Path(args.out)
    with in_one_sentence(parser):
        groups = same_models(rows)
        results = export_rows(groups, out)
    table = exports_table(groups, results)
    (out / 'table.md').write_text(table, encoding='utf-8')
    print(table)
    print(out / 'table.md')
    found = {rows[0].name: results[rows[0].name] for rows in groups}
    wrong = [name for name, result in found.items() if isinstance(result, str) or not result['holds']]
    if wrong:
        raise SystemExit(f'{parser.prog}: {len(wrong)} of {len(groups)} models failed or differ: {", ".join(wrong)}.')
