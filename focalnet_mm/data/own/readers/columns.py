"""What the columns of a table hold, told by their headings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .folder import Folder

__all__ = ['columns_of', 'has_objects', 'is_on']

# Usual headings, without case, blanks, dashes and underscores.
_HEADINGS = dict(
    picture=('path', 'filename', 'file', 'image', 'imagepath', 'imagename', 'imageid', 'img', 'imgpath', 'imgname',
             'filepath', 'picture'),
    label=('label', 'labels', 'labelname', 'class', 'classes', 'classname', 'category', 'categoryname', 'categories',
           'target', 'tag', 'tags', 'classid', 'categoryid'),
    split=('split', 'subset', 'set', 'partition'),
    left=('x1', 'xmin', 'left', 'x0', 'bboxxmin'), top=('y1', 'ymin', 'top', 'y0', 'bboxymin'),
    right=('x2', 'xmax', 'right', 'bboxxmax'), bottom=('y2', 'ymax', 'bottom', 'bboxymax'),
    x=('x', 'bboxx'), y=('y', 'bboxy'), w=('w', 'bboxwidth', 'bboxw', 'boxwidth'),
    h=('h', 'bboxheight', 'bboxh', 'boxheight'), width=('width', 'imagewidth', 'imgwidth'),
    box=('bbox', 'box', 'boundingbox'), runs=('encodedpixels', 'rle'),
    height=('height', 'imageheight', 'imgheight'))
_ON, _OFF = ('1', '1.0', 'true', 'yes'), ('0', '0.0', 'false', 'no')


def columns_of(rows: Sequence[Mapping[str, str]], folder: Folder | None = None) -> dict[str, str]:
    """What each column holds.

    Args:
        rows: Of a table.
        folder: Where given, headings that may be anything count too where the table's pictures lie in it: ``id``, and
            of two columns the other one as the class.

    Returns:
        Meaning to heading. ``one-hot`` lists the columns of 0 and 1 that are classes, line by line.
    """
    first = rows[0]
    plain = {re.sub(r'[\s_-]', '', heading or '').casefold(): heading for heading in first}
    columns = {}
    for meaning, usual in _HEADINGS.items():
        heading = next((plain[name] for name in usual if name in plain), None)
        if heading is not None:
            columns[meaning] = heading
    if {'x', 'y'} <= columns.keys() and 'w' not in columns:
        # Beside x and y, width and height are those of the box.
        columns.update({short: columns.pop(long) for short, long in (('w', 'width'), ('h', 'height'))
                        if long in columns})
    if folder is not None:
        _guess(columns, plain, rows, folder)
    if 'label' not in columns and not has_objects(columns):
        rest = [heading for heading in first if heading and heading not in columns.values()]
        if len(rest) > 1 and all((row[heading] or '').casefold() in _ON + _OFF for row in rows for heading in rest):
            columns['one-hot'] = '\n'.join(rest)
    return columns


def has_objects(columns: Mapping[str, str]) -> bool:
    """Whether a row is an object, with a box or run lengths, and no picture as a whole."""
    return bool({'box', 'runs'} & columns.keys()) or {*'xywh'} <= columns.keys() or (
        {'left', 'top', 'right', 'bottom'} <= columns.keys())


def is_on(value: str) -> bool:
    """Whether a picture has the class of a column."""
    return (value or '').casefold() in _ON


def _guess(columns: dict[str, str], plain: Mapping[str, str], rows: Sequence[Mapping[str, str]],
           folder: Folder) -> None:
    if 'picture' not in columns and 'id' in plain:
        columns['picture'] = plain['id']
    names = [(row[columns['picture']] or '').rsplit('.', 1)[0] for row in rows[:3]] if 'picture' in columns else []
    if not names or not all(map(folder.has_picture, names)):
        columns.clear()
        return
    others = [heading for heading in rows[0] if heading and heading != columns['picture']]
    if 'label' not in columns and len(others) == 1:
        columns['label'] = others[0]
