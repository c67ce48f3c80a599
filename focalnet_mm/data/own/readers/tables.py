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
from ..records import SPLITS, Picture
from .collecting import Collector
from .columns import columns_of, has_objects, is_on, passed_by, sides_of
from .folder import Folder, read_text, split_of_name

__all__ = ['is_submission', 'read', 'tables']

# The class of objects in a table without classes.
_ONLY_CLASS = 'object'
# Further words of a column; a folder that is called so may be something else.
_MORE_SPLITS = {'holdout': 'val', 'hold-out': 'val', 'hold_out': 'val'}
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
        _warn_of_columns(out, path, contents[path][0], columns)
        _warn_of_splits(out, path, contents[path], columns)
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
    """What is in the columns of a box."""
    if sides := sides_of(columns):
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


def _warn_of_columns(out: Collector, path: Path, row: Mapping[str, str], columns: Mapping[str, str]) -> None:
    """Say which columns are not read, since one of them may hold what somebody counts on."""
    others = passed_by(row, columns)
    if 'is-valid' in columns:
        out.tell(f'The column {columns["is-valid"]} of {path.name} is taken for the split, as fastai writes it: what '
                 'is on in it is for validation.')
    if others:
        named = ', '.join(others[:10]) + (' …' if len(others) > 10 else '')
        lack = '' if {'label', 'one-hot'} & columns.keys() else (
            f', and all objects are of the class {_ONLY_CLASS}: call the column of their classes label, if there '
            'is one')
        out.tell(f'Of {path.name} these columns are passed by: {named}{lack}.')


def _warn_of_splits(out: Collector, path: Path, rows: Sequence[Mapping[str, str]],
                    columns: Mapping[str, str]) -> None:
    """Say which words in the column of splits tell none."""
    unknown = [(number, word) for number, row in enumerate(rows, start=2)
               if (word := _said(row, columns, 'split')) and not _split_of(row, columns)]
    if unknown:
        number, word = unknown[0]
        more = f' ({len(unknown)} such lines)' if len(unknown) > 1 else ''
        out.note('no_split', f'line {number} of {path.name} has the split {word!r}, which is none of '
                 f'{", ".join(SPLITS)}, and is read as if it had none{more}')


def _said(row: Mapping[str, str], columns: Mapping[str, str], meaning: str) -> str:
    """What a row has in the column of a meaning; nothing where there is none."""
    return (row.get(columns[meaning]) or '').strip() if meaning in columns else ''


def _split_of(row: Mapping[str, str], columns: Mapping[str, str]) -> str | None:
    """The split that the columns of a row tell."""
    if on := _said(row, columns, 'is-valid'):
        return 'val' if is_on(on) else 'train'
    word = _said(row, columns, 'split')
    return _MORE_SPLITS.get(word.casefold()) or split_of_name(word)


def _read_row(out: Collector, path: Path, columns: Mapping[str, str], row: Mapping[str, str], number: int,
              parts: bool) -> None:
    name = _said(row, columns, 'picture')
    split = _split_of(row, columns) or split_of_name(path.stem)
    if not name:
        out.note('malformed', f'line {number} of {path.name} names no picture', done='left out')
        return
    picture = _find(out, name, path, split, (_said(row, columns, 'height'), _said(row, columns, 'width')))
    if split not in (None, picture.split):
        return  # of two splits the first counts
    names = _labels(row, columns)
    if 'runs' in columns:
        _add_runs(out, picture, _said(row, columns, 'runs'), names, f'line {number} of {path.name}')
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
        sides = sides_of(columns) or ()
        if 'cx' in sides:
            a, b = a - c / 2, b - d / 2
        out.add(picture, label, (a, b, c, d) if 'right' in sides else (a, b, a + c, b + d))
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
