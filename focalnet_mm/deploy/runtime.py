"""Exported files in onnxruntime, with numpy alone beside it."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ['PROVIDERS', 'Runtime']

#: Name of where to compute → what onnxruntime calls it.
PROVIDERS = {name.lower().removesuffix('executionprovider'): name for name in (
    'CPUExecutionProvider', 'CUDAExecutionProvider', 'OpenVINOExecutionProvider', 'TensorrtExecutionProvider')}
# What a file of another origin lacks.
_FACTS: dict[str, Any] = dict(task=str, classes=(list, dict), preprocess=dict)


class Runtime:
    """A whole model in an ONNX file, run without PyTorch.

    Args:
        file: What ``focalnet-mm export --to onnx`` wrote, with preprocessing inside.
        providers: Where to compute, a name among :data:`PROVIDERS` or several, the first one that can do an operator
            first; the CPU does what is left. Options of a provider go with its name: ``[('cuda', dict(device_id=1))]``.
        threads: How many threads the CPU computes with; by default as many as it has cores.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: The file is no ONNX file, was not written so, or there is no such provider.
    """

    def __init__(self, file: str | Path,
                 providers: str | Sequence[str | tuple[str, Mapping[str, Any]]] = ('cpu',), threads: int = 0) -> None:
        self.file = Path(file)
        if not self.file.is_file():
            what = 'is a folder' if self.file.is_dir() else 'does not exist'
            raise FileNotFoundError(f'{file} {what}: name a file that focalnet-mm export wrote.')
        given = [providers] if isinstance(providers, str) else providers
        #: onnxruntime's own session.
        self.session = _session(self.file, given, _whole('threads', threads, 0))
        #: What the file says of itself: its metadata, read as JSON.
        self.facts: dict[str, Any] = _facts(self.session.get_modelmeta().custom_metadata_map)
        missing = [name for name, kind in _FACTS.items() if not isinstance(self.facts.get(name), kind)]
        missing += [] if 'images' in {value.name for value in self.session.get_inputs()} else ['images']
        if missing:
            raise ValueError(
                f'{file} says nothing of {", ".join(missing)}: the Runtime takes what focalnet-mm export --to onnx '
                'writes of a whole model with its preprocessing; run others with onnxruntime itself.')
        #: ``'detection'``, ``'panoptic'``, ``'segmentation'`` or ``'classification'``.
        self.task: str = self.facts['task']
        noted = self.facts['classes']
        #: Names of the classes, by label; of a classifier with several tasks a dict of them, if they are known.
        self.classes: tuple[str, ...] | dict[str, Any] = noted if isinstance(noted, dict) else tuple(noted)
        #: RGB colours of the classes, by label; nothing where the data set has none.
        self.palette: list[list[int]] = self.facts.get('palette') or []
        #: Thresholds that a call may change → what they are otherwise.
        self.thresholds: dict[str, Any] = self.facts.get('thresholds') or {}
        #: Names of what a call returns of a picture.
        self.outputs: tuple[str, ...] = tuple(value.name for value in self.session.get_outputs())

    @property
    def providers(self) -> tuple[str, ...]:
        """What computes, as onnxruntime calls it."""
        return tuple(self.session.get_providers())

    def __call__(self, pictures: np.ndarray | Sequence[np.ndarray], batch_size: int = 8,
                 **thresholds: Any) -> list[dict[str, np.ndarray]]:
        """What the model predicts.

        Args:
            pictures: RGB pictures (H, W, 3) in uint8, of any sizes, or one array (N, H, W, 3).
            batch_size: How many of one size go through the model at a time.
            thresholds: Other values of :attr:`thresholds`.

        Returns:
            Of each picture its outputs by their names: ``boxes`` (K, 4) as x1, y1, x2, y2 in pixels of the picture,
            ``scores`` (K,), ``labels`` (K,) and ``masks`` (K, H, W) or ``roi_masks`` (K, 28, 28) of the K objects that
            were found; ``segments`` (H, W), number × 1000 + label; ``label_map`` (H, W); a classifier's ``scores``
            (classes,), and ``classes``: the number of the one that holds, or of several labels which do (classes,).

        Raises:
            ValueError: The model fails on a picture, such as one of which its resizing leaves no pixel; or what was
                given is no RGB picture in uint8, the batch size no number from 1 up, the file has no
                such threshold, a threshold is no number, or an ``iou_threshold`` is not from 0 to 1.
        """
        batch_size = _whole('batch_size', batch_size, 1)
        if not isinstance(pictures, Iterable):
            raise ValueError(f'pictures are {pictures!r}, expected a list of them, or an array (N, H, W, 3).')
        pictures = [_checked(picture) for picture in pictures]
        unknown = [name for name in thresholds if name not in self.thresholds]
        if unknown:
            raise ValueError(f'{self.file} has no threshold {unknown[0]}: there are '
                             f'{", ".join(self.thresholds) or "none"}.')
        given = {name: _threshold(name, value) for name, value in thresholds.items()}
        of_size: dict[tuple[int, ...], list[int]] = {}
        for i, picture in enumerate(pictures):
            of_size.setdefault(picture.shape, []).append(i)
        found: dict[int, dict[str, np.ndarray]] = {}
        for places in of_size.values():
            for start in range(0, len(places), batch_size):
                batch = places[start:start + batch_size]
                outputs = self._run(np.stack([pictures[i] for i in batch]), given)
                for row, i in enumerate(batch):
                    found[i] = _without_filling({name: np.asarray(value)[row] for name, value in zip(
                        self.outputs, outputs, strict=True)})
        return [found[i] for i in range(len(pictures))]

    def _run(self, images: np.ndarray, given: Mapping[str, np.ndarray]) -> list[Any]:
        try:
            return self.session.run(None, {'images': images, **given})
        # onnxruntime's own errors have no common class but Exception.
        except Exception as error:
            raise ValueError(f'{self.file} fails on pictures of {images.shape[1]} × {images.shape[2]} pixels: '
                             f'{(str(error).splitlines() or [""])[0]}') from error


def _session(file: Path, providers: Sequence[str | tuple[str, Mapping[str, Any]]], threads: int) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ModuleNotFoundError('Exported files run in onnxruntime: pip install onnxruntime, or onnxruntime-gpu for '
                                  'NVIDIA\'s GPUs.', name='onnxruntime') from None
    there = onnxruntime.get_available_providers()
    chosen: list[tuple[str, dict[str, Any]]] = []
    for provider in providers:
        name, options = (provider, {}) if isinstance(provider, str) else provider
        full = PROVIDERS.get(name.lower(), name)
        if full not in there:
            known = ', '.join(short for short, long in PROVIDERS.items() if long in there)
            raise ValueError(f'This onnxruntime {onnxruntime.__version__} cannot compute with {name}, only with '
                             f'{known}: install the build of onnxruntime that brings it, such as onnxruntime-gpu or '
                             'onnxruntime-openvino.')
        chosen.append((full, dict(options)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # It warns of thresholds that a call may change, and of nodes that the CPU computes.
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=chosen)
    # Its own errors have no common class but Exception.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [''])[0]
        # The second is what 1.23 says.
        if 'xternal' in reason or 'cannot get file size' in reason:
            reason = (f'its weights are in a file of their own, which is not there or not whole ({reason}): copy both, '
                      'under the names that they were written with')
        raise ValueError(f'{file} could not be opened by onnxruntime {onnxruntime.__version__}: {reason}') from error
    # What it cannot start it leaves out, with a line in its log at most.
    idle = [name for name, _ in chosen if name not in session.get_providers()]
    if idle:
        raise ValueError(f'onnxruntime {onnxruntime.__version__} could not start {idle[0]} and would compute with '
                         f'{" and ".join(session.get_providers())}: see that its device and libraries are there, or '
                         'name another provider.')
    return session


def _facts(stored: Mapping[str, str]) -> dict[str, Any]:
    facts = {}
    for key, value in stored.items():
        try:
            facts[key] = json.loads(value)
        # Other tools write what they like.
        except ValueError:
            facts[key] = value
    return facts


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f'{name} is {value!r}, expected a whole number from {least} up.')
    return number


def _threshold(name: str, value: Any) -> np.ndarray:
    """A threshold as the graph takes it; infinity is one."""
    number = np.asarray(value)
    if number.shape or number.dtype.kind not in 'iuf' or np.isnan(number):
        raise ValueError(f'{name} is {value!r}, expected a number.')
    if name == 'iou_threshold' and not 0 <= number <= 1:
        raise ValueError(f'{name} is {value!r}, expected a number from 0 to 1.')
    return number.astype(np.float32)


def _checked(picture: np.ndarray) -> np.ndarray:
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f'An array of shape {picture.shape} in {picture.dtype} is no RGB picture: expected '
                         '(H, W, 3) in uint8.')
    return picture


def _without_filling(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The objects of a picture, without those that fill a batch up to its greatest number."""
    if 'boxes' not in found:
        return found
    real = (found['labels'] >= 0) & (found['scores'] > 0)
    of_objects = ('boxes', 'scores', 'labels', 'masks', 'roi_masks')
    return {name: value[real] if name in of_objects else value for name, value in found.items()}
