"""CSV with a row for each picture, or for each of its objects."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..masks import encode, rle_box
from ..records import Picture
from .collecting import Collector
from .columns import columns_of, has_objects, is_on
from .folder import Folder, read_text, split_of_name

__all__ = ['is_submission', 'read', 'tables']

# The class of objects in a table without classes.
_ONLY_CLASS = 'object'
_SEPARATORS = re.compile(r'\s*[;|]\s*')


def tables(folder: Folder, strict: bool = False, loosely: bool = False) -> dict[Path, dict[str, str]]:
    """The CSV files with usual headings, and which column holds what.

    Args:
        folder: The files.
        strict: Whether a file that cannot be read is an error.
        loosely: Whether headings that may be anything count too, as :func:`columns_of` says.

    Raises:
        ValueError: A file cannot be read, where that is not to be passed over.
    """
    found = {}
    for path in folder.ending('.csv', '.tsv'):
        if is_submission(path):
            continue
        try:
            columns = columns_of(_rows(path), folder if loosely else None)
        except IndexError:
            continue
        except ValueError:
            if strict:
                raise
            continue
        if 'picture' in columns and ({'label', 'one-hot'} & columns.keys() or has_objects(columns)):
            found[path] = columns
    return found


def is_submission(path: Path) -> bool:
    """Whether it is a competition's example of what to hand in: it has the headings, and classes at random."""
    return 'submission' in path.stem.casefold()


def read(out: Collector) -> None:
    """Read all files of a folder."""
    for path in filter(is_submission, out.folder.ending('.csv', '.tsv')):
        out.tell(f'{out.folder.relative(path)} is passed by: by its name it is to be handed in, and no annotation.')
    found = tables(out.folder, strict=True) or tables(out.folder, loosely=True)
    if not found:
        raise ValueError(f'No CSV file in {out.folder.root} has headings for the picture (such as path) and its class '
                         '(such as label).')
    contents = {path: _rows(path) for path in found}
    names: set[str] = set()
    for path, columns in found.items():
        if 'one-hot' not in columns:
            names |= {name for row in contents[path] for name in _labels(row, columns)}
        else:
            for name in columns['one-hot'].split('\n'):
                out.label(name)
    for name in sorted(names, key=lambda name: (0, int(name), '') if name.isdecimal() else (1, 0, name)):
        out.label(name)
    for path, columns in found.items():
        parts = _in_parts(contents[path], columns)
        if parts:
            out.tell(f'The boxes of {path.name} lie between 0 and 1: they are taken for parts of the width and height.')
        _warn_of_blanks(out, contents[path], columns)
        for number, row in enumerate(out.track(contents[path], f'Reading {path.name}'), start=2):
            _read_row(out, path, columns, row, number, parts)
    out.gathered = not any('one-hot' in columns for columns in found.values())


def _rows(path: Path) -> list[dict[str, str]]:
    text = read_text(path)
    first = text.splitlines()[0] if text.strip() else ''
    delimiter = max(',;\t', key=first.count)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f'{path} is no CSV that can be read: {error}') from None


def _labels(row: Mapping[str, str], columns: Mapping[str, str]) -> list[str]:
    if 'one-hot' in columns:
        return [name for name in columns['one-hot'].split('\n') if is_on(row[name])]
    if 'label' not in columns:
        return [_ONLY_CLASS]
    return [name for name in _SEPARATORS.split((row[columns['label']] or '').strip()) if name]


def _corners(row: Mapping[str, str], columns: Mapping[str, str]) -> list[str]:
    """Left, top, right and bottom, or left, top, width and height, of whatever is in their columns."""
    for sides in (('left', 'top', 'right', 'bottom'), 'xywh'):
        if {*sides} <= columns.keys():
            return [(row.get(columns[side]) or '').strip() for side in sides]
    return re.findall(r'[^\s,;()\[\]]+', row.get(columns['box']) or '') if 'box' in columns else []


def _in_parts(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> bool:
    """Whether all boxes lie between 0 and 1, so that they are parts of the picture's sides."""
    values: list[float] = []
    for row in rows:
        try:
            values += map(float, _corners(row, columns))
        except ValueError:
            continue
    values = [value for value in values if math.isfinite(value)]
    return bool(values) and min(values) >= 0 and max(values) <= 1 and any(value % 1 for value in values)


def _warn_of_blanks(out: Collector, rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> None:
    """Say that words of a heading in the plural may be several classes."""
    heading = columns.get('label', '')
    names = {name for row in rows for name in _labels(row, columns)} if heading.casefold().endswith('s') else set()
    words = next((name for name in sorted(names) if ' ' in name and {*name.split()} & names), None)
    if words:
        out.tell(f'{words!r} in the column {heading} is taken for one class: if these are several, put | between them.')


def _read_row(out: Collector, path: Path, columns: Mapping[str, str], row: Mapping[str, str], number: int,
              parts: bool) -> None:
    def value(meaning: str) -> str:
        return (row.get(columns[meaning]) or '').strip() if meaning in columns else ''

    name = value('picture')
    split = split_of_name(value('split')) or split_of_name(path.stem)
    if not name:
        out.note('malformed', f'line {number} of {path.name} names no picture', done='left out')
        return
    picture = _find(out, name, path, split, (value('height'), value('width')))
    if split not in (None, picture.split):
        return  # of two splits the first counts
    names = _labels(row, columns)
    if 'runs' in columns:
        _add_runs(out, picture, value('runs'), names, f'line {number} of {path.name}')
        return
    if not has_objects(columns):
        picture.labels = tuple(dict.fromkeys((*picture.labels, *map(out.label, names))))
        out.several = out.several or 'one-hot' in columns
        return
    corners = _corners(row, columns)
    if not any(corners):
        return  # a picture without objects, which some tables give a class of its own
    try:
        a, b, c, d = (float(each) * (side if parts else 1)
                      for each, side in zip(corners, 2 * (picture.width, picture.height), strict=True))
        label, = map(out.label, names)
        out.add(picture, label, (a, b, c, d) if 'left' in columns else (a, b, a + c, b + d))
    except ValueError:
        out.note('malformed', f'line {number} of {path.name} has no box of four numbers and one class: '
                 f'{", ".join(corners)}', picture.path, done='left out')


def _add_runs(out: Collector, picture: Picture, text: str, names: Sequence[str], where: str) -> None:
    """Kaggle's run lengths: first pixel, counted from 1 and downwards, and length, again and again."""
    if text in ('', '-1') or not picture.height:
        return
    try:
        values = [int(value) for value in text.split()]
        flat = np.zeros(picture.height * picture.width, bool)
        for start, length in zip(values[0::2], values[1::2], strict=True):
            if not 0 < start <= start + length - 1 <= flat.size:
                raise ValueError(f'{length} pixels from {start} in a picture of {flat.size}')
            flat[start - 1:start - 1 + length] = True
        rle = encode(flat.reshape(picture.width, picture.height).T)
        label, = map(out.label, names)
        out.add(picture, label, rle_box(rle), rle)
    except ValueError as error:
        out.note('malformed', f'{where} has no run lengths of one class: {error}', picture.path, done='left out')


def _find(out: Collector, name: str, path: Path, split: str | None, size: tuple[str, str]) -> Picture:
    """A picture by its path, or by its name without ending, as competitions name them."""
    if '.' not in name and (found := out.folder.find_stem(name, path.parent, split)):
        return out.picture(found, split, size)
    return out.named(name, path.parent, split, size)
