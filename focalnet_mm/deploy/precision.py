"""Smaller ONNX files: the layers' weights and products in 16 or 8 bits, everything else in float32."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..data.pictures import read_image
from .runtime import Runtime

__all__ = ['check_pictures', 'lower_precision']

# What layers become in ONNX. Sizes, boxes and thresholds are no layers: 16 bits know no odd pixel beyond 2048.
_LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
_HALF_RANGE = np.finfo(np.float16).min, np.finfo(np.float16).max
# More say little more of the range of an activation.
_MOST_PICTURES = 64


def lower_precision(file: Path, precision: str, pictures: Sequence[Path] = (),
                    tell: Callable[[str], None] = print) -> None:
    """Rewrite a file in a lower precision.

    Args:
        file: An ONNX file of less than 2 GiB, for ``'int8'`` with its preprocessing inside.
        precision: ``'fp16'``, or ``'int8'``: of weights each channel, of activations each tensor by its own range.
        pictures: What ``'int8'`` finds the ranges of activations with, some dozens of pictures such as the model will
            see, of which up to 64 are taken, from all parts of the list. One that cannot be read is left out.
        tell: What to call with a line about what is left out.

    Raises:
        ValueError: There is no layer, no picture to find ranges with that can be read, or onnxruntime cannot open what
            its tools made.
    """
    model = _simplified(file)
    layers = _layers(model)
    if not layers:
        raise ValueError(f'{file} has no layer with weights, which {precision} would make smaller.')
    if precision == 'fp16':
        lower = _half(model, layers)
    else:
        check_pictures(pictures)
        lower = _quantised(model, layers, pictures, tell)
    # None of the tools keeps what the file says of itself.
    del lower.metadata_props[:]
    before = onnx.load(file, load_external_data=False)
    lower.metadata_props.extend(before.metadata_props)
    del lower.opset_import[:]
    lower.opset_import.extend(before.opset_import)
    new = file.with_name(f'{file.name}.new')
    onnx.save(lower, new)
    try:
        Runtime(new)
    except ValueError as error:
        new.unlink()
        raise ValueError(f'The tools of onnxruntime write this model in {precision} so that {error}: export with '
                         '--precision fp32, and please report it.') from error
    os.replace(new, file)
    # What is smaller lies in one file.
    file.with_name(f'{file.name}.data').unlink(missing_ok=True)


def _simplified(file: Path) -> onnx.ModelProto:
    """A model with its constants computed, such as weights that are reshaped, by onnxruntime's own passes."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The levels above write operators that only onnxruntime knows.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / 'simplified.onnx')
        # Weights in a file of their own would be sought beside what is written here.
        onnx.save(onnx.load(file), Path(folder) / 'whole.onnx')
        onnxruntime.InferenceSession(str(Path(folder) / 'whole.onnx'), options, providers=['CPUExecutionProvider'])
        return onnx.load(options.optimized_model_filepath)


def _layers(model: onnx.ModelProto) -> list[str]:
    """The names of the layers: nodes with a constant weight of two dimensions or more."""
    weights = {weight.name for weight in model.graph.initializer
               if len(weight.dims) > 1 and weight.data_type == onnx.TensorProto.FLOAT}
    return [node.name for node in model.graph.node if node.op_type in _LAYERS and node.input[1] in weights]


def _half(model: onnx.ModelProto, layers: Sequence[str]) -> onnx.ModelProto:
    """Layers in 16 bits, between casts.

    onnxruntime's own converter leaves a graph unsorted where most nodes stay as they are.
    """
    lower = onnx.ModelProto()
    lower.CopyFrom(model)
    chosen = set(layers)
    weights = {weight.name: weight for weight in lower.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    halved: dict[str, str] = {}

    def half(name: str) -> str:
        """The value of a name in 16 bits."""
        if name not in halved:
            halved[name] = f'{name}/fp16'
            if name in weights:
                values = np.clip(numpy_helper.to_array(weights[name]), *_HALF_RANGE).astype(np.float16)
                lower.graph.initializer.append(numpy_helper.from_array(values, halved[name]))
            else:
                nodes.append(helper.make_node('Cast', [name], [halved[name]], f'{name}/to_fp16',
                                              to=TensorProto.FLOAT16))
        return halved[name]

    for node in lower.graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        inputs = [half(name) if name else '' for name in node.input]
        result = node.output[0]
        layer = onnx.NodeProto()
        layer.CopyFrom(node)
        layer.input[:], layer.output[:] = inputs, [f'{result}/in_fp16']
        nodes += [layer, helper.make_node('Cast', [f'{result}/in_fp16'], [result], f'{node.name}/to_fp32',
                                          to=TensorProto.FLOAT)]
    del lower.graph.node[:]
    lower.graph.node.extend(nodes)
    used = {name for node in nodes for name in _names_in(node)} | {value.name for value in lower.graph.output}
    kept = [weight for weight in lower.graph.initializer if weight.name in used]
    del lower.graph.initializer[:]
    lower.graph.initializer.extend(kept)
    return lower


def _names_in(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node takes, those of the graphs within it too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _names_in(inner)
        yield from (value.name for value in attribute.g.output)


def _quantised(model: onnx.ModelProto, layers: Sequence[str], pictures: Sequence[Path],
               tell: Callable[[str], None]) -> onnx.ModelProto:
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    quiet = logging.getLogger()
    level = quiet.level
    with tempfile.TemporaryDirectory() as folder:
        plain, lower = Path(folder) / 'plain.onnx', Path(folder) / 'int8.onnx'
        # Symbolic shapes come to no end over loops, and layers need none of them.
        _give_own_biases(model, layers)
        quiet.setLevel(logging.ERROR)
        # It warns of thresholds that a call may change, and of weights that it has copied. 2 is its own default.
        onnxruntime.set_default_logger_severity(3)
        try:
            quant_pre_process(model, plain, skip_optimization=True, skip_symbolic_shape=True)
            quantize_static(
                plain, lower, _Pictures(pictures, tell), quant_format=QuantFormat.QDQ, nodes_to_quantize=list(layers),
                op_types_to_quantize=list(_LAYERS), per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
                # Without these instructions two products of 8 bits overflow 16, unless weights have 7.
                reduce_range=not _has_vnni(),
                # A file that the layers' ranges are averaged over has outliers, which would coarsen all others.
                extra_options=dict(CalibMovingAverage=True))
        finally:
            quiet.setLevel(level)
            onnxruntime.set_default_logger_severity(2)
        return onnx.load(lower)


def _give_own_biases(model: onnx.ModelProto, layers: Sequence[str]) -> None:
    """Copy biases that several layers share: onnxruntime numbers copies of its own without looking at other names."""
    constants = {value.name: value for value in model.graph.initializer}
    chosen = set(layers)
    for node in model.graph.node:
        if node.name in chosen and len(node.input) > 2 and node.input[2] in constants:
            own = model.graph.initializer.add()
            own.CopyFrom(constants[node.input[2]])
            own.name = f'{node.name}/bias'
            node.input[2] = own.name


def _has_vnni() -> bool:
    try:
        return 'vnni' in Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return False


def check_pictures(files: Sequence[Path]) -> None:
    """Check that ``'int8'`` has something to find the ranges of activations with, before all that comes first is done.

    Args:
        files: The pictures.

    Raises:
        ValueError: There are none, or none that would be taken can be read.
    """
    failed: list[Exception] = []
    for file in _taken(files):
        try:
            read_image(file)
            return
        except (OSError, ValueError) as error:
            failed.append(error)
    if failed:
        raise ValueError(f'None of the {len(failed)} pictures of --calibrate can be read, the first one since: '
                         f'{failed[0]}')
    raise ValueError('int8 finds the ranges of activations by pictures: name a folder of them with --calibrate, some '
                     'of those that the model was trained with.')


def _taken(files: Sequence[Path]) -> list[Path]:
    # Folders have their classes one after the other.
    count = min(len(files), _MOST_PICTURES)
    return [files[i * len(files) // count] for i in range(count)]


class _Pictures:
    """Pictures as onnxruntime's calibration reads them, with a progress bar."""

    def __init__(self, files: Sequence[Path], tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._inputs = self._read(_taken(files))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)

    def _read(self, files: Sequence[Path]) -> Iterator[dict[str, np.ndarray]]:
        from rich.progress import track
        for file in track(files, 'calibrating'):
            try:
                picture = read_image(file)
            except (OSError, ValueError) as error:
                self._tell(f'Left out: {error}')
                continue
            yield dict(images=np.ascontiguousarray(picture[None, ..., ::-1]))
