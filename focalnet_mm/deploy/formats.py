"""Writing modules as ONNX, TorchScript and PT2, for images of any number, height and width, and opening them again."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbone import block
from ..installed import MissingExtraError
from ..releases import HAS_EXPORT, needs
from .layers import DeformableAttention, PatchEmbed, PixelDecoder
from .part import Part
from .whole.operators import translations

__all__ = ['FORMATS', 'check_installed', 'open_file', 'write_file']

#: Format → ending of its files.
FORMATS = {'onnx': '.onnx', 'torchscript': '.pt', 'pt2': '.pt2'}
# Protocol buffers end at 2 GiB; weights beyond that go to a file of their own.
_INLINE_BYTES = 1 << 30
# What makes tensors of the sizes of maps and numbers of those again → the same for sizes that are left open.
_DEFORMABLE: dict[str, Callable[[Any], nn.Module]] = dict(
    MultiScaleDeformableAttention=DeformableAttention, MSDeformAttnPixelDecoder=PixelDecoder)


def check_installed(to: str) -> None:
    """Check that what a format needs is installed.

    Raises:
        ModuleNotFoundError: It is not.
        OldTorchError: PyTorch is too old for it.
    """
    if to != 'torchscript':
        needs('2.7', f'Export to {to}', 'try --to torchscript.', HAS_EXPORT)
    needed = ('onnx', 'onnxscript', 'onnxruntime') if to == 'onnx' else ()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f'ONNX needs {" and ".join(missing)}: pip install "focalnet-mm[onnx]".')


def write_file(part: Part, images: Tensor, file: Path, to: str, facts: Mapping[str, str],
               carriers: Sequence[str] = ()) -> None:
    """Write a part of a model.

    Args:
        part: Its module, the names of what that returns, and its other inputs.
        images: Images (N, C, H, W) to trace it with, two or more.
        file: Where to.
        to: One of :data:`FORMATS`.
        facts: What the file says of itself.
        carriers: The names of the inputs besides of which the shape alone counts (see :class:`Part`); in ONNX alone.
    """
    with _exportable(part.module, to):
        if to == 'onnx':
            _write_onnx(part, images, file, dict(facts), carriers)
        else:
            {'torchscript': _write_torchscript, 'pt2': _write_pt2}[to](part.module, images, file, dict(facts))


def open_file(file: Path, to: str) -> Callable[..., Sequence[Tensor]]:
    """What was written, as a function of images, and of other inputs by their names."""
    if to == 'torchscript':
        return torch.jit.load(str(file))
    if to == 'pt2':
        return torch.export.load(str(file)).module()
    import onnxruntime
    options = onnxruntime.SessionOptions()
    # It warns of every input that has a default.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])

    def run(images: Tensor, **inputs: Tensor) -> list[Tensor]:
        given = {name: value.numpy() for name, value in dict(inputs, images=images).items()}
        return [torch.from_numpy(found) for found in session.run(None, given)]
    return run


def _write_onnx(part: Part, images: Tensor, file: Path, facts: dict[str, str], carriers: Sequence[str]) -> None:
    size = sum(tensor.nbytes for tensor in (*part.module.parameters(), *part.module.buffers()))
    open_sizes: dict[str, Any] = dict(images={0: 'N', 2: 'H', 3: 'W'})
    height, width = images.shape[2:]
    sizes = dict(inside=(height - 3, width - 5), original=(2 * height + 1, 2 * width - 1),
                 resized=(height - 7, width - 11))
    others = {name: torch.zeros(sizes[name], dtype=torch.uint8) for name in carriers}
    open_sizes.update({name: {0: f'{name}_height', 1: f'{name}_width'} for name in others})
    for name, default in part.inputs.items():
        # One row an image, or one for all of them.
        others[name] = default.expand(len(images), *default.shape[1:]) if default.dim() else default
        open_sizes[name] = {0: 'N'} if default.dim() else None
    with contextlib.redirect_stdout(None):
        program = torch.onnx.export(
            part.module, (images,), kwargs=others, dynamo=True, output_names=list(part.names),
            dynamic_shapes=open_sizes, custom_translation_table=translations(), verbose=False, optimize=False)
    # Only without dynamo there is none.
    assert program is not None
    _simplify(program.model)
    _name_places(program.model.graph.outputs)
    for value in program.model.graph.inputs:
        name = str(value.name)
        if name in part.inputs:
            _set_default(program.model.graph, value, part.inputs[name])
    given_out = set(program.model.graph.outputs)
    for node in program.model.graph.all_nodes():
        # Where in whose files it was called from.
        node.metadata_props.clear()
        for value in node.outputs:
            # What was traced takes a length of one at the sizes of the trial for one at all sizes, and a row of an
            # input for one of each image. onnxruntime shares memory by what is declared; it finds shapes by itself.
            if value not in given_out:
                value.shape = None
    # Where in the sources of torch and of the user each node comes from, a third of a small file.
    for node in program.model.graph:
        node.metadata_props.clear()
    program.model.metadata_props.update(facts)
    program.save(str(file), external_data=size > _INLINE_BYTES)


def _simplify(model: Any) -> None:
    """Compute what is constant, and leave out what is not used or stands there twice.

    torch's own ``optimize`` looks for hundreds of patterns at each node besides, a quarter of the time that the export
    of a detector takes, for what onnxruntime finds as it opens a file.
    """
    from onnx_ir import passes
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants
    common.InlinePass()(model)
    fold_constants(model)
    passes.Sequential(
        common.RemoveUnusedNodesPass(), common.RemoveUnusedFunctionsPass(), common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(), common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(), common.OutputFixPass(), common.NameFixPass())(model)


def _name_places(outputs: Sequence[Any]) -> None:
    """Call sizes that depend on values, which torch numbers, what they all are: how many places there are for boxes."""
    import onnx_ir
    for value in outputs:
        value.shape = onnx_ir.Shape(['K' if re.fullmatch(r'u\d+', str(getattr(dim, 'value', dim))) else dim
                                     for dim in value.shape])


def _set_default(graph: Any, value: Any, default: Tensor) -> None:
    """Let an input have a value where none is given: an initialiser that is an input too."""
    import onnx_ir
    value.const_value = onnx_ir.tensor(default.numpy(), name=value.name)
    if default.dim():
        value.shape = onnx_ir.Shape([None, *default.shape[1:]])
    graph.register_initializer(value)


def _write_torchscript(module: nn.Module, images: Tensor, file: Path, facts: dict[str, str]) -> None:
    traced = torch.jit.trace(module, images, check_trace=False)
    torch.jit.save(traced, str(file), _extra_files=facts)


def _write_pt2(module: nn.Module, images: Tensor, file: Path, facts: dict[str, str]) -> None:
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(module, (images,), dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},))
    torch.export.save(program, str(file), extra_files=facts)


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


class _Upsample(nn.Module):
    """mmseg's ``Upsample`` by a whole factor, without making numbers of sizes."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.how = dict(scale_factor=original.scale_factor, mode=original.mode, align_corners=original.align_corners)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, **self.how)


class _Pointwise(nn.Module):
    """A linear layer on maps (N, H, W, C) as a convolution, which onnxruntime runs with its bias, a MatMul without."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            return F.linear(x, self.weight, self.bias)
        return F.conv2d(x.permute(0, 3, 1, 2), self.weight[:, :, None, None], self.bias).permute(0, 2, 3, 1)


def _in_place_of(child: Any, to: str) -> nn.Module | None:
    """What computes the same for sizes that are left open, where a module does not, or faster in a format."""
    if to == 'onnx' and type(child) is nn.Linear and _is_plain(child):
        return _Pointwise(child)
    if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
        return _AdaptiveAvgPool(child.output_size if isinstance(child.output_size, tuple) else (child.output_size,) * 2)
    if type(child) is block.PatchEmbed and to != 'torchscript' and PatchEmbed.fits(child):
        return PatchEmbed(child)
    kind = type(child)
    if kind.__name__ in _DEFORMABLE and kind.__module__.startswith(('mmcv.', 'mmdet.')):
        return _DEFORMABLE[kind.__name__](child)
    if kind.__name__ == 'Upsample' and kind.__module__.startswith('mmseg.') and not child.size and (
            isinstance(child.scale_factor, float) and child.scale_factor.is_integer()):
        return _Upsample(child)
    return None


def _is_plain(layer: nn.Linear) -> bool:
    """Whether a layer computes what its weight and bias say and nothing else."""
    return layer.bias is not None and 'forward' not in vars(layer) and not (
        layer._forward_hooks or layer._forward_pre_hooks)


@contextlib.contextmanager
def _exportable(module: nn.Module, to: str) -> Iterator[None]:
    """Put what suits a format, and leaves sizes open, in the place of what does not."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            other = _in_place_of(child, to)
            if other is not None:
                replaced.append((parent, name, child))
                setattr(parent, name, other)
    try:
        with _silent_resize():
            yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


@contextlib.contextmanager
def _silent_resize() -> Iterator[None]:
    """Keep mmseg from making numbers of sizes that are left open, for a warning about align_corners."""
    try:
        from mmseg.models.utils import resize
    except ImportError:
        yield
        return
    before: Any = resize.__defaults__
    resize.__defaults__ = (*before[:-1], False)
    try:
        yield
    finally:
        resize.__defaults__ = before
