"""Models for other runtimes: ONNX, TorchScript and torch.export's PT2, of any batch, height and width, checked."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..backbone.focalnet import find_backbone

__all__ = ['FORMATS', 'PARTS', 'TOLERANCE', 'exportable', 'export_model']

#: Format → ending of its files.
FORMATS = {'onnx': '.onnx', 'torchscript': '.pt', 'pt2': '.pt2'}
PARTS = ('model', 'backbone')
#: Largest difference from PyTorch, relative to the greatest value of an output.
TOLERANCE = 1e-4
# (N, H, W): one to export with, three to check with, one of them odd.
_EXPORT_SIZE = 2, 128, 192
_CHECK_SIZES = (1, 160, 128), (2, 96, 224), (1, 131, 197)
# Protocol buffers end at 2 GiB; weights beyond that go to a file of their own.
_INLINE_BYTES = 1 << 30


class _Backbone(nn.Module):
    """Feature maps of the backbone, and of the neck where one is given."""

    def __init__(self, backbone: nn.Module, neck: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone(images)
        return tuple(features if self.neck is None else self.neck(features))


class _Segmenter(nn.Module):
    """Logits of the classes (N, classes, H, W), at the size of the images."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor]:
        logits = self.model(images, mode='tensor')
        return (F.interpolate(logits, images.shape[2:], mode='bilinear',
                              align_corners=self.model.decode_head.align_corners),)


class _Classifier(nn.Module):
    """Scores of the classes (N, classes), which sum up to 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.model(images, mode='tensor').softmax(1),)


class _AdaptiveAvgPool(nn.Module):
    """Adaptive average pooling as two matrix products, since ONNX has none for sizes that are not known."""

    def __init__(self, size: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (self._shares(length if count is None else count, length, x)
                         for count, length in zip(self.size, x.shape[2:]))
        return rows @ x @ columns.t()

    @staticmethod
    def _shares(count: int, length: int, like: Tensor) -> Tensor:
        """(count, length): by how much each position goes into each of the averages."""
        cell = torch.arange(count, device=like.device)[:, None]
        position = torch.arange(length, device=like.device)[None]
        inside = (position >= cell * length // count) & (position < ((cell + 1) * length + count - 1) // count)
        inside = inside.to(like.dtype)
        return inside / inside.sum(1, keepdim=True)


def exportable(model: nn.Module, part: str) -> tuple[nn.Module, tuple[str, ...], str]:
    """The part of a model that can be exported.

    Args:
        model: A model of mmdet, mmseg or mmpretrain.
        part: One of :data:`PARTS`.

    Returns:
        A module that takes images (N, 3, H, W), normalised as the model's ``data_preprocessor`` does, and returns a
        tuple; the names of what it returns; and what is left to do with that, in a sentence.

    Raises:
        ValueError: The whole of this model cannot be exported, or it has no FocalNet.
    """
    backbone = find_backbone(model)
    stages = tuple(f'stage{i}' for i in backbone.out_indices)
    if part == 'backbone':
        return _Backbone(backbone), stages, 'Neck and heads are left out: they take these feature maps.'
    if hasattr(model, 'decode_head'):
        if not hasattr(model.decode_head, 'conv_seg') or hasattr(model.decode_head, 'transformer_decoder'):
            raise ValueError(f'The {type(model.decode_head).__name__} predicts by queries, which cannot be exported '
                             'with sizes left open: export --part backbone.')
        return _Segmenter(model), ('logits',), 'The label of a pixel is the argmax of its logits.'
    if not hasattr(model, 'bbox_head') and not hasattr(model, 'rpn_head') and not hasattr(model, 'panoptic_head'):
        return _Classifier(model), ('scores',), 'The class is the argmax of the scores.'
    neck: Any = model.neck if model.with_neck else None
    with torch.no_grad():
        count = 0 if neck is None else len(neck(backbone(torch.zeros(1, backbone.in_channels, 64, 64))))
    left = ('Heads are left out, since their proposals, sorting and suppression of overlaps depend on the values and '
            'need operators that runtimes do not share: run the heads of the config in PyTorch on these maps, as '
            'model.rpn_head, model.roi_head or model.bbox_head do.')
    if not count:
        return _Backbone(backbone), stages, left
    return _Backbone(backbone, neck), tuple(f'level{i}' for i in range(count)), left


def export_model(model: nn.Module, file: str | Path, to: str, part: str = 'model', force: bool = False,
                 tell: Callable[[str], None] = print) -> float:
    """Write a model for another runtime, and compare it there with PyTorch at three sizes.

    Args:
        model: A model of mmdet, mmseg or mmpretrain with a FocalNet, on the CPU in float32. It is left as it was.
        file: The file to write. Beside an ONNX file of more than 1 GiB lies another with its weights.
        to: One of :data:`FORMATS`.
        part: One of :data:`PARTS`.
        force: Replace the file where it is there.
        tell: What to call with each line about the progress.

    Returns:
        The largest difference found, relative to the greatest value of the output.

    Raises:
        FileExistsError: The file is there.
        ModuleNotFoundError: ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
        ValueError: The model cannot be exported, or what was written differs by more than :data:`TOLERANCE`; then
            nothing is left of it.
    """
    file = Path(file)
    for path in (file, file.with_name(f'{file.name}.data')):
        if path.exists() and not force:
            raise FileExistsError(f'{path} is there already: name another file with --out, or add --force.')
    if to == 'onnx':
        _check_installed('onnx', 'onnxscript', 'onnxruntime')
    module, names, left = exportable(copy.deepcopy(model).eval(), part)
    preprocessor = getattr(model, 'data_preprocessor', None)
    facts = dict(input='RGB images (N, 3, H, W) in float32, normalised with mean and std', part=part,
                 mean=_floats(preprocessor, 'mean'), std=_floats(preprocessor, 'std'),
                 classes=list((getattr(model, 'dataset_meta', None) or {}).get('classes') or ()))
    file.parent.mkdir(parents=True, exist_ok=True)
    # On the disk of the target, so that what was checked is moved there at once.
    with tempfile.TemporaryDirectory(dir=file.parent, prefix='.export-') as folder:
        written = Path(folder) / file.name
        tell(f'exporting {", ".join(names)} …')
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')
            {'onnx': _write_onnx, 'torchscript': _write_torchscript, 'pt2': _write_pt2}[to](
                module, written, names, {key: json.dumps(value) for key, value in facts.items()})
            difference = _compare(module, _open(written, to), names, tell)
        if not difference <= TOLERANCE:
            raise ValueError(f'{file} is not written: it differs from PyTorch by {difference:.1e} of the greatest '
                             f'value, more than {TOLERANCE:.0e}.')
        for path in Path(folder).iterdir():
            os.replace(path, file.with_name(path.name))
    tell(f'{file}: takes {facts["input"]} {facts["mean"]}, {facts["std"]}; returns {", ".join(names)}. {left}')
    return difference


def _write_onnx(module: nn.Module, file: Path, names: Sequence[str], facts: dict[str, str]) -> None:
    size = sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
    with _exportable_pooling(module), contextlib.redirect_stdout(None):
        program = torch.onnx.export(module, (_images(_EXPORT_SIZE),), dynamo=True, input_names=['images'],
                                    output_names=list(names), dynamic_shapes=({0: 'N', 2: 'H', 3: 'W'},), verbose=False)
    # Only without dynamo there is none.
    assert program is not None
    program.model.metadata_props.update(facts)
    program.save(str(file), external_data=size > _INLINE_BYTES)


def _write_torchscript(module: nn.Module, file: Path, names: Sequence[str], facts: dict[str, str]) -> None:
    traced = torch.jit.trace(module, _images(_EXPORT_SIZE), check_trace=False)
    torch.jit.save(traced, str(file), _extra_files=facts)


def _write_pt2(module: nn.Module, file: Path, names: Sequence[str], facts: dict[str, str]) -> None:
    dynamic = torch.export.Dim.DYNAMIC
    with _exportable_pooling(module):
        program = torch.export.export(module, (_images(_EXPORT_SIZE),),
                                      dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},))
    torch.export.save(program, str(file), extra_files=facts)


def _open(file: Path, to: str) -> Callable[[Tensor], Sequence[Tensor]]:
    """What was written, as a function of images."""
    if to == 'torchscript':
        return torch.jit.load(str(file))
    if to == 'pt2':
        return torch.export.load(str(file)).module()
    import onnxruntime
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    return lambda images: [torch.from_numpy(found) for found in session.run(None, {'images': images.numpy()})]


def _compare(module: nn.Module, exported: Callable[[Tensor], Sequence[Tensor]], names: Sequence[str],
             tell: Callable[[str], None]) -> float:
    largest = []
    for size in _CHECK_SIZES:
        images = _images(size)
        differences = []
        for name, expected, found in zip(names, module(images), exported(images), strict=True):
            if expected.shape != found.shape:
                raise ValueError(f'{name} of images {tuple(images.shape)} has the shape {tuple(found.shape)} after the '
                                 f'export, and {tuple(expected.shape)} in PyTorch: nothing is written.')
            differences.append(float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-12)))
        # Unlike max(), this does not pass over nan.
        largest.append(float(np.max(differences)))
        tell(f'{size[0]}×3×{size[1]}×{size[2]}: largest relative difference {largest[-1]:.1e}')
    return float(np.max(largest))


@contextlib.contextmanager
def _exportable_pooling(module: nn.Module) -> Iterator[None]:
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                size = child.output_size if isinstance(child.output_size, tuple) else (child.output_size,) * 2
                replaced.append((parent, name, child))
                setattr(parent, name, _AdaptiveAvgPool(size))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _images(size: tuple[int, int, int]) -> Tensor:
    count, height, width = size
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(sum(size)))


def _floats(preprocessor: Any, name: str) -> list[float]:
    values = getattr(preprocessor, name, None)
    return [] if values is None else [round(value, 4) for value in values.flatten().tolist()]


def _check_installed(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f'ONNX needs {" and ".join(missing)}: pip install "focalnet-mm[onnx]".')
