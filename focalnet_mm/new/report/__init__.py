"""What is in one's own data, as a page that opens from disk and as JSON."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...data.made import files_below, replace_made, write_marker
from ...data.own.records import OwnData
from ...data.pictures import printable
from .checked import Checked, Finding, View, curve_of
from .contents import Album, contents_of
from .places import without_places
from .sources import Files

__all__ = ['Checked', 'Files', 'Finding', 'View', 'write_report']

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                         trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
_TEMPLATES.globals['curve_of'] = curve_of
# Lists the files of a report, so that none of the user's is taken for one.
_MARKER = '.report.json'
_VERSION = 1


def write_report(data: OwnData, folder: Path, tell: Callable[[str], None] = print, *,
                 files: Files | None = None, checked: Checked | None = None) -> Path:
    """Write ``report.html``, and beside it ``report.json`` and the folder ``report`` with the pictures of the page.

    Args:
        data: The data set, with its splits and problems.
        folder: Where to write; made where it is missing. A report that is there is replaced, all else stays.
        tell: Takes lines about what was left out.
        files: What reads pictures and label maps; by default the files that the data set names.
        checked: What was found of a config that reads the data.

    Returns:
        The path of the page.

    Raises:
        FileExistsError: A file that no report has written is in the way; nothing was changed.
        OSError: The folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix='.report', dir=folder))
    try:
        (partial / 'report').mkdir()
        album = Album(partial / 'report')
        # First, since it is what a check is for, and its pictures are few.
        check = checked.contents(album) if checked else None
        # What a check has found names paths as they are to be written into the config.
        contents: dict[str, Any] = dict(
            without_places(contents_of(data, album, files or Files(data), tell), data, folder), check=check)
        text = json.dumps(contents, ensure_ascii=False, indent=1, allow_nan=False)
        (partial / 'report.json').write_text(text + '\n', encoding='utf-8')
        title = f'What is in {printable(data.root.name or data.root)}' if check is None else (
            f'{printable(Path(check["config"]).name)} and its data')
        page = _TEMPLATES.get_template('page.html').render(title=title, data=contents)
        (partial / 'report.html').write_text(page, encoding='utf-8')
        write_marker(partial / _MARKER, dict(version=_VERSION), files_below(partial))
        replace_made(folder, partial, _MARKER)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / 'report.html'
