"""What the columns of a table hold, told by their headings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .folder import Folder

__all__ = ['columns_of', 'has_objects', 'is_on', 'passed_by', 'sides_of']

# Usual headings, without case, blanks, dashes and underscores.
_HEADINGS = dict(
    picture=('path', 'filename', 'file', 'image', 'imagepath', 'imagename', 'imageid', 'img', 'imgpath', 'imgname',
             'filepath', 'picture'),
    label=('label', 'labels', 'labelname', 'class', 'classes', 'classname', 'category', 'categoryname', 'categories',
           'target', 'tag', 'tags', 'classid', 'categoryid'),
    split=('split', 'subset', 'set', 'partition'),
    left=('x0', 'x1', 'xmin', 'left', 'startx', 'xstart', 'bboxxmin', 'bboxx1', 'bboxleft'),
    top=('y0', 'y1', 'ymin', 'top', 'starty', 'ystart', 'bboxymin', 'bboxy1', 'bboxtop'),
    right=('x2', 'xmax', 'right', 'endx', 'xend', 'bboxxmax', 'bboxx2', 'bboxright', 'x1'),
    bottom=('y2', 'ymax', 'bottom', 'endy', 'yend', 'bboxymax', 'bboxy2', 'bboxbottom', 'y1'),
    x=('x', 'bboxx'), y=('y', 'bboxy'),
    cx=('cx', 'xc', 'xcenter', 'xcentre', 'centerx', 'centrex', 'bboxxcenter', 'bboxxcentre', 'bboxcenterx', 'bboxcx'),
    cy=('cy', 'yc', 'ycenter', 'ycentre', 'centery', 'centrey', 'bboxycenter', 'bboxycentre', 'bboxcentery', 'bboxcy'),
    w=('w', 'bboxwidth', 'bboxw', 'boxwidth'), h=('h', 'bboxheight', 'bboxh', 'boxheight'),
    box=('bbox', 'box', 'boundingbox'), runs=('encodedpixels', 'rle'),
    width=('width', 'imagewidth', 'imgwidth'), height=('height', 'imageheight', 'imgheight'))
# The sides that make a box, by corners, by a corner and the size, or by the centre and the size.
_SIDES = (('left', 'top', 'right', 'bottom'), ('x', 'y', 'w', 'h'), ('left', 'top', 'w', 'h'), ('cx', 'cy', 'w', 'h'))
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
    columns: dict[str, str] = {}
    for meaning, usual in _HEADINGS.items():
        # x1 is the left side beside x2, and the right one beside x0.
        heading = next((plain[name] for name in usual if name in plain and plain[name] not in columns.values()), None)
        if heading is not None:
            columns[meaning] = heading
    if sides_of(columns) is None and not {'w', 'h'} & columns.keys() and {'width', 'height'} <= plain.keys():
        # Beside a corner or the centre, width and height are those of the box.
        sized = dict(columns, w=plain['width'], h=plain['height'])
        if sides_of(sized):
            columns = {meaning: heading for meaning, heading in sized.items() if meaning not in ('width', 'height')}
            columns.update({side: plain[f'{image}{side}'] for side in ('width', 'height') for image in ('img', 'image')
                            if f'{image}{side}' in plain})
    if 'split' not in columns and 'isvalid' in plain and all(
            (row[plain['isvalid']] or '').strip().casefold() in ('', *_ON, *_OFF) for row in rows):
        columns['is-valid'] = plain['isvalid']
    if 'label' not in columns and 'name' in plain and has_objects(columns):
        columns['label'] = plain['name']
    if folder is not None:
        _guess(columns, plain, rows, folder)
    if 'label' not in columns and not has_objects(columns):
        rest = [heading for heading in first if heading and heading not in columns.values()]
        if len(rest) > 1 and all((row[heading] or '').casefold() in _ON + _OFF for row in rows for heading in rest):
            columns['one-hot'] = '\n'.join(rest)
    return columns


def has_objects(columns: Mapping[str, str]) -> bool:
    """Whether a row is an object, with a box or run lengths, and no picture as a whole."""
    return bool({'box', 'runs'} & columns.keys()) or sides_of(columns) is not None


def sides_of(columns: Mapping[str, str]) -> tuple[str, str, str, str] | None:
    """Which four columns make a box, by their meanings; ``None`` where none do."""
    return next((sides for sides in _SIDES if {*sides} <= columns.keys()), None)


def passed_by(row: Mapping[str, str], columns: Mapping[str, str]) -> list[str]:
    """The headings of a row of which nothing is read."""
    loose = {side for sides in _SIDES for side in sides} - {*(sides_of(columns) or ())}
    if 'runs' in columns:
        loose |= {'box', *(sides_of(columns) or ())}
    elif sides_of(columns):
        loose.add('box')
    read = {heading for meaning, heading in columns.items() if meaning not in loose}
    read.update(columns.get('one-hot', '').split('\n'))
    return [heading for heading in row if heading and heading not in read]


def is_on(value: str) -> bool:
    """Whether a picture has the class of a column."""
    return (value or '').strip().casefold() in _ON


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
