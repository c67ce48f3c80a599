"""What of a config and its data would go wrong, by looking at both."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmengine import fileio
from mmengine.config import Config

from ...data.own.records import OwnData
from ...run.config import evaluators, loaders, type_name
from ..report import Files, Finding
from .datasets import Items

__all__ = ['listed', 'of_classes', 'of_evaluators', 'of_learning_rate', 'of_memory', 'of_objects']

# Beyond this, whatever the batch.
_HIGHEST_RATES = {'Adam': 0.01, 'AdamW': 0.01, 'Lamb': 0.05, 'SGD': 2.0}
_FAR = 4
# Numbers of the shortest outline, a triangle.
_CORNERS = 6
_NAMED = 5
_MOST_LABEL_MAPS = 1000
# In bytes; a larger one takes minutes.
_LARGEST_FILE = 300_000_000


def listed(names: Sequence[Any]) -> str:
    """The first few of some names."""
    return ', '.join(map(repr, names[:_NAMED])) + (f' and {len(names) - _NAMED} more' if len(names) > _NAMED else '')


def of_classes(data: OwnData, files: Files) -> Iterator[Finding]:
    """Classes that are in one split only, or in none.

    Args:
        data: The data.
        files: What reads its label maps, of which so many are read that it takes some seconds.
    """
    found: dict[str, set[int]] = {}
    maps = [picture for picture in data.pictures if picture.label_map]
    for picture in data.pictures:
        found.setdefault(str(picture.split), set()).update(
            picture.labels, (annotation.label for annotation in picture.annotations if not annotation.crowd),
            files.pixels(picture) if picture.label_map and len(maps) <= _MOST_LABEL_MAPS else ())
    trained = found.get('train', set())
    if not data.classes or not trained or len(maps) > _MOST_LABEL_MAPS:
        return
    whole = len(data.classes)
    for split in ('val', 'test'):
        only = _named(data, found.get(split, set()) - trained)
        if only:
            yield Finding('warning', f'In {split} and not in train: {len(only)} of the {whole} classes '
                          f'({listed(only)}), which cannot be learned; split the data anew, or leave them out.')
    never = _named(data, set(range(whole)).difference(*found.values()))
    if never:
        yield Finding('note', f'In no picture: {len(never)} of the {whole} classes ({listed(never)}).')
    unseen = _named(data, trained - found['val']) if 'val' in found else []
    if unseen:
        yield Finding('note', f'In train and not in val: {len(unseen)} of the {whole} classes ({listed(unseen)}): how '
                      'well they are learned will not be measured.')


def _named(data: OwnData, labels: set[int]) -> list[str]:
    return [name for label, name in enumerate(data.classes) if label in labels]


def of_evaluators(cfg: Config, parts: Sequence[Items]) -> Iterator[Finding]:
    """Metrics that read another annotation file than the data set that they measure on.

    Args:
        cfg: The config.
        parts: The data sets of all splits.
    """
    for split in ('val', 'test'):
        datasets = [part for part in parts if part.split == split]
        files = {_normal(part.dataset.ann_file) for part in datasets if isinstance(
            getattr(part.dataset, 'ann_file', None), str) and part.dataset.ann_file}
        for metric in evaluators(cfg, split):
            path = metric.get('ann_file')
            if not isinstance(path, str) or not files or _normal(path) in files or len(datasets) > 1:
                continue
            yield from _of_other_file(f'{split}_evaluator.ann_file', path, metric, datasets[0])


def _normal(path: str) -> str:
    return path if '://' in path else os.path.realpath(path)


def _of_other_file(key: str, path: str, metric: Mapping[str, Any], part: Items) -> Iterator[Finding]:
    own = part.dataset.ann_file
    way_out = f'set {key} to {own!r}.'
    if '://' not in path and not os.path.exists(path):
        yield Finding('error', f'{key} names {path}, which does not exist, and the data set reads {own}: {way_out}')
        return
    content = _content(path, metric.get('backend_args'))
    if content is None:
        yield Finding('warning', f'{key} names {path}, and the data set reads {own}: if these are of other pictures, '
                      f'{way_out}')
        return
    there = {image.get('id'): str(image.get('file_name') or image.get('coco_url') or '')
             for image in content['images']}
    infos = {info['img_id']: str(info.get('img_path')) for info in part.infos() if 'img_id' in info}
    other = [path for number, path in infos.items()
             if os.path.basename(there.get(number, '')) != os.path.basename(path)]
    names = {category.get('name') for category in content.get('categories') or ()}
    missing = [name for name in part.classes if name not in names]
    more = len(there.keys() - infos.keys())
    if other:
        yield Finding('error', f'{key} names {path}, which lacks {len(other)} of the {len(infos)} pictures of the data '
                      f'set, such as {other[0]}, so its results would mean nothing: {way_out}')
    elif missing and names:
        yield Finding('error', f'{key} names {path}, which lacks {len(missing)} classes of the data set: '
                      f'{listed(missing)}: {way_out}')
    elif more:
        yield Finding('warning', f'{key} names {path}, which has {more} pictures that the data set lacks, whose '
                      f'objects count as missed: {way_out}')


def _content(path: str, backend_args: Any) -> Mapping[str, Any] | None:
    """A file in COCO's form; nothing where it is in another, or too large to be read for this."""
    with contextlib.suppress(OSError):
        if os.path.getsize(path) > _LARGEST_FILE:
            return None
    try:
        content = fileio.load(path, backend_args=backend_args)
    # Whatever reads it raises what it likes.
    except Exception:
        return None
    return content if isinstance(content, Mapping) and isinstance(content.get('images'), list) else None


def of_objects(part: Items) -> Iterator[Finding]:
    """Objects that a data set leaves out without a word, and data to detect objects that has none.

    mmdet passes over boxes that are empty, less than a pixel wide or high, or outside their picture.

    Args:
        part: A data set.
    """
    loaded = {info['img_id']: len(info['instances']) for info in part.infos()
              if 'instances' in info and 'img_id' in info}
    path = getattr(part.dataset, 'ann_file', None)
    listed_there = None
    if loaded and hasattr(part.dataset, 'cat_ids') and isinstance(path, str) and path.endswith('.json'):
        content = _content(path, getattr(part.dataset, 'backend_args', None)) or {}
        yield from _of_entries(part, path, content)
        listed_there = sum(each.get('image_id') in loaded and each.get('category_id') in set(part.dataset.cat_ids)
                           for each in content.get('annotations') or () if not each.get('ignore'))
    yield from _of_other_names(part)
    told = 'boxes that are empty, less than a pixel wide or high, or outside their picture: correct them there.'
    if listed_there and not any(loaded.values()):
        yield Finding('error', f'{part.key} leaves out all {listed_there} objects of {path}, {told}')
    elif listed_there and listed_there > sum(loaded.values()):
        yield Finding('warning', f'{part.key} leaves out {listed_there - sum(loaded.values())} of the {listed_there} '
                      f'objects of {path}, {told}')


def _of_other_names(part: Items) -> Iterator[Finding]:
    """Objects in XML whose names are no classes, which may be meant so, or be slips."""
    files = [str(info['xml_path']) for info in part.infos() if info.get('xml_path')]
    if not part.classes or not files:
        return
    found = Counter[str]()
    for file in files[:_MOST_LABEL_MAPS]:
        root = ElementTree.fromstring(fileio.get_text(file, backend_args=getattr(part.dataset, 'backend_args', None)))
        found.update(str(name.text) for name in root.iterfind('object/name') if name.text not in part.classes)
    if found:
        yield Finding('note', f'{part.key} leaves out {found.total()} objects, whose names are none of its classes '
                      f'({listed(list(found))}).')


def _plain(value: Any) -> Any:
    """A value that can be looked up, whatever stands in a file."""
    return value if isinstance(value, (int, float, str)) else repr(value)


def _of_entries(part: Items, path: str, content: Mapping[str, Any]) -> Iterator[Finding]:
    """Annotations in COCO's form that mmdet passes over, and outlines that it takes for none."""
    entries = [each for each in content.get('annotations') or () if isinstance(each, Mapping)]
    for key, table in (('category_id', 'categories'), ('image_id', 'images')):
        there = {_plain(row.get('id')) for row in content.get(table) or () if isinstance(row, Mapping)}
        unknown = [each.get(key) for each in entries if key in each and _plain(each[key]) not in there] if there else []
        if unknown:
            yield Finding('warning', f'{part.key} leaves out {len(unknown)} of the {len(entries)} objects of {path}, '
                          f'whose {key} is not in its {table} ({listed(list(dict.fromkeys(unknown)))}): correct them '
                          'there.')
    outlines = [each for each in entries if isinstance(each.get('segmentation'), list) and any(
        not isinstance(part, list) or len(part) < _CORNERS or len(part) % 2 for part in each['segmentation'])]
    if outlines:
        yield Finding('warning', f'{part.key}: {len(outlines)} of the {len(entries)} objects of {path} have an outline '
                      f'of fewer than three points, or of half a point, such as that with id {outlines[0].get("id")}: '
                      'mmdet trains no mask on them; correct them there.')
    if entries and all(each.get('iscrowd') for each in entries):
        yield Finding('warning', f'{part.key}: every object of {path} is a crowd (iscrowd=1), on which nothing is '
                      'trained: correct them there.')


def of_learning_rate(cfg: Config, batch_size: int | None) -> Iterator[Finding]:
    """A learning rate far from what its batch size asks for.

    Args:
        cfg: The config.
        batch_size: Of one process in training.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') if isinstance(wrapper, Mapping) else None
    rate = optimizer.get('lr') if isinstance(optimizer, Mapping) else None
    if not isinstance(rate, (int, float)):
        return
    if rate <= 0:
        yield Finding('error', f'optim_wrapper.optimizer.lr is {rate}: nothing would be learned; set it above 0.')
        return
    highest = _HIGHEST_RATES.get(type_name(optimizer))
    if highest and rate > highest:
        yield Finding('warning', f'optim_wrapper.optimizer.lr is {rate:g}, far above what {type_name(optimizer)} is '
                      f'used with (up to about {highest:g}): the loss may grow without bound.')
    scale = cfg.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    if not base or not batch_size or scale.get('enable'):
        return
    whole = batch_size * int(wrapper.get('accumulative_counts', 1))
    ratio = whole / base
    if ratio > _FAR or ratio < 1 / _FAR:
        yield Finding('warning', f'optim_wrapper.optimizer.lr={rate:g} is meant for {base} pictures a step '
                      f'(auto_scale_lr.base_batch_size), and one process takes {whole}: train with --auto-scale-lr, '
                      f'which makes it {rate * ratio:.2g}, or on {max(1, round(1 / ratio))} GPUs.' if ratio < 1 else
                      f'optim_wrapper.optimizer.lr={rate:g} is meant for {base} pictures a step, and one process takes '
                      f'{whole}: train with --auto-scale-lr, which makes it {rate * ratio:.2g}.')


def of_memory(cfg: Config, data: OwnData) -> Iterator[Finding]:
    """Pictures that the workers of the data loaders could not hold at once."""
    largest = max(data.pictures, key=lambda picture: picture.height * picture.width, default=None)
    available = _available_memory()
    if largest is None or available is None:
        return
    for loader in loaders(cfg, 'train'):
        workers = int(loader.get('num_workers') or 0)
        held = int(loader.get('batch_size') or 1) * max(1, workers * int(loader.get('prefetch_factor') or 2))
        # Of three channels, once as 8 bits and once as floating-point numbers.
        needed = held * largest.height * largest.width * 3 * 5
        if needed > available:
            yield Finding('warning', f'{largest.path} has {largest.width} × {largest.height} pixels: {held} of this '
                          f'size, as many as train_dataloader holds at a time, need about {needed / 1e9:.0f} GB, and '
                          f'{available / 1e9:.0f} GB are free: lower num_workers, or save the pictures smaller.')


def _available_memory() -> int | None:
    """Free memory in bytes, where the system tells."""
    with_pages = Path('/proc/meminfo')
    if with_pages.is_file():
        for line in with_pages.read_text().splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    return None
