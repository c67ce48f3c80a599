"""Reports without the paths of the machine that they were made on: they are handed on."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ...data.own.records import OwnData
from ...data.pictures import printable

__all__ = ['without_places']


def without_places(contents: dict[str, Any], data: OwnData, folder: Path) -> dict[str, Any]:
    """Contents in which paths start at the data or the report, and of other folders names alone are left.

    Args:
        contents: Of dicts, lists, texts and numbers.
        data: The data set, whose folder and pictures are named in them.
        folder: Where the report lies.
    """
    places = {data.root, folder, Path.cwd(), Path.home(),
              *(picture.path.parent for picture in data.pictures if not picture.path.is_relative_to(data.root))}
    places |= {place.resolve() for place in places}
    known = sorted({printable(os.path.abspath(place)) for place in places} - {'/'}, key=len, reverse=True)
    if not known:
        return contents
    # What comes before is no part of a longer path.
    pattern = re.compile(rf'(?<![\w./-])({"|".join(map(re.escape, known))})(/|(?![\w.-]))')

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items()}
        if isinstance(value, list):
            return [without(each) for each in value]
        if isinstance(value, str):
            return pattern.sub(lambda found: '' if found[2] else os.path.basename(found[1]), value)
        return value
    return without(contents)
