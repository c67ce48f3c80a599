"""CSV with a row for each picture, or for each of its objects."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from ..records import Picture
from .collecting import Collector
from .folder import Folder, read_text, split_of_name

__all__ = ['read', 'tables']

# Usual headings, without case, blanks, dashes and underscores.
_HEADINGS = dict(
    picture=('path', 'filename', 'file', 'image', 'imagepath', 'imagename', 'imageid', 'img', 'imgpath', 'imgname',
             'filepath', 'picture'),
    label=('label', 'labels', 'class', 'classes', 'classname', 'category', 'categoryname', 'categories', 'target',
           'tag', 'tags'),
    split=('split', 'subset', 'set', 'partition'),
    left=('x1', 'xmin', 'left', 'x0', 'bboxxmin'), top=('y1', 'ymin', 'top', 'y0', 'bboxymin'),
    right=('x2', 'xmax', 'right', 'bboxxmax'), bottom=('y2', 'ymax', 'bottom', 'bboxymax'),
    x=('x', 'bboxx'), y=('y', 'bboxy'), w=('w', 'bboxwidth', 'bboxw', 'boxwidth'),
    h=('h', 'bboxheight', 'bboxh', 'boxheight'), width=('width', 'imagewidth', 'imgwidth'),
    height=('height', 'imageheight', 'imgheight'))
_SEPARATORS = re.compile(r'\s*[;|]\s*')


def tables(folder: Folder, strict: bool = False) -> dict[Path, dict[str, str]]:
    """The CSV files with usual headings, and which column holds what.

    Raises:
        ValueError: A file cannot be read, where that is not to be passed over.
    """
    found = {}
    for path in folder.ending('.csv', '.tsv'):
        if _is_submission(path):
            continue
        try:
            columns = _columns(_rows(path)[0])
        except IndexError:
            continue
        except ValueError:
            if strict:
                raise
            continue
        if 'picture' in columns and ('label' in columns or 'one-hot' in columns):
            found[path] = columns
    return found


def _is_submission(path: Path) -> bool:
    """Whether it is a competition's example of what to hand in: it has the headings, and classes at random."""
    return 'submission' in path.stem.casefold()


def read(out: Collector) -> None:
    """Read all files of a folder."""
    for path in filter(_is_submission, out.folder.ending('.csv', '.tsv')):
        out.tell(f'{out.folder.relative(path)} is passed by: by its name it is to be handed in, and no annotation.')
    found = tables(out.folder, strict=True)
    if not found:
        raise ValueError(f'No CSV file in {out.folder.root} has headings for the picture (such as path) and its class '
                         '(such as label).')
    contents = {path: _rows(path) for path in found}
    names: set[str] = set()
    for path, columns in found.items():
        if 'label' in columns:
            names |= {name for row in contents[path] for name in _labels(row, columns)}
        else:
            for name in columns['one-hot'].split('\n'):
                out.label(name)
    for name in sorted(names, key=lambda name: (0, int(name), '') if name.isdecimal() else (1, 0, name)):
        out.label(name)
    for path, columns in found.items():
        for number, row in enumerate(out.track(contents[path], f'Reading {path.name}'), start=2):
            _read_row(out, path, columns, row, number)


def _rows(path: Path) -> list[dict[str, str]]:
    text = read_text(path)
    first = text.splitlines()[0] if text.strip() else ''
    delimiter = max(',;\t', key=first.count)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f'{path} is no CSV that can be read: {error}') from None


def _columns(row: Mapping[str, str]) -> dict[str, str]:
    """What each column holds; ``one-hot`` lists the columns of 0 and 1 that are classes, line by line."""
    plain = {re.sub(r'[\s_-]', '', heading or '').casefold(): heading for heading in row}
    columns = {}
    for meaning, usual in _HEADINGS.items():
        heading = next((plain[name] for name in usual if name in plain), None)
        if heading is not None:
            columns[meaning] = heading
    if {'x', 'y'} <= columns.keys() and 'w' not in columns:
        # Beside x and y, width and height are those of the box.
        columns.update({short: columns.pop(long) for short, long in (('w', 'width'), ('h', 'height'))
                        if long in columns})
    if 'label' not in columns:
        rest = [heading for heading in row if heading and heading not in columns.values()]
        if len(rest) > 1 and all(row[heading] in ('0', '1') for heading in rest):
            columns['one-hot'] = '\n'.join(rest)
    return columns


def _labels(row: Mapping[str, str], columns: Mapping[str, str]) -> list[str]:
    if 'one-hot' in columns:
        return [name for name in columns['one-hot'].split('\n') if row[name] == '1']
    return [name for name in _SEPARATORS.split((row[columns['label']] or '').strip()) if name]


def _read_row(out: Collector, path: Path, columns: Mapping[str, str], row: Mapping[str, str], number: int) -> None:
    def value(meaning: str) -> str:
        return (row.get(columns.get(meaning, ''), '') or '').strip()

    name = value('picture')
    split = split_of_name(value('split')) or split_of_name(path.stem)
    size = value('height'), value('width')
    if not name:
        out.note('malformed', f'line {number} of {path.name} names no picture', done='left out')
        return
    picture = _find(out, name, path, split, size)
    if split not in (None, picture.split):
        return  # of two splits the first counts
    labels = [out.label(label) for label in _labels(row, columns)]
    boxed = {'left', 'top', 'right', 'bottom'} <= columns.keys() or {'x', 'y', 'w', 'h'} <= columns.keys()
    if not boxed:
        picture.labels = tuple(dict.fromkeys(picture.labels + tuple(labels)))
        out.several = out.several or 'one-hot' in columns
        return
    if 'left' in columns:
        corners = [value(side) for side in ('left', 'top', 'right', 'bottom')]
    else:
        corners = [value(side) for side in 'xywh']
    if not any(corners) and not labels:
        return  # a picture without objects
    try:
        a, b, c, d = map(float, corners)
        label, = labels
        out.add(picture, label, (a, b, c, d) if 'left' in columns else (a, b, a + c, b + d))
    except ValueError:
        out.note('malformed', f'line {number} of {path.name} has no box of four numbers and one class: '
                 f'{", ".join(corners)}', picture.path, done='left out')


def _find(out: Collector, name: str, path: Path, split: str | None, size: tuple[str, str]) -> Picture:
    """A picture by its path, or by its name without ending, as competitions name them."""
    if '.' not in name and (found := out.folder.find_stem(name, path.parent, split)):
        return out.picture(found, split, size)
    return out.named(name, path.parent, split, size)
