"""Label Studio's JSON export: a list of tasks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ...pictures import IMAGE_ENDINGS
from ..masks import encode, rle_box
from ..records import Picture
from .collecting import Collector
from .folder import OTHER_ENDINGS, Folder, Match, split_of_name
from .outlines import ellipse, turned_box

__all__ = ['is_minimal', 'labelstudio_files', 'read']

_UPLOADED = re.compile(r'[0-9a-f]{8}-(?=.)')


def is_minimal(folder: Folder, path: Path) -> bool:
    """Whether it is Label Studio's "JSON-MIN", which does not tell what is an annotation."""
    return {'id', 'annotation_id', 'annotator'} <= folder.outline(path).first


def labelstudio_files(folder: Folder) -> list[Path]:
    """The JSON files of Label Studio's full export."""
    return [path for path in folder.ending('.json') if {'data', 'annotations'} <= folder.outline(path).first]


def read(out: Collector) -> None:
    """Read all files of a folder; of several annotations of a task the ground truth, or the first.

    A task without an annotation, or with cancelled ones alone, is left out: nobody has said that its picture shows
    nothing.
    """
    files = labelstudio_files(out.folder)
    tasks = [(path, task) for path in files
             for task in out.objects(out.folder.load_json(path), f'the tasks of {path.name}')
             if isinstance(task.get('data'), dict) and isinstance(task.get('annotations'), list)]
    for name in sorted({name for _, task in tasks for result in _results(task) for name in _names(result)}):
        out.label(name)
    out.gathered = True
    renamed = _renamed(out.folder)
    annotated = [(path, task) for path, task in tasks if _drawn(task)]
    if count := len(tasks) - len(annotated):
        out.tell(f'{count} of {len(tasks)} tasks were skipped or never annotated: left out.')
    for path, task in out.track(annotated, 'Reading tasks'):
        results = _results(task)
        sizes = [(result.get('original_height') or 0, result.get('original_width') or 0) for result in results]
        picture = _picture(out, path, task, max(sizes, default=(0, 0)), renamed)
        if len(drawn := _drawn(task)) > 1:
            which = 'marked as ground truth' if drawn[0].get('ground_truth') else 'that is first'
            out.note('several_annotators', f'task {task.get("id")} was annotated {len(drawn)} times: the one {which} '
                     'was taken', picture.path)
        for result in results:
            _read_result(out, picture, result, f'{result.get("type")} {result.get("id")} of task {task.get("id")}')


def _drawn(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The annotations of a task that were handed in, those first that are marked as true.

    One is cancelled where the task was skipped.
    """
    drawn = [entry for entry in task['annotations'] if not entry.get('was_cancelled')]
    return sorted(drawn, key=lambda entry: not entry.get('ground_truth'))


def _results(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of the annotation that counts; of those that share an id the class, or else the shape."""
    found = [result for entry in _drawn(task)[:1] for result in entry.get('result') or ()
             if isinstance(result.get('value'), dict)]
    # A shape, its class and remarks about it share an id; remarks are texts, choices and the like.
    ranks: dict[Any, int] = {}
    for result in found:
        ranks[result.get('id')] = max(ranks.get(result.get('id'), 0), _rank(result))
    return [result for result in found if result.get('id') is None or _rank(result) == ranks[result['id']]]


def _rank(result: Mapping[str, Any]) -> int:
    kind = str(result.get('type'))
    return 3 if kind == 'labels' else 2 if kind.endswith('labels') else 1 if f'{kind}labels' in _SHAPES else 0


def _names(result: Mapping[str, Any]) -> list[str]:
    """The classes of a result; those of a shape may be of its kind, or of the tag Labels, which goes with all."""
    kind = result.get('type')
    names = result['value'].get(kind, []) if kind in _SHAPES or kind in ('choices', 'labels') else []
    return [str(name) for name in names] if isinstance(names, list) else []


def _kind(result: Mapping[str, Any]) -> str:
    """The kind of a result; of the tag Labels that of the shape which it names."""
    if result.get('type') != 'labels':
        return str(result.get('type'))
    value = result['value']
    marks = dict(points='polygonlabels', radiusX='ellipselabels', rle='brushlabels', width='rectanglelabels')
    return next((kind for key, kind in marks.items() if key in value), 'labels')


def _picture(out: Collector, path: Path, task: Mapping[str, Any], size: tuple[int, int],
             renamed: Mapping[str, Sequence[Path]]) -> Picture:
    """The picture of a task: of its texts the first that means one which is there, or that ends as pictures do."""
    texts = [text for text in (task['data'].get('image'), *task['data'].values()) if isinstance(text, str)]
    names = [_name(text) for text in texts] or ['']
    match = next((found for name in names if (found := _match(out.folder, name, path.parent, renamed))), None)
    name = next((name for name in names if name.lower().endswith((*IMAGE_ENDINGS, *OTHER_ENDINGS))), names[0])
    name = _without_upload(name) or name
    return out.named(str(match.path) if match else name, path.parent, split_of_name(path.stem), size)


def _name(url: str) -> str:
    """The path that a URL means."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # A text that is none.
        return url
    local = parse_qs(parts.query).get('d')
    return unquote(local[0] if local else parts.path if parts.scheme or url.startswith('/data/') else url)


def _match(folder: Folder, name: str, near: Path, renamed: Mapping[str, Sequence[Path]]) -> Match | None:
    """The picture of a name, which may carry what an upload put before it."""
    # What comes before the name is a place on the server, which nobody need be told.
    match = folder.find(name, near) or folder.find(name.rsplit('/', 1)[-1], near)
    if match is None and (own := _without_upload(name)):
        match = folder.find(own, near) or _only(renamed.get(own, ()))
    return match if match and match.path.suffix.lower() in IMAGE_ENDINGS else None


def _without_upload(name: str) -> str | None:
    """The last part of a name without what an upload put before it; nothing where that is not there."""
    last = name.rsplit('/', 1)[-1]
    uploaded = _UPLOADED.match(last)
    return last[uploaded.end():] if uploaded else None


def _renamed(folder: Folder) -> dict[str, list[Path]]:
    """The pictures by the names that an upload gives them: Django puts ``_`` for blanks, and leaves out most signs.

    Source: ``django.utils.text.get_valid_filename``.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in folder.pictures:
        found[re.sub(r'[^-\w.]', '', path.name.strip().replace(' ', '_'))].append(path)
    return found


def _only(found: Sequence[Path]) -> Match | None:
    return Match(found[0], True) if len(found) == 1 else None


def _read_result(out: Collector, picture: Picture, result: Mapping[str, Any], where: str) -> None:
    value, kind = result['value'], _kind(result)
    names = _names(result)
    if kind == 'choices':
        picture.labels = (*picture.labels, *map(out.label, names))
        out.several = out.several or len(names) > 1
        return
    try:
        shape = _SHAPES.get(kind) or _SHAPES.get(f'{kind}labels')
        if shape is None:
            raise ValueError(f'{kind} is neither a box, a polygon, an ellipse nor a mask')
        if len(names) != 1:
            raise ValueError(f'it has {len(names)} classes ({", ".join(names)}) in place of one' if names else
                             'it has no class')
        box, segmentation = shape(value, result, picture)
        out.add(picture, out.label(names[0]), box, segmentation)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        out.note('malformed', f'{where} is no object: {error}', picture.path, done='left out')


def _scale(result: Mapping[str, Any], picture: Picture) -> np.ndarray:
    """Pixels a per cent, across and down."""
    return np.array([result.get('original_width') or picture.width,
                     result.get('original_height') or picture.height]) / 100


def _box(value: Mapping[str, Any], result: Mapping[str, Any], picture: Picture) -> tuple[Any, Any]:
    scale = _scale(result, picture)
    left, top = np.array([value['x'], value['y']], float) * scale
    right, bottom = (left, top) + np.array([value['width'], value['height']], float) * scale
    if value.get('rotation'):
        return None, [turned_box(left, top, right, bottom, value['rotation'])]
    return (left, top, right, bottom), None


def _polygon(value: Mapping[str, Any], result: Mapping[str, Any], picture: Picture) -> tuple[Any, Any]:
    points = np.array(value['points'], float) * _scale(result, picture)
    if len(points) < 3:
        raise ValueError(f'{len(points)} points')
    return None, [points.reshape(-1).tolist()]


def _ellipse(value: Mapping[str, Any], result: Mapping[str, Any], picture: Picture) -> tuple[Any, Any]:
    scale = _scale(result, picture)
    x, y = np.array([value['x'], value['y']], float) * scale
    radius_x, radius_y = np.array([value['radiusX'], value['radiusY']], float) * scale
    return None, [ellipse(x, y, radius_x, radius_y, value.get('rotation') or 0)]


def _brush(value: Mapping[str, Any], result: Mapping[str, Any], picture: Picture) -> tuple[Any, Any]:
    height, width = int(result['original_height']), int(result['original_width'])
    # Red, green, blue and alpha; what was painted has alpha.
    mask = unpack(value['rle'], height * width * 4).reshape(height, width, 4)[..., 3] > 0
    rle = encode(mask)
    return rle_box(rle), rle


def unpack(packed: list[int], expected: int) -> np.ndarray:
    """Values that the tool's brush packed: thi.ng's run-length packing, a stream of bits.

    32 bits say how many values there are, 5 how many bits one has less 1, and four times 4 how many bits the four
    lengths of runs have less 1. A chunk then has a bit for "all the same", two bits for which length, its length less
    1, and one value or all of them.

    Source: the description of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack.

    Args:
        packed: Bytes.
        expected: How many values there must be.

    Returns:
        (expected,), uint8.

    Raises:
        ValueError: There are more or fewer.
    """
    bits = np.unpackbits(np.array(packed, np.uint8))
    position = 0

    def take(count: int) -> int:
        nonlocal position
        number = 0
        for bit in bits[position:position + count]:
            number = 2 * number + int(bit)
        position += count
        return number

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total != expected:
        raise ValueError(f'the brush has {total} values in place of {expected}')
    values = np.empty(total, np.uint8)
    done = 0
    while done < total:
        if position >= len(bits):
            raise ValueError(f'the brush ends after {done} of {total} values')
        same = take(1)
        count = take(lengths[take(2)]) + 1
        if same:
            values[done:done + count] = take(word)
        else:
            values[done:done + count] = [take(word) for _ in range(count)]
        done += count
    return values


_SHAPES = dict(rectanglelabels=_box, polygonlabels=_polygon, ellipselabels=_ellipse, brushlabels=_brush)
