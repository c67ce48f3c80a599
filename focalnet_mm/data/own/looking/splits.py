"""Training, validation and test pictures."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..label_maps import labels_of
from ..records import SPLITS, OwnData, Picture, Problem
from .looks import equal_pictures, look_at

__all__ = ['find_groups', 'read_split', 'split_data', 'write_split']

# Of fewer, one would be all that is validated on, or a kind of picture that is never trained on.
_FEWEST_GROUPS = 4
_HEADINGS = ('picture', 'split', 'group')
# video1_0001, patient12-frame-3, IMG_2041: what comes before the last number.
_NUMBERED = re.compile(r'(.*?)[\s_.-]*(?:frame|img|image|slice|tile)?[\s_.-]*\d+$', re.IGNORECASE)

# Roboflow's name of a picture: that of the source, of which it makes several by augmentation, and a hash.
_AUGMENTED = re.compile(r'(.+?)(?:_(?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9a-z]{16,}', re.IGNORECASE)


def find_groups(data: OwnData) -> dict[Path, str]:
    """The group of each picture, told by its folder or by its name before a number.

    Folders count where there are several with several pictures each, else names do. A way of grouping that puts most
    pictures into one group, or each class into a group of its own, tells classes or nothing and is passed by. What
    Roboflow made of one picture is a group at least.

    Args:
        data: The data.

    Returns:
        Groups by path; none where nothing shows groups.
    """
    folders = {picture.path: _relative(data, picture.path).rpartition('/')[0] for picture in data.pictures}
    names: dict[Path, str] = {}
    sources: dict[Path, str] = {}
    for path, folder in folders.items():
        copy = _AUGMENTED.fullmatch(path.stem)
        sources[path] = f'{folder}/{copy[1] if copy else path.stem}'.lstrip('/')
        found = _NUMBERED.fullmatch(copy[1] if copy else path.stem)
        names[path] = f'{folder}/{found[1]}'.lstrip('/') if found and found[1] else ''
    for groups in (folders, names):
        if _are_groups(data, groups):
            return groups
    copies = any(_AUGMENTED.fullmatch(path.stem) for path in sources)
    return sources if copies and len(set(sources.values())) < len(sources) else {}


def _are_groups(data: OwnData, groups: dict[Path, str]) -> bool:
    sizes = Counter(groups.values())
    if len(sizes) < 2 or '' in groups.values() or 2 * max(sizes.values()) > len(groups) + 1 or max(sizes.values()) < 2:
        return False
    labels = defaultdict(set)
    for picture in data.pictures:
        labels[groups[picture.path]].update(labels_of(data, picture))
    single = [next(iter(found)) for found in labels.values() if len(found) == 1]
    return not (len(data.classes) > 1 and len(single) == len(labels) and len(set(single)) == len(data.classes))


def _relative(data: OwnData, path: Path) -> str:
    return path.relative_to(data.root).as_posix() if path.is_relative_to(data.root) else path.as_posix()


def split_data(data: OwnData, val: float = 0.2, test: float = 0.0, seed: int = 0) -> None:
    """Give a split to what has none.

    Groups, told by folders or file names, and pictures that are equal or nearly so stay on one side. Each class gets
    its share of each split as far as that allows. Data without any split is split as a whole; of data with training
    pictures alone, validation pictures are split off; what has training and validation pictures is left alone, but for
    pictures without split, which become training pictures.

    Args:
        data: The data; ``split`` and ``group`` of its pictures are set.
        val: Share of validation pictures, 0 to 1. At least one picture where it is above 0.
        test: Share of test pictures, the same.
        seed: The same seed gives the same split, whatever the order of the pictures.

    Raises:
        ValueError: A share is out of range, or there are too few pictures.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise ValueError(f'val and test must be shares of 0 to 1 that leave some for training, got {val} and {test}.')
    found = Counter(picture.split for picture in data.pictures)
    if found['train'] and found['val'] and not found[None]:
        return
    if len(found) == 1 and None not in found and 'train' not in found:
        data.problems.append(Problem('one_part', f'all {len(data.pictures)} pictures are in {next(iter(found))}: they '
                                     'are split anew', done='mended'))
        for picture in data.pictures:
            picture.split = None
        found.clear()
    # What the data has already is not drawn again: test pictures stay apart, validation pictures too.
    shares = {split: share for split, share in (('val', val), ('test', test)) if share > 0 and not found[split]}
    shares = dict(train=1 - sum(shares.values()), **shares)
    pictures = sorted((picture for picture in data.pictures if picture.split in (None, 'train')), key=_path)
    units = _units(data, pictures, len(shares))
    if len(units) < len(shares):
        raise ValueError(f'{len(pictures)} pictures, of which {len(units)} differ, cannot be split into '
                         f'{" and ".join(shares)}: add pictures, or set the shares of some splits to 0.')
    counts = [Counter(label for picture in unit for label in labels_of(data, picture)) for unit in units]
    chosen = _stratify([len(unit) for unit in units], counts, list(shares.values()), np.random.default_rng(seed))
    for unit, number in zip(units, chosen):
        for picture in unit:
            picture.split = list(shares)[number]


def _path(picture: Picture) -> str:
    return os.fspath(picture.path)


def _units(data: OwnData, pictures: Sequence[Picture], least: int) -> list[list[Picture]]:
    """What stays on one side: pictures of a group, and those that are alike, in order of their paths."""
    groups = find_groups(data)
    for picture in data.pictures:
        picture.group = groups.get(picture.path, picture.group)
    pairs = list(equal_pictures(look_at([picture.path for picture in pictures if picture.height])))
    exact = [(one, other) for one, other, same in pairs if same]
    alike = [(one, other) for one, other, _ in pairs]
    largest = max(map(len, _join(pictures, alike, {})), default=0)
    if len(pairs) > len(exact) and 2 * largest > len(pictures) and largest > 2:
        data.problems.append(Problem('groups', f'{largest} of {len(pictures)} pictures look so alike that only those '
                                     'that are equal to the byte are kept on one side'))
        alike = exact
    if groups and len(set(groups.values())) < max(_FEWEST_GROUPS, least):
        example = min(groups.values())
        data.problems.append(Problem('groups', f'{len(set(groups.values()))} groups, of which {example!r} is one, are '
                                     'too few to give each to one side of the split'))
        groups = {}
    return _join(pictures, alike, groups)


def _join(pictures: Sequence[Picture], alike: Sequence[tuple[Path, Path]],
          groups: dict[Path, str]) -> list[list[Picture]]:
    parents = {picture.path: picture.path for picture in pictures}

    def root(path: Path) -> Path:
        while parents[path] != path:
            parents[path] = path = parents[parents[path]]
        return path

    first: dict[str, Path] = {}
    same_group = [(path, first.setdefault(groups[path], path)) for path in parents if path in groups]
    for one, other in (*alike, *same_group):
        parents[root(one)] = root(other)
    units = defaultdict(list)
    for picture in pictures:
        units[root(picture.path)].append(picture)
    return list(units.values())


def _stratify(sizes: Sequence[int], counts: Sequence[Counter[int]], shares: Sequence[float],
              rng: np.random.Generator) -> list[int]:
    """Which split each unit goes to.

    The class that has fewest units left is dealt with first, and each of its units goes where most of the class is
    wanted (Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML 2011, algorithm 1).
    """
    wanted = np.array(shares) / sum(shares) * sum(sizes)
    by_class: dict[int, list[int]] = defaultdict(list)
    for number in rng.permutation(len(sizes)).tolist():
        for label in counts[number] or (-1,):
            by_class[label].append(number)
    wanted_of = {label: np.array(shares) / sum(shares) * sum(counts[number][label] for number in numbers)
                 for label, numbers in by_class.items()}
    chosen = [-1] * len(sizes)
    for label in sorted(by_class, key=lambda label: (label == -1, len(by_class[label]), label)):
        # Large groups first: small ones fill what is left.
        for number in sorted(by_class[label], key=lambda number: -sizes[number]):
            if chosen[number] >= 0:
                continue
            keys = [(round(float(wanted_of[label][split]), 6), round(float(wanted[split]), 6))
                    for split in range(len(shares))]
            chosen[number] = max(range(len(shares)), key=keys.__getitem__)
            wanted[chosen[number]] -= sizes[number]
            for other, count in counts[number].items():
                wanted_of[other][chosen[number]] -= count
    return _fill(chosen, sizes, len(shares))


def _fill(chosen: list[int], sizes: Sequence[int], count: int) -> list[int]:
    """See that no split is empty: the smallest unit of the largest split goes there."""
    for split in range(count):
        if split not in chosen:
            largest = max(set(chosen), key=lambda other: chosen.count(other))
            number = min((number for number, other in enumerate(chosen) if other == largest),
                         key=sizes.__getitem__)
            chosen[number] = split
    return chosen


def write_split(data: OwnData, path: str | os.PathLike) -> None:
    """Write a CSV of ``picture,split,group``, which may be edited by hand; whole or not at all.

    Args:
        data: The data. Pictures are named relative to its root.
        path: Where to.

    Raises:
        FileExistsError: There is a file, with another split.
    """
    path = Path(path)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow(_HEADINGS)
    rows.writerows((_relative(data, picture.path), picture.split or '', picture.group or '')
                   for picture in sorted(data.pictures, key=_path))
    content = text.getvalue().encode('utf-8', 'surrogateescape')
    if os.path.lexists(path):
        if path.is_file() and path.read_bytes() == content:
            return
        raise FileExistsError(f'{path} is there with another split: read it with read_split, or remove it first.')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_split(data: OwnData, path: str | os.PathLike) -> None:
    """Take the splits of a CSV that :func:`write_split` wrote and somebody may have edited.

    Args:
        data: The data; ``split`` and ``group`` of its pictures are set. Pictures that the file does not name get
            none, and a problem says so.
        path: The file.

    Raises:
        ValueError: The file is no such CSV, names a picture that is not in the data, or a split that there is not.
    """
    # A byte order mark is what spreadsheets add.
    text = Path(path).read_bytes().removeprefix(b'\xef\xbb\xbf').decode('utf-8', 'surrogateescape')
    # Spreadsheets write semicolons or tabs where a comma is the decimal sign.
    delimiter = next((sign for sign in ';\t' if sign in text.partition('\n')[0]), ',')
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f'{path} is no CSV that can be read: {error}') from None
    if not rows or not {'picture', 'split'} <= set(rows[0]):
        raise ValueError(f'{path} must begin with the line {",".join(_HEADINGS)} and name a picture a line.')
    pictures = {_relative(data, picture.path): picture for picture in data.pictures}
    found: dict[str, tuple[str | None, str | None]] = {}
    for number, row in enumerate(rows, start=2):
        name, split = row['picture'], (row['split'] or '').strip().casefold()
        if not any((value or '').strip() for value in (name, split, row.get('group'))):
            continue  # spreadsheets leave empty rows at the end
        if name not in pictures:
            raise ValueError(f'{path}, line {number}: {name} is no picture of {data.root}.')
        if split and split not in SPLITS:
            raise ValueError(f'{path}, line {number}: the split {split!r} is none of {", ".join(SPLITS)}.')
        if name in found and found[name][0] != (split or None):
            raise ValueError(f'{path}, line {number}: {name} stands in two splits.')
        found[name] = (split or None, row.get('group') or None)
    for name, picture in pictures.items():
        picture.split, picture.group = found.get(name, (None, None))
    without = [name for name in pictures if name not in found]
    if without:
        data.problems.append(Problem('no_split', f'{Path(path).name} does not name {without[0]}'
                                     + (f' and {len(without) - 1} other pictures' if len(without) > 1 else ''),
                                     pictures[without[0]].path, done='left out'))
