"""What is seen of pictures when each is decoded once: damage, form, and what tells equal ones."""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import imagehash
import numpy as np
from PIL import Image

from ...progress import track
from ..headers import large_pictures

__all__ = ['Look', 'equal_pictures', 'look_at']

_SIDE = 16
# A picture of 100 megapixels takes 300 MB.
_MOST_AT_ONCE = 8
# Two pictures are nearly equal where no more than so many of the 64 bits of their hashes differ …
_MOST_BITS = 6
_BANDS = _MOST_BITS + 1
# … and their greys, shrunk to 16 × 16 and brought to one mean and spread, differ by less than that a pixel.
_MOST_DIFFERENCE = 0.2
# OpenCV knows others by how it was built, and of TIFF not all kinds: those of 32 bits are none of colour to it.
_SURELY_LOADABLE = ('BMP', 'JPEG', 'MPO', 'PNG')


class Look(NamedTuple):
    """A decoded picture."""

    #: SHA-256 of the file.
    digest: str = ''
    #: Perceptual hash, 64 bits.
    hash: int = 0
    #: (16, 16) float32, greys of mean 0 and spread 1.
    thumbnail: np.ndarray | None = None
    #: Pillow's name for channels and depth.
    mode: str = ''
    #: What is wrong with the file.
    damage: str = ''
    #: Whether OpenCV decodes it too, with which the libraries load pictures.
    loadable: bool = True


def look_at(paths: Sequence[Path]) -> dict[Path, Look]:
    """Decode pictures on all cores, with a progress bar; what was seen before is remembered.

    Args:
        paths: The pictures.

    Returns:
        What each looks like, in the given order.
    """
    # Pillow lets go of Python's lock where it decodes.
    workers = min(os.cpu_count() or 1, _MOST_AT_ONCE)
    with large_pictures(), warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter('ignore')
        looks = pool.map(_look_again, paths)
        return dict(zip(paths, track(looks, 'Looking at the pictures', len(paths))))


def _look_again(path: Path) -> Look:
    try:
        stat = path.stat()
    except OSError as error:
        return Look(damage=f'cannot be opened: {error.strerror}')
    return _look(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=200_000)
def _look(path: Path, changed: int, size: int) -> Look:
    try:
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest() if hasattr(hashlib, 'file_digest') else \
                hashlib.sha256(file.read()).hexdigest()
        with Image.open(path) as image:
            mode, surely = image.mode, image.format in _SURELY_LOADABLE
            if image.format == 'MPO' or image.format == 'JPEG':
                # Decoded at a fraction of its size; the end of the file is read all the same.
                image.draft('L', (256, 256))
            image.load()
            grey = _grey(image)
    except MemoryError:
        raise
    except Exception as error:  # decoders of many formats raise what they like
        return Look(damage=f'cannot be decoded to its end: {error}')
    small = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    bits = imagehash.phash(grey).hash.reshape(-1)
    spread = max(float(small.std()), 1.0)
    return Look(digest, int(np.packbits(bits).view('>u8')[0]), (small - small.mean()) / spread, mode,
                loadable=surely or _opencv_decodes(path))


def _opencv_decodes(path: Path) -> bool:
    try:
        return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None
    except (OSError, cv2.error):
        return False


def _grey(image: Image.Image) -> Image.Image:
    """In 8 bits; deeper pictures are scaled by their own range."""
    if image.mode.startswith(('I', 'F')):
        values = np.nan_to_num(np.asarray(image, np.float32))
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8))
    return image.convert('L')


def equal_pictures(looks: dict[Path, Look]) -> Iterator[tuple[Path, Path, bool]]:
    """Pairs of pictures that are equal or nearly so.

    Args:
        looks: As :func:`look_at` gives them.

    Yields:
        A picture, an earlier one that it equals, and whether to the byte. Chains are given link by link, so that a
        picture that many equal does not stand beside each of them.
    """
    first: dict[str, Path] = {}
    rest = []
    for path, look in looks.items():
        if not look.digest:
            continue
        if look.digest in first:
            yield path, first[look.digest], True
        else:
            first[look.digest] = path
            rest.append(path)
    tables: list[dict[int, list[Path]]] = [defaultdict(list) for _ in range(_BANDS)]
    for path in rest:
        look = looks[path]
        near = {other for table, band in zip(tables, _bands(look.hash)) for other in table.get(band, ())}
        found = [other for other in near if _alike(look, looks[other])]
        if found:
            yield path, min(found), False
        # One of a chain stands for the others that differ in no bit.
        if not any(looks[other].hash == look.hash for other in found):
            for table, band in zip(tables, _bands(look.hash)):
                table[band].append(path)


def _bands(bits: int) -> Iterable[int]:
    """The hash in parts: where at most so many bits differ, at least one part is equal."""
    width = -(-64 // _BANDS)
    return [bits >> (width * number) & ((1 << width) - 1) for number in range(_BANDS)]


def _alike(one: Look, other: Look) -> bool:
    if (one.hash ^ other.hash).bit_count() > _MOST_BITS or one.thumbnail is None or other.thumbnail is None:
        return False
    return float(np.abs(one.thumbnail - other.thumbnail).mean()) < _MOST_DIFFERENCE
