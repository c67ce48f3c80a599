"""Pascal VOC's lists of the pictures of each split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from ...pictures import IMAGE_ENDINGS
from .folder import Folder, read_text, split_of

__all__ = ['image_sets', 'split_in']


def image_sets(folder: Folder, kind: str) -> dict[str, str]:
    """The split of each picture, as ``ImageSets/Main/train.txt`` and the like tell.

    Args:
        folder: The files.
        kind: The folder of lists that counts where it is there, such as ``'Main'`` or ``'Segmentation'``, whose
            pictures are split otherwise; else all of them.

    Returns:
        Name of a picture without ending, perhaps with folders before it, to split.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in folder.ending('.txt'):
        split = split_of([path.stem])
        if split and 'ImageSets' in path.parts:
            # Lists of a class have 1, 0 or -1 behind the name.
            lines = (re.sub(r'\s{2,}[01]$|\s+-1$', '', line.strip()) for line in read_text(path).splitlines())
            names = (line.rpartition('.')[0] if line.lower().endswith((*IMAGE_ENDINGS, '.xml')) else line
                     for line in lines)
            found[path.parent.name].update(dict.fromkeys(filter(None, names), split))
    return found[kind] or {name: split for lists in found.values() for name, split in lists.items()}


def split_in(sets: Mapping[str, str], path: Path) -> str | None:
    """The split of a file by its name without ending, with as many of its folders as the lists have."""
    parts = path.with_suffix('').parts
    names = ('/'.join(parts[-count:]) for count in range(min(len(parts), 4), 0, -1))
    return next((sets[name] for name in names if name in sets), None)
