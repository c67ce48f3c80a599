"""Models for other runtimes: ONNX, TorchScript and torch.export's PT2, of any batch, height and width, checked."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..backbone.focalnet import find_backbone
from .finish import FINISH, PRECISIONS, RGB, Finish, carriers_of, finish, plan_of
from .formats import FORMATS, check_installed, open_file, write_file
from .inputs import describe_inputs
from .part import TOLERANCE, Agreement, Part, compare, predicted
from .parts import PARTS, exportable
from .whole import MASKS

__all__ = ['FORMATS', 'MASKS', 'PARTS', 'PRECISIONS', 'TOLERANCE', 'Finish', 'export_model', 'exportable']

# What colours the messages of torch on a terminal.
_COLOURS = re.compile('\x1b\\[[0-9;]*m')
# (N, H, W): one to export with, three to check with, one of them odd.
_EXPORT_SIZE = 2, 128, 192
_CHECK_SIZES = (1, 160, 128), (2, 96, 224), (1, 131, 197)
# What a config may inherit from, and annotations: --force is about exported files alone.
_NEVER_WRITTEN = '.py', '.json', '.yaml', '.yml'


def export_model(model: nn.Module, file: str | Path, to: str, part: str = 'model', force: bool = False,
                 tell: Callable[[str], None] = print, cfg: Config | None = None, masks: str = 'paste',
                 how: Finish = FINISH) -> float:
    """Write a model for another runtime, and compare it there with what the model predicts at three sizes.

    Args:
        model: A model of mmdet, mmseg or mmpretrain with a FocalNet, on the CPU in float32 and in evaluation mode. It
            is left as it was.
        file: The file to write. Beside an ONNX file of more than 1 GiB lies another with its weights.
        to: One of :data:`FORMATS`.
        part: One of :data:`PARTS`.
        force: Replace the file where it is there.
        tell: What to call with each line about the progress.
        cfg: The config, of which the last line tells how images are loaded and resized.
        masks: Of a detector with masks, one of :data:`MASKS`: pasted onto the images, those of the boxes, or none.
        how: What becomes of an ONNX file of a whole model: its preprocessing, where there is a config, and precision.

    Returns:
        The largest difference found, relative to the greatest value of the output; of detectors that of the scores of
        objects that belong together.

    Raises:
        FileExistsError: The file is there; or it is a config or annotations by its name, with ``force`` too.
        IsADirectoryError: A folder is there.
        ModuleNotFoundError: ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
        ValueError: The model cannot be exported, or what was written differs by more than :data:`TOLERANCE`, or
            finds other objects; then nothing is left of it.
    """
    file = Path(file)
    _check_free(file, force)
    check_installed(to)
    channels = find_backbone(model).in_channels
    with _quiet():
        chosen = exportable(model, part, to, masks)
        takes, facts = describe_inputs(model, channels, cfg)
    _check_format(chosen, to, model)
    plan = plan_of(model, chosen, to, channels, cfg, how)
    _tell_idle(masks, chosen, tell)
    if plan:
        takes, facts = RGB, dict(preprocess=plan, precision=how.precision, pipeline=facts['pipeline'])
    facts.update(chosen.facts, input=takes, part=part, left=chosen.left, **_classes(model))
    carriers = carriers_of(plan, chosen)
    file.parent.mkdir(parents=True, exist_ok=True)
    # On the disk of the target, so that what was checked is moved there at once.
    with _folder_beside(file) as folder:
        written = Path(folder) / file.name
        tell(f'exporting {", ".join(chosen.names)} …')
        with _quiet():
            with _in_one_sentence(model, to, 'cannot be written'):
                write_file(chosen, _images(_EXPORT_SIZE, channels, chosen.enlarged), written, to,
                           {key: json.dumps(value, default=str) for key, value in facts.items()},
                           carriers)
            compared = _compare(model, chosen, written, to, channels, tell, carriers)
        _check_agreement(compared, model, file)
        if plan:
            finish(written, chosen, plan, model, cfg, how, tell)
        for path in Path(folder).iterdir():
            os.replace(path, file.with_name(path.name))
    tell(f'{file}: takes {takes}; returns {", ".join(chosen.names)}. {chosen.left}')
    return float(np.max([found.difference for found in compared]))


def _check_format(chosen: Part, to: str, model: nn.Module) -> None:
    if chosen.formats and to not in chosen.formats:
        raise ValueError(f'The {_named(model)} cannot be written as {to}, which keeps no choice of points in images of '
                         f'any size: try --to {" or --to ".join(chosen.formats)}, or --part backbone.')


def _tell_idle(masks: str, chosen: Part, tell: Callable[[str], None]) -> None:
    if masks == 'roi' and not any('masks' in name for name in chosen.names):
        tell(f'--masks roi changes nothing: what is written returns {", ".join(chosen.names)}, and no masks.')


def _folder_beside(file: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(dir=file.parent, prefix='.export-')
    except OSError as error:
        raise OSError(f'{file} cannot be written ({error.strerror}): name another place with --out.') from error


def _check_free(file: Path, force: bool) -> None:
    if file.is_dir():
        raise IsADirectoryError(f'{file} is a folder: name a file in it with --out.')
    if file.suffix.lower() in _NEVER_WRITTEN and file.exists():
        raise FileExistsError(f'{file} is nothing that export wrote, as {file.suffix} tells, and would be lost: name '
                              'another file with --out.')
    for path in (file, file.with_name(f'{file.name}.data')):
        if path.exists() and not force:
            raise FileExistsError(f'{path} is there already: name another file with --out, or add --force.')


def _check_agreement(compared: Sequence[Agreement], model: nn.Module, file: Path) -> None:
    failed = next((found for found in compared if not found.holds), None)
    if failed is not None:
        raise ValueError(f'{file} is not written, since it differs from PyTorch: {failed.words}. Something in the '
                         f'{_named(model)} depends on sizes or values in a way that the format does not keep: try '
                         'another format, or --part backbone.')


def _classes(model: nn.Module) -> dict[str, Any]:
    """Names and colours of a model's classes, as far as they are known."""
    meta = getattr(model, 'dataset_meta', None) or {}
    classes, palette = meta.get('classes') or (), meta.get('palette')
    facts: dict[str, Any] = dict(classes=classes if isinstance(classes, dict) else list(classes))
    # Some data sets name a palette of mmdet's in place of colours.
    if palette is not None and not isinstance(palette, str):
        facts['palette'] = [list(map(int, colour)) for colour in palette]
    return facts


def _compare(model: nn.Module, part: Part, file: Path, to: str, channels: int, tell: Callable[[str], None],
             carriers: Sequence[str]) -> list[Agreement]:
    compared = []
    exported = open_file(file, to)
    # Made-up sizes of pictures and images may be more than the model's own post-processing takes.
    asked = part._replace(predict=lambda *args, **given: predicted(
        model, lambda: part.predict(*args, **given), 'the file cannot be compared with it, and is not kept'))
    for size in _CHECK_SIZES:
        images = _images(size, channels, part.enlarged)
        height, width = images.shape[2:]
        shapes = dict(inside=(height - 5, width - 3), original=(height // 2, 2 * width),
                      resized=(height - 9, width - 14))
        sizes = {name: torch.zeros(shapes[name], dtype=torch.uint8) for name in carriers}
        for given in ({}, part.trial) if part.trial else ({},):
            with _in_one_sentence(model, to, f'does not run for images {tuple(images.shape)} once it is written'):
                found = exported(images, **sizes, **given)
            compared.append(compare(asked, images, {**sizes, **given}, found))
            at = ''.join(f' at {name} {value:g}' for name, value in given.items())
            tell(f'{"×".join(map(str, images.shape))}{at}: {compared[-1].words}')
    return compared


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        yield


@contextlib.contextmanager
def _in_one_sentence(model: nn.Module, to: str, fault: str) -> Iterator[None]:
    """Say what of a model a format cannot hold."""
    try:
        yield
    # The writers and runtimes raise anything.
    except Exception as error:
        # Torch's own tells which step of the export it was.
        cause = error.__cause__ or error
        lines = [line.strip() for line in _COLOURS.sub('', str(cause)).splitlines() if line.strip()]
        others = ' or '.join(f'--to {other}' for other in FORMATS if other != to)
        raise ValueError(f'The {_named(model)} {fault} as {to} '
                         f'({type(cause).__name__}: {_shortened(lines)}): try {others}, or --part backbone.') from error


def _named(model: nn.Module) -> str:
    """The classes of a model and its heads."""
    heads = [getattr(model, name, None) for name in ('decode_head', 'head', 'neck')]
    names = [type(part).__name__ for head in heads if head is not None
             for part in (head if isinstance(head, nn.ModuleList) else [head])]
    return ' with '.join((type(model).__name__, *([', '.join(names)] if names else [])))


def _shortened(lines: Sequence[str]) -> str:
    return lines[0][:200].rstrip('.') if lines else 'no reason given'


def _images(size: tuple[int, int, int], channels: int, enlarged: int = 1) -> Tensor:
    count, height, width = size
    # One pixel less stays odd where the size is.
    height, width = (length * enlarged - (enlarged - 1) * (length % 2) for length in (height, width))
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(sum(size)))
