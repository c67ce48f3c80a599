"""The zoo as tables, and the pages that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from .recipes import deviations_table, read_deviations
from .rows import Collection, Row, read_collections

__all__ = ['best_rows', 'listing', 'page', 'tables', 'write_between_markers', 'write_tables']


def tables(rows: Iterable[Row]) -> str:
    """The zoo as Markdown: a table for each method, published results, sizes measured beside published.

    Args:
        rows: The models.

    Returns:
        The tables, ending in a newline.
    """
    rows = list(rows)
    notes: dict[str, int] = {}
    parts = [f'**{collection}**\n\n' + _table([row for row in rows if row.collection == collection], notes)
             for collection in dict.fromkeys(row.collection for row in rows)]
    return '\n'.join([*parts, *_footnotes(notes)])


def best_rows(rows: Iterable[Row], collections: Iterable[Collection]) -> str:
    """For each method that has published results its best model, in Markdown.

    Args:
        rows: The models.
        collections: The methods.

    Returns:
        The table, ending in a newline.
    """
    rows = list(rows)
    notes: dict[str, int] = {}
    lines = [_line(['method', 'data', 'config', 'params (M)', 'published']), _line(['---'] * 5)]
    for collection in collections:
        members = [row for row in rows if row.collection == collection.name and row.results]
        if members:
            best = max(members, key=lambda row: next(iter(_values(row).values())))
            results = ', '.join(f'{metric} {value:.1f}' for metric, value in _values(best).items())
            lines.append(_line([f'[{collection.name}]({collection.page})', collection.data,
                                f'[`{best.name}`]({best.config}){_mark(best, notes)}',
                                f'{best.size.parameters / 1e6:.1f}', results]))
    return '\n'.join(['\n'.join(lines) + '\n', *_footnotes(notes)])


def page(collection: Collection, rows: Iterable[Row]) -> str:
    """A method's page in Markdown, which lies beside its configs.

    Args:
        collection: The method.
        rows: The models of all methods.

    Returns:
        The page, ending in a newline.
    """
    members = [row for row in rows if row.collection == collection.name]
    notes: dict[str, int] = {}
    table = _table(members, notes, link=lambda row: PurePosixPath(row.config).name)
    first = members[0].config
    parts = [
        f'<!-- Written by `focalnet-mm zoo sizes --write` from the metafile. -->\n# {collection.name}\n',
        f'{collection.description.strip()}\n',
        'Source: [Focal Modulation Networks](https://arxiv.org/abs/2203.11926) (NeurIPS 2022). Results are published '
        'ones, in percent;\nnobody has trained these configs to the end yet. Parameters and FLOPs are measured, beside '
        'the published ones.\n',
        table, *_footnotes(notes),
        f'```bash\nfocalnet-mm train {first}\nfocalnet-mm test {first} CHECKPOINT\n```\n']
    return '\n'.join(parts)


def listing(rows: Iterable[Row]) -> str:
    """Models as lines of text, by method: name, parameters, FLOPs, published results.

    Args:
        rows: The models.

    Returns:
        The lines; nothing where there is no model.
    """
    rows = list(rows)
    width = max((len(row.name) for row in rows), default=0)
    lines = []
    for collection in dict.fromkeys(row.collection for row in rows):
        lines.append(collection)
        for row in rows:
            if row.collection == collection:
                results = ', '.join(f'{metric} {value:.1f}' for metric, value in _values(row).items())
                lines.append(f'  {row.name:{width}}  {row.size.parameters / 1e6:6.1f} M  {row.size.flops / 1e9:6.1f} G'
                             f'  {f"published: {results}" if results else ""}'.rstrip())
    return '\n'.join(lines)


def write_tables(rows: Sequence[Row], root: Path) -> list[Path]:
    """Put the tables where they belong in a checkout: README.md, docs/zoo.md, docs/recipes.md, the methods' pages.

    Args:
        rows: All models.
        root: The checkout.

    Returns:
        The files that changed.

    Raises:
        FileNotFoundError: ``root`` is no checkout.
        ValueError: A file lacks the markers of its table.
    """
    collections = read_collections(root)
    changed = []
    for file, name, text in ((root / 'README.md', 'best rows', best_rows(rows, collections)),
                             (root / 'docs' / 'zoo.md', 'model zoo', tables(rows)),
                             (root / 'docs' / 'recipes.md', 'deviations', deviations_table(read_deviations(root)))):
        if not file.is_file():
            raise FileNotFoundError(f'{file} does not exist: --write needs a checkout of focalnet-mm.')
        if write_between_markers(file, name, text):
            changed.append(file)
    for collection in collections:
        file, text = root / collection.page, page(collection, rows)
        if not file.is_file() or file.read_text() != text:
            file.write_text(text)
            changed.append(file)
    return changed


def write_between_markers(file: str | Path, name: str, text: str) -> bool:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in a file.

    Args:
        file: The file.
        name: The name in the markers.
        text: What to put there.

    Returns:
        Whether the file changed.

    Raises:
        ValueError: The markers are not there.
    """
    file = Path(file)
    old = file.read_text()
    start, end = f'<!-- {name} -->\n', f'<!-- /{name} -->'
    if start not in old or end not in old:
        raise ValueError(f'{file} lacks the lines {start.strip()} and {end}: put them where the table belongs.')
    new = old[:old.index(start) + len(start)] + text + old[old.index(end):]
    if new != old:
        file.write_text(new)
    return new != old


def _table(rows: Sequence[Row], notes: dict[str, int], link: Callable[[Row], str] | None = None) -> str:
    """A table of models with the same columns; new notes get the next number."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in _values(row)))
    sizes = dict.fromkeys(f'{row.input_size[0]}×{row.input_size[1]}' for row in rows)
    header = ['config', 'params (M)', 'published', f'FLOPs (G) at {" or ".join(sizes)}', 'published', *metrics,
              'weights']
    lines = [_line(header), _line(['---'] * len(header))]
    for row in rows:
        name = f'[`{row.name}`]({link(row)})' if link else f'`{row.name}`'
        values = _values(row)
        lines.append(_line([
            name + _mark(row, notes),
            *_beside(row.size.parameters / 1e6, row.published_parameters, 2),
            *_beside(row.size.flops / 1e9, row.published_flops, 1),
            *(f'{values[metric]:.1f}' if metric in values else '' for metric in metrics),
            f'[{row.weights_kind}]({row.weights})' if row.weights else '']))
    return '\n'.join(lines) + '\n'


def _mark(row: Row, notes: dict[str, int]) -> str:
    """The number of a row's note behind its name; a new note gets the next one."""
    return f' ({notes.setdefault(row.note, len(notes) + 1)})' if row.note else ''


def _footnotes(notes: dict[str, int]) -> list[str]:
    """What the numbers behind names say, as one part of a page or none."""
    return ['\n'.join(f'({number}) {note}' + '  ' for note, number in notes.items()) + '\n'] if notes else []


def _values(row: Row) -> dict[str, float]:
    """Metric → published value."""
    return {metric: value for result in row.results.values() for metric, value in result.items()}


def _line(cells: Iterable[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _beside(measured: float, published: float | None, digits: int) -> tuple[str, str]:
    if published is None:
        return f'{measured:.{digits}f}', ''
    return f'{measured:.{digits}f}', f'{published:g} ({measured / published - 1:+.1%})'
