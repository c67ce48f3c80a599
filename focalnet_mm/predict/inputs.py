"""Pictures and videos in, predictions and pictures out."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from ..data.pictures import Input, printable, read_video, shown_as, unique_names, utf8_path
from ..data.progress import described, progress_bar
from .exported import ExportedPredictor
from .records import PredictionsFile

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ['Predicted', 'predict_inputs']


class Predicted(NamedTuple):
    """What :func:`predict_inputs` wrote."""

    #: ``predictions.json``.
    file: Path
    #: How many images, frames of videos among them.
    images: int
    #: How many entries they have.
    predictions: int
    #: What could not be read, predicted or drawn.
    failed: list[Input]
    #: How many inputs are done, the failed among them: all of them if nobody wished to stop.
    done: int


class _Writer:
    """Predictions and pictures of inputs, as they come."""

    def __init__(self, predictor: Predictor | ExportedPredictor, records: PredictionsFile, score_thr: float,
                 stop: Callable[[], bool], say: Callable[[str], None]) -> None:
        self.predictor = predictor
        self.records = records
        self.score_thr = score_thr
        self.stop = stop
        self.say = say
        self._said: set[str] = set()

    def predict(self, item: Input, source: Any, name: str, **more: Any) -> np.ndarray:
        """Store what is predicted for an image; returns its picture."""
        predictor: Any = self.predictor
        loaded = predictor.load(source, name)
        sample = predictor.predict(loaded, name)
        image_id = self.records.images + 1
        height, width = loaded.image.shape[:2]
        self.records.add(dict(id=image_id, file_name=str(item.path), height=height, width=width, **more),
                         self.predictor.entries(sample, image_id))
        words = shown_as(loaded.image)
        if words and words not in self._said:
            self._said.add(words)
            self.say(f'{name} has {_channels(loaded.image)}; the pictures show {words}')
        try:
            return self.predictor.draw(loaded.image, sample, self.score_thr)
        except Exception as error:
            raise ValueError(f'{name}: what was predicted is in predictions.json, but could not be drawn: '
                             f'{type(error).__name__}: {error}') from error

    def picture(self, item: Input, target: Path) -> None:
        """Predict on a picture, and write it."""
        more = dict(channels=[path.name for path in item.channels]) if item.channels else {}
        drawn = self.predict(item, item.channels or item.path, str(item.path), **more)
        try:
            _, data = cv2.imencode(target.suffix, drawn)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data.tobytes())
        except (OSError, cv2.error) as error:
            raise ValueError(f'{target} could not be written: {getattr(error, "strerror", None) or error}') from error

    def video(self, item: Input, target: Path, progress: Any) -> bool:
        """Predict on the frames of a video, and write them as another; returns whether it came to its end."""
        if isinstance(item.path, str):
            raise ValueError(f'{item.path} is a video on another machine: download it first.')
        count, rate, frames = read_video(item.path)
        task, done, complete = progress.add_task('frames', total=count or None), 0, True
        with contextlib.ExitStack() as stack:
            stack.callback(progress.remove_task, task)
            stack.callback(frames.close)
            # The config's loader takes files. OpenCV makes other greys of the colours of a BMP than of a PNG.
            file = Path(stack.enter_context(tempfile.TemporaryDirectory()), 'frame.png')
            first = next(frames)
            size = first.shape[1], first.shape[0]
            film = stack.enter_context(_film(target, rate, size))
            for frame in itertools.chain([first], frames):
                complete = not self.stop()
                if not complete:
                    break
                _, data = cv2.imencode('.png', frame, [cv2.IMWRITE_PNG_COMPRESSION, 0])
                file.write_bytes(data.tobytes())
                drawn = self.predict(item, file, f'frame {done} of {item.path}', frame=done)
                film.write(drawn if drawn.shape[1::-1] == size else cv2.resize(drawn, size))
                done += 1
                progress.advance(task)
        if complete and done < count:
            self.say(f'{item.path} ends after {done} of the {count} frames that it says it has: it may be '
                     'damaged there')
        _check_film(target, done)
        return complete


@contextlib.contextmanager
def _film(target: Path, rate: float, size: tuple[int, int]) -> Iterator[Any]:
    """A file to write frames (width, height) to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with utf8_path(target) as path:
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*'mp4v'), rate, size)
        if not writer.isOpened():
            raise ValueError(f'{target} could not be opened for a film of {size[0]} × {size[1]} pixels with {rate:g} '
                             'frames a second, in MPEG-4: see that the folder can be written to and that OpenCV has '
                             'this encoder, or name pictures of the frames.')
        try:
            yield writer
        finally:
            writer.release()


def _check_film(target: Path, frames: int) -> None:
    """OpenCV says nothing where it could not write."""
    if not frames:
        return
    with utf8_path(target) as path:
        capture = cv2.VideoCapture(path)
    written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if written < frames:
        raise ValueError(f'{target} holds {written} of {frames} frames: it could not be written to its end; is there '
                         'space left? What was predicted is in predictions.json.')


def predict_inputs(predictor: Predictor | ExportedPredictor, inputs: Sequence[Input], out: Path, score_thr: float,
                   facts: Mapping[str, str], name: str = 'predict',
                   stop: Callable[[], bool] = lambda: False) -> Predicted:
    """Predict on pictures and videos, with a progress bar, and write what was found.

    Args:
        predictor: The model.
        inputs: The pictures and videos.
        out: Where to: ``pictures`` and ``predictions.json``, in the form of COCO's results.
        score_thr: Leave out of the pictures what a detector scores below this.
        facts: What the JSON says of the model.
        name: What begins the line about an input that can't be read.
        stop: Whether to end after the image that was the last; ``predictions.json`` then has those before.

    Returns:
        How much was found, and what could not be read.

    Raises:
        OSError: ``predictions.json`` could not be written.
    """
    targets = [out / 'pictures' / target for target in unique_names([_target(item) for item in inputs])]
    records, failed, done = PredictionsFile(out), [], 0
    try:
        with progress_bar() as progress:
            def say(text: str) -> None:
                progress.console.print(f'{name}: {printable(text)}', markup=False, soft_wrap=True)

            writer = _Writer(predictor, records, score_thr, stop, say)
            task = progress.add_task('', total=len(inputs))
            for item, target in zip(inputs, targets):
                if stop():
                    break
                progress.update(task, description=described(printable(item.name)))
                complete = True
                try:
                    if item.is_video:
                        complete = writer.video(item, target, progress)
                    else:
                        writer.picture(item, target)
                except ValueError as error:
                    failed.append(item)
                    say(str(error))
                done += complete
                progress.advance(task)
    except BaseException:
        with contextlib.suppress(OSError):
            records.finish(facts, predictor.classes)
        raise
    return Predicted(records.finish(facts, predictor.classes), records.images, records.entries, failed, done)


def _target(item: Input) -> str:
    """What the picture of an input is called, before its name is made unique."""
    endings = ('.mp4',) if item.is_video else ('.jpg', '.jpeg', '.png')
    stays = os.path.splitext(item.name)[1].lower() in endings and not item.channels
    return item.name if stays else f'{item.name}{".mp4" if item.is_video else ".png"}'


def _channels(image: np.ndarray) -> str:
    count = 1 if image.ndim == 2 else image.shape[2]
    return f'{count} channel{"s" * (count != 1)} in {image.dtype}'
