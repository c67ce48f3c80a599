"""``predictions.json``, written as predictions come."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .classified import Classes, categories

__all__ = ['PredictionsFile']

# A byte of a file's name that is no UTF-8 becomes JSON's own escape of it, from which Python makes the same name again.
_TEXT: dict[str, Any] = dict(encoding='utf-8', errors='backslashreplace', newline='\n')


class PredictionsFile:
    """``predictions.json`` in the form of COCO's results.

    What is added lies in ``predictions.json.part`` at once, a line an image, and in memory not at all.

    Args:
        folder: Where to write; made where it is missing.

    Raises:
        OSError: The folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / 'predictions.json'
        self._part = folder / 'predictions.json.part'
        self._stream = self._part.open('w', **_TEXT)
        #: How many images there are.
        self.images = 0
        #: How many entries they have.
        self.entries = 0

    def add(self, image: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
        """Add an image and what was predicted for it.

        Args:
            image: What is said of the image.
            entries: The predictions; numbers may be NumPy's or PyTorch's. What is not finite becomes ``null``.

        Raises:
            OSError: There is no space, for example.
        """
        line = json.dumps([_plain(image), _plain(entries)], ensure_ascii=False, allow_nan=False)
        try:
            self._stream.write(line + '\n')
            self._stream.flush()
        except OSError as error:
            raise OSError(f'{self._part} could not be written: {error.strerror or error}.') from error
        self.images += 1
        self.entries += len(entries)

    def finish(self, facts: Mapping[str, str], classes: Classes) -> Path:
        """Write the file, of all that was added.

        Args:
            facts: What it says of the model.
            classes: Names of the categories, by number; of several tasks for each.

        Returns:
            Its path.

        Raises:
            OSError: It could not be written: the lines remain.
        """
        new = self._file.with_name('predictions.json.new')
        # What could not be flushed may fail again.
        with contextlib.suppress(OSError):
            self._stream.close()
        try:
            with new.open('w', **_TEXT) as out:
                out.write(f'{{\n"info": {_dumped(facts)},\n"images": [')
                _write_list(out, (image for image, _ in self._lines()))
                out.write('],\n"categories": [')
                _write_list(out, categories(classes))
                out.write('],\n"annotations": [')
                _write_list(out, (entry for _, entries in self._lines() for entry in entries))
                out.write(']\n}\n')
            os.replace(new, self._file)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise OSError(f'{self._file} could not be written: {error.strerror or error}. What was found of '
                          f'{self.images} images is in {self._part}, an image a line.') from error
        self._part.unlink()
        return self._file

    def _lines(self) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        with self._part.open(encoding='utf-8') as stream:
            # A line after the last is one that could not be written to its end.
            for _, line in zip(range(self.images), stream):
                yield json.loads(line)


def _write_list(out: Any, items: Iterator[Any]) -> None:
    for i, item in enumerate(items):
        out.write(f'{"," * (i > 0)}\n {_dumped(item)}')


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    # Of NumPy or PyTorch.
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
