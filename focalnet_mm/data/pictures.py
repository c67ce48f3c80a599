"""Pictures and videos of one's own: found, read and joined."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

__all__ = ['Input', 'find_inputs', 'join_pictures', 'left_out', 'read_image', 'read_video']

IMAGE_ENDINGS = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_ENDINGS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')


class Input(NamedTuple):
    """A picture or video."""

    path: Path
    #: The path below the folder that was named, or the name of a file that was named itself.
    name: str

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_ENDINGS


def find_inputs(named: Sequence[str | Path], leave_out: Path | None = None) -> tuple[list[Input], list[Path]]:
    """Pictures and videos, folders searched with all that is below them.

    Args:
        named: Files and folders. A file is taken whatever its ending, in a folder those with a known one.
        leave_out: A folder not to search.

    Returns:
        What was found, in order, each with a name of its own; and the files of folders that have another ending.

    Raises:
        FileNotFoundError: A file or folder does not exist, or there is nothing to find.
    """
    found: list[Input] = []
    other: list[Path] = []
    leave_out = leave_out.resolve() if leave_out else None
    for item in map(Path, named):
        if not item.exists():
            raise FileNotFoundError(f'{item} does not exist: name pictures, videos or folders of them.')
        if not item.is_dir():
            found.append(Input(item, item.name))
            continue
        for path in sorted(path for path in item.rglob('*') if path.is_file()):
            if leave_out and leave_out in path.resolve().parents:
                continue
            if path.suffix.lower() in (*IMAGE_ENDINGS, *VIDEO_ENDINGS):
                found.append(Input(path, str(path.relative_to(item))))
            else:
                other.append(path)
    if not found:
        raise FileNotFoundError(f'There is no picture or video in {", ".join(map(str, named))}: known endings are '
                                f'{", ".join((*IMAGE_ENDINGS, *VIDEO_ENDINGS))}.')
    taken: set[str] = set()
    for i, (path, name) in enumerate(found):
        number, unique = 2, name
        while unique in taken:
            unique, number = f'{os.path.splitext(name)[0]}_{number}{path.suffix}', number + 1
        taken.add(unique)
        found[i] = Input(path, unique)
    return found, other


def left_out(files: Sequence[Path]) -> str:
    """A line about the files of folders that are no inputs.

    Args:
        files: The second part of what :func:`find_inputs` returns.

    Returns:
        How many they are and the first of their names.
    """
    names = ', '.join(path.name for path in files[:5])
    return (f'Files of folders that are left out, since their endings are of no picture or video: {len(files)} ({names}'
            f'{" …" if len(files) > 5 else ""})')


def read_image(path: str | Path) -> np.ndarray:
    """Read an image of any depth and number of channels; of an animation the first picture.

    Args:
        path: The file.

    Returns:
        BGR image (H, W, 3), uint8, turned as its EXIF data says.

    Raises:
        ValueError: The file is no image that OpenCV can read.
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f'{path} ({len(data)} bytes) is damaged or no image that OpenCV can read: save it as PNG or '
                         'JPEG.')
    return image


def read_video(path: str | Path) -> tuple[int, float, Iterator[np.ndarray]]:
    """Open a video.

    Args:
        path: The file.

    Returns:
        The number of frames that it says it has, frames a second, and the frames, BGR images (H, W, 3), uint8.

    Raises:
        ValueError: The file is no video that OpenCV can read.
    """
    capture = cv2.VideoCapture(str(path))
    read, first = capture.read()
    if not read:
        raise ValueError(f'{path} is damaged or no video that OpenCV can read: convert it to MP4.')

    def frames() -> Iterator[np.ndarray]:
        frame, more = first, True
        while more:
            yield frame
            more, frame = capture.read()
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
        OSError: A picture is missing or is none, or the grid could not be written.
    """
    for name, value in (('columns', columns), ('most', most)):
        if value < 1:
            raise ValueError(f'{name} must be 1 or more, got {value}.')
    if Path(out).suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        raise ValueError(f'{out} must end in .png or .jpg.')
    paths = []
    for path in map(Path, named):
        paths += sorted(p for p in path.iterdir() if p.suffix in ('.png', '.jpg')) if path.is_dir() else [path]
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
