"""Pictures and videos of one's own: found, read and joined."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .made import check_no_source

__all__ = ['Input', 'find_inputs', 'join_pictures', 'left_out', 'printable', 'read_image', 'read_video', 'shown_as',
           'to_bgr', 'unique_names', 'utf8_path']

IMAGE_ENDINGS = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_ENDINGS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')


class Input(NamedTuple):
    """A picture or video."""

    #: The file; a URL as it was named; or the folder of a picture whose channels are files of their own.
    path: Path | str
    #: The path below the folder that was named, or the name of a file that was named itself.
    name: str
    #: The files of the channels, in order, where each is a file of its own.
    channels: tuple[Path, ...] = ()

    @property
    def is_video(self) -> bool:
        return not self.channels and os.path.splitext(self.path)[1].lower() in VIDEO_ENDINGS


def find_inputs(named: Sequence[str | Path], leave_out: Path | None = None, endings: Sequence[str] = (),
                channels_apart: bool = False) -> tuple[list[Input], list[Path]]:
    """Pictures and videos, folders searched with all that is below them.

    Args:
        named: Files, folders and URLs. A file is taken whatever its ending, in a folder those with a known one.
        leave_out: A folder not to search.
        endings: Endings of pictures beside the known ones, such as ``'.npy'``.
        channels_apart: Whether the pictures of a folder are the channels of one picture, in the order of their names,
            in which numbers count as numbers.

    Returns:
        What was found, in order, each with a name of its own; and the files of folders that have another ending, are no
        files but pipes or devices, or belong to a folder that cannot be read.

    Raises:
        FileNotFoundError: A file or folder does not exist, or there is nothing to find.
        ValueError: What was named is a pipe or a device.
    """
    known = {*IMAGE_ENDINGS, *VIDEO_ENDINGS, *(ending.lower() for ending in endings)}
    found: list[Input] = []
    other: list[Path] = []
    for item in named:
        if '://' in str(item):
            found.append(Input(str(item), str(item).rstrip('/').rpartition('/')[2] or 'picture'))
            continue
        path = Path(item)
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist: name pictures, videos or folders of them.')
        if path.is_dir():
            of_folder: list[Path] = []
            for below in _files(path, leave_out.resolve() if leave_out else None):
                taken = below.is_file() and below.suffix.lower() in known
                (of_folder if taken else other).append(below)
            found += [Input(below, str(below.relative_to(path))) for below in of_folder]
        elif path.is_file():
            found.append(Input(path, path.name))
        else:
            raise ValueError(f'{path} is a pipe or a device, which may never end: save what comes out of it as a file.')
    if not found:
        raise FileNotFoundError(f'There is no picture or video in {", ".join(map(str, named))}: known endings are '
                                f'{", ".join(sorted(known))}.')
    if channels_apart:
        found = _joined_channels(found)
    return [item._replace(name=name) for item, name in zip(found, unique_names([item.name for item in found]))], other


def _files(folder: Path, leave_out: Path | None) -> list[Path]:
    """All that is below a folder and is no folder, links followed, each folder once; or a folder that can't be read."""
    found: list[Path] = []
    seen: set[str] = set()
    unreadable: list[OSError] = []
    for root, below, names in os.walk(folder, onerror=unreadable.append, followlinks=True):
        real = os.path.realpath(root)
        if real in seen or (leave_out and Path(real) == leave_out):
            below.clear()
            continue
        seen.add(real)
        found += [Path(root, name) for name in names]
    return sorted(found + [Path(error.filename) for error in unreadable])


def _joined_channels(found: Sequence[Input]) -> list[Input]:
    """A picture a folder, in place of a picture a file."""
    folders: dict[Path, list[Input]] = {}
    joined = []
    for item in found:
        if isinstance(item.path, str) or item.is_video:
            joined.append(item)
        else:
            folders.setdefault(item.path.parent, []).append(item)
    for folder, items in folders.items():
        name = os.path.dirname(items[0].name) or folder.resolve().name or 'picture'
        files = sorted({item.path for item in items if isinstance(item.path, Path)}, key=_natural)
        joined.append(Input(folder, name, tuple(files)))
    return joined


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order of names in which 2 comes before 10."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', path.name)]


def unique_names(names: Sequence[str]) -> list[str]:
    """Relative paths that lead to as many files, on any disk.

    Args:
        names: Relative paths, of which several may be equal, or differ in upper and lower case alone, or be the folder
            of another.

    Returns:
        As many paths in this order, with ``_2``, ``_3`` … before the ending where a path is taken already.
    """
    def key(name: str | Path) -> str:
        return unicodedata.normalize('NFC', str(name)).casefold()

    taken = {key(folder) for name in names for folder in Path(name).parents}
    unique = []
    for name in names:
        (stem, ending), number, candidate = os.path.splitext(name), 2, name
        while key(Path(candidate)) in taken:
            candidate, number = f'{stem}_{number}{ending}', number + 1
        taken.add(key(Path(candidate)))
        unique.append(candidate)
    return unique


def printable(text: object) -> str:
    r"""A text that any UTF-8 stream takes: a byte of a file's name that is no UTF-8 becomes, say, ``\xff``."""
    named = re.sub('[\udc80-\udcff]', lambda byte: f'\\x{ord(byte[0]) - 0xdc00:02x}', str(text))
    return named.encode('utf-8', 'backslashreplace').decode()


def left_out(files: Sequence[Path]) -> str:
    """A line about the files of folders that are no inputs.

    Args:
        files: The second part of what :func:`find_inputs` returns.

    Returns:
        How many they are and the first of their names.
    """
    names = ', '.join(printable(path.name) for path in files[:5])
    return (f'Files of folders that are left out, since their endings are of no picture or video: {len(files)} ({names}'
            f'{" …" if len(files) > 5 else ""})')


@contextlib.contextmanager
def utf8_path(path: str | Path) -> Iterator[str]:
    """The path of a file for OpenCV's video functions, which take UTF-8 alone: otherwise a link to it for the time.

    Args:
        path: The file, which need not be there yet.

    Returns:
        A context that gives the path.
    """
    with contextlib.ExitStack() as stack:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            link = Path(folder, f'film{printable(Path(path).suffix)}')
            link.symlink_to(Path(path).absolute())
            path = link
        yield str(path)


def to_bgr(image: np.ndarray) -> np.ndarray:
    """An image of any channels and depth as it can be looked at.

    Args:
        image: Image (H, W) or (H, W, C) of any numbers, BGR if C is 3 or more.

    Returns:
        BGR image (H, W, 3), uint8: the first three channels, or the first one as grey; see :func:`shown_as`.
    """
    image = image[..., None] if image.ndim == 2 else image
    image = image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, axis=2)
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if _has_8_bits(image):
        return np.ascontiguousarray(image.astype(np.uint8))
    values = image.astype(np.float64)
    finite = values[np.isfinite(values)]
    least, greatest = (finite.min(), finite.max()) if finite.size else (0, 0)
    values = (np.nan_to_num(values, nan=least, posinf=greatest, neginf=least) - least) / ((greatest - least) or 1)
    return np.ascontiguousarray((values * 255).round().astype(np.uint8))


def shown_as(image: np.ndarray) -> str:
    """What :func:`to_bgr` shows of an image, in words; empty where it is a grey or colour picture of 8 bits.

    Args:
        image: Image (H, W) or (H, W, C) of any numbers.
    """
    channels = 1 if image.ndim == 2 else image.shape[2]
    words = [] if channels in (1, 3) else [f'channel 1 of {channels}' if channels == 2 else
                                           f'channels 1 to 3 of {channels}']
    if image.dtype != bool and not _has_8_bits(image[..., :3] if image.ndim == 3 else image):
        words.append(f'each image scaled from its own range ({image.dtype}) to 8 bits')
    return ', '.join(words)


def _has_8_bits(image: np.ndarray) -> bool:
    """Whether values are those of 8 bits, perhaps as floating-point numbers."""
    if image.dtype == np.uint8 or not image.size:
        return True
    return bool(np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and 1 < image.max() <= 255)


def read_image(path: str | Path, turned: bool = True) -> np.ndarray:
    """Read an image of any depth and number of channels; of an animation the first picture.

    Args:
        path: The file.
        turned: Whether it is turned as its EXIF data says.

    Returns:
        BGR image (H, W, 3), uint8.

    Raises:
        ValueError: The file is no image that OpenCV can read.
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    flags = cv2.IMREAD_COLOR if turned else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'{path} ({len(data)} bytes) is damaged or no image that OpenCV can read: save it as PNG or '
                         'JPEG.')
    return image


def read_video(path: str | Path) -> tuple[int, float, Generator[np.ndarray, None, None]]:
    """Open a video.

    Args:
        path: The file.

    Returns:
        The number of frames that it says it has, frames a second, and the frames, BGR images (H, W, 3), uint8.

    Raises:
        ValueError: The file is no video that OpenCV can read.
    """
    with utf8_path(path) as plain:
        capture = cv2.VideoCapture(plain)
    read, first = capture.read()
    if not read:
        raise ValueError(f'{path} is damaged or no video that OpenCV can read: convert it to MP4.')

    def frames() -> Generator[np.ndarray, None, None]:
        frame, more = first, True
        try:
            while more:
                yield frame
                more, frame = capture.read()
        finally:
            capture.release()

    return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS) or 25.0, frames()


def join_pictures(named: Sequence[str | Path], out: str | Path, columns: int = 2, most: int = 8) -> None:
    """Write a grid of pictures.

    Args:
        named: Pictures (.png, .jpg), and folders of them.
        out: The file to write.
        columns: Pictures in a row.
        most: How many pictures at the most.

    Raises:
        ValueError: There is no picture, a number is not positive, or the file has another ending.
        OSError: A picture is missing or is none, or the grid could not be written or would replace one of them.
    """
    for name, value in (('columns', columns), ('most', most)):
        if value < 1:
            raise ValueError(f'{name} must be 1 or more, got {value}.')
    if Path(out).suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        raise ValueError(f'{out} must end in .png or .jpg.')
    paths = []
    for path in map(Path, named):
        paths += sorted(p for p in path.iterdir() if p.suffix in ('.png', '.jpg')) if path.is_dir() else [path]
    check_no_source(out, paths)
    pictures = []
    for path in paths[:most]:
        picture = cv2.imread(str(path))
        if picture is None:
            raise OSError(f'{path} is missing or no picture.')
        pictures.append(picture)
    if not pictures:
        raise ValueError(f'no .png or .jpg in {", ".join(map(str, named))}.')

    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    gap = 8
    rows = -(-len(pictures) // columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        grid[y:y + picture.shape[0], x:x + picture.shape[1]] = picture
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), grid):
        raise OSError(f'{out} could not be written.')
