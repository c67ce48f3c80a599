"""Pascal VOC: an XML file for each picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from .collecting import Collector
from .folder import Folder, split_of
from .image_sets import image_sets, split_in
from .xml_files import load_xml, root_tag

__all__ = ['read', 'voc_files']


def voc_files(folder: Folder, most: int | None = None) -> list[Path]:
    """The XML files of VOC's form, at most so many."""
    found: list[Path] = []
    for path in folder.ending('.xml'):
        if len(found) == most:
            break
        if root_tag(path) == 'annotation':
            found.append(path)
    return found


def read(out: Collector) -> None:
    """Read all files of a folder.

    VOC counts pixels from 1 and includes the last one, so 1 is taken off left and top. Many tools count from 0 all the
    same: where any box of the folder starts at 0, nothing is taken off.
    """
    splits = image_sets(out.folder, 'Main')
    roots = []
    for path in out.track(voc_files(out.folder), 'Reading annotations'):
        try:
            roots.append((path, load_xml(path)))
        except ValueError as error:
            out.note('malformed', str(error), done='left out')
    objects = [element for _, root in roots for element in root.findall('object')]
    for name in sorted({_name(element) for element in objects}):
        out.label(name)
    starts = [_number(element.find(f'bndbox/{side}')) for element in objects for side in ('xmin', 'ymin')]
    first = 0 if any(start is not None and start < 1 for start in starts) else 1
    claims = Counter(_claim(out, path, root) for path, root in roots)
    for path, root in out.track(roots, 'Reading pictures'):
        name = _file_name(path, root)
        height, width = (root.findtext(f'size/{side}') for side in ('height', 'width'))
        split = split_in(splits, path) or split_of(out.folder.relative(path).parts[:-1])
        claimed = _claim(out, path, root)
        own = out.folder.find_stem(path.stem, path.parent, split) if claimed and claims[claimed] > 1 else None
        if own is not None and own != claimed:
            # A copied or renamed file: the challenge goes by the name of the XML.
            out.note('moved', f'{out.folder.relative(path)} names {name}, as another file does: '
                     f'{out.folder.relative(own)} was taken, which is called as it', own)
            name = str(own)
        picture = out.named(name, path.parent, split, (height, width), path.stem)
        for number, element in enumerate(root.findall('object')):
            corners = [_number(element.find(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
            polygon = _polygon(element, first)
            try:
                if None in corners and not polygon:
                    raise ValueError('it has no box of four numbers')
                box = None if None in corners else (corners[0] - first, corners[1] - first, corners[2], corners[3])
                out.add(picture, out.label(_name(element)), box, polygon, _number(element.find('difficult')) == 1)
            except ValueError as error:
                out.note('malformed', f'object {number} of {out.folder.relative(path)} is none: {error}', picture.path,
                         done='left out')


def _file_name(path: Path, root: Element) -> str:
    return (root.findtext('filename') or '').strip() or path.stem


def _claim(out: Collector, path: Path, root: Element) -> Path | None:
    """The picture that a file names, if it is there."""
    match = out.folder.find(_file_name(path, root), path.parent, split_of(out.folder.relative(path).parts[:-1]))
    return match.path if match else None


def _name(element: Element) -> str:
    return (element.findtext('name') or '').strip()


def _number(element: Element | None) -> Any:
    try:
        return float(element.text)  # type: ignore[union-attr, arg-type]
    except (AttributeError, TypeError, ValueError):
        return None


def _polygon(element: Element, first: int) -> list[list[float]] | None:
    """Roboflow's and CVAT's addition: ``<polygon><x1>…</x1><y1>…</y1>…</polygon>``."""
    values: list[float] = []
    polygon = element.find('polygon')
    if polygon is None:
        return None
    while (x := _number(polygon.find(f'x{len(values) // 2 + 1}'))) is not None:
        y = _number(polygon.find(f'y{len(values) // 2 + 1}'))
        if y is None:
            break
        values += [x - first, y - first]
    return [values] if len(values) >= 6 else None
