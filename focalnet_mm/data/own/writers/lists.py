"""Lists of pictures with their classes, as mmpretrain reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records import OwnData, Picture

__all__ = ['check_line', 'write_classes', 'write_labels']


def write_classes(data: OwnData, pictures: Sequence[Picture], root: Path, folder: Path,
                  split: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Write ``SPLIT.txt``, a line ``path label`` for each picture.

    Returns:
        The list below the folder, ``data_prefix`` and further arguments of ``CustomDataset``.

    Raises:
        ValueError: A picture has no class.
    """
    lines = []
    for picture in pictures:
        _check_label(picture)
        lines.append(f'{check_line(picture.path.relative_to(root).as_posix(), picture.path)} {picture.labels[0]}\n')
    (folder / f'{split}.txt').write_text(''.join(lines), encoding='utf-8')
    return f'{split}.txt', dict(img_path=''), {}


def write_labels(data: OwnData, pictures: Sequence[Picture], root: Path, folder: Path,
                 split: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Write ``SPLIT.json`` in OpenMMLab's form.

    Returns:
        The file below the folder, ``data_prefix`` and further arguments of ``MultiLabelDataset``.
    """
    entries = [dict(img_path=picture.path.relative_to(root).as_posix(), gt_label=list(picture.labels))
               for picture in pictures]
    content = dict(metainfo=dict(classes=data.classes), data_list=entries)
    (folder / f'{split}.json').write_text(json.dumps(content), encoding='utf-8')
    return f'{split}.json', dict(img_path=''), {}


def _check_label(picture: Picture) -> None:
    if not picture.labels:
        raise ValueError(f'{picture.path} has no class: leave such pictures out with --fix no_label.')


def check_line(name: str, path: Path) -> str:
    """A name that the libraries read from a line of a list, in UTF-8 and without blanks at its ends, as it is.

    Raises:
        ValueError: They could not.
    """
    if name != name.strip() or len(name.splitlines()) > 1 or not _is_utf8(name):
        shown = os.fspath(path).encode('utf-8', 'backslashreplace').decode()
        raise ValueError(f'The libraries read names of pictures from lists, in which {shown} cannot stand: rename '
                         'it, without line breaks, blanks at its ends and bytes that are not UTF-8.')
    return name


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
