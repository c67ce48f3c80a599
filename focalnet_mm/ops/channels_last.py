"""FocalNet's block over channels-last memory, for CPUs: the numbers of the reference in less time and memory.

Pointwise layers run over pieces of the feature map that stay in the cache, so that what lies between two of them is
never as large as the map. Training keeps what is dear to compute (the context, the levels and the hidden layer before
their activation) and recomputes what is cheap (norms, activations, the query and the modulator). docs/performance.md
tells what each of this gains.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..focalnet import Block

__all__ = ['compute_block']

# Bytes of the hidden layer at a time: far below the 32 MB from which on glibc takes fresh pages from the system for
# every allocation, and so many rows that reordering the weights, which oneDNN does in every call, does not count.
_PIECE_BYTES = 12 << 20
# From which kernel on a transposed convolution is the faster one, and its weights' gradient in square tiles, whichever
# of these sizes pads the map less, with so many bytes of patches at a time.
_TRANSPOSED_FROM = 9
_TILED_FROM = 5
_TILES = (8, 7)
_PATCH_BYTES = 2 << 20
# A 1×1 convolution with GELU in one operator, which torch.compile uses. It is not public: where it is missing, the two
# steps do.
_CONVOLUTION_GELU = getattr(torch.ops.mkldnn, '_convolution_pointwise', None) if torch.backends.mkldnn.is_available() \
    else None


def compute_block(block: Block, x: Tensor, dtype: torch.dtype) -> Tensor:
    """What a block computes, with a graph for first derivatives where they are wanted.

    Args:
        block: The block, without dropout.
        x: Feature map (N, C, H, W) in channels-last memory.
        dtype: In which to compute convolutions and linear layers; norms and residual sums stay as they are.

    Returns:
        Feature map (N, C, H, W) in channels-last memory.

    Raises:
        RuntimeError: A second derivative is asked for.
    """
    modulation, mlp = block.modulation, block.mlp
    norms, parameters = [block.norm1, block.norm2], []
    if isinstance(modulation.ln, nn.LayerNorm):
        norms.append(modulation.ln)
    for layer in (modulation.f, modulation.h, modulation.proj, mlp.fc1, mlp.fc2, *norms):
        parameters += [layer.weight, layer.bias]
    kernels = [layer[0].weight for layer in modulation.focal_layers]
    scales = [] if block.gamma_1 is None else [block.gamma_1, block.gamma_2]
    drops = []
    if block.training and not isinstance(block.drop_path, nn.Identity):
        drops = [block.drop_path(x.new_ones(len(x), 1, 1, 1, dtype=dtype)) for _ in range(2)]
    keep = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (x, *parameters, *kernels, *scales))
    # torch.compile takes the whole as one operator; called without it or a graph, that would only cost time.
    run = _block if keep or torch.compiler.is_compiling() else _compute_block
    return run(x, parameters, kernels, scales, drops, [norm.eps for norm in norms], block.post_norm,
               modulation.normalize_modulator, dtype, keep)[0]


class _Parts(NamedTuple):
    """The parameters of a block as (weight, bias), linear layers in the data type of computing."""

    f: tuple[Tensor, Tensor]
    h: tuple[Tensor, Tensor]
    proj: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]
    norm1: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    inner_norm: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, parameters: list[Tensor], dtype: torch.dtype) -> _Parts:
        pairs = list(zip(parameters[::2], parameters[1::2]))
        return cls(*((weight.flatten(1).to(dtype), bias.to(dtype)) for weight, bias in pairs[:5]), *pairs[5:])


class _Kept(NamedTuple):
    """What the backward pass needs besides input and parameters, each (N · H · W, ·)."""

    #: ``Z⁰``.
    context: Tensor
    #: ``G``.
    gates: Tensor
    #: ``Zᵒᵘᵗ``.
    aggregated: Tensor
    #: ``Zˡ`` before their activation.
    levels: list[Tensor]
    #: The map between modulation and MLP.
    half: Tensor
    #: The results of modulation and MLP, where a norm or a layer scale follows.
    branches: list[Tensor]
    #: The hidden layer of the MLP before its activation, in pieces.
    hidden: list[Tensor]

    def flat(self) -> list[Tensor]:
        return [self.context, self.gates, self.aggregated, self.half, *self.levels, *self.branches, *self.hidden]

    @classmethod
    def of(cls, flat: list[Tensor], levels: int, branches: int) -> _Kept:
        context, gates, aggregated, half, *rest = flat
        return cls(context, gates, aggregated, rest[:levels], half, rest[levels:levels + branches],
                   rest[levels + branches:])


def _kept_branches(scales: list[Tensor], post_norm: bool) -> int:
    """How many results of modulation and MLP the backward pass needs."""
    return 2 if post_norm or scales else 0


def _residual_dtype(x: Tensor, scales: list[Tensor]) -> torch.dtype:
    """That of the residual sums: a layer scale in float32 raises them to it, under autocast too."""
    return torch.promote_types(x.dtype, scales[0].dtype) if scales else x.dtype


def _modulation_input(rows: Tensor, parts: _Parts, eps: list[float], post_norm: bool, dtype: torch.dtype) -> Tensor:
    return (rows if post_norm else _normalize(rows, parts.norm1, eps[0])[0]).to(dtype)


def _compute_block(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                   drops: list[Tensor], eps: list[float], post_norm: bool, normalize: bool, dtype: torch.dtype,
                   keep: bool) -> list[Tensor]:
    """The block's output and, if told to, what its backward pass needs."""
    parts = _Parts.of(parameters, dtype)
    rows = _rows(x)
    channels, hidden = rows.shape[1], len(parts.fc1[0])
    query, context_gates = zip(*(parameter.split((channels, len(parameter) - channels)) for parameter in parts.f))
    drops = [_per_row(drop, x) for drop in drops]

    def residual(base: Tensor, branch: Tensor, piece: slice, i: int, out: Tensor) -> None:
        if post_norm:
            branch = _normalize(branch.to(rows.dtype), (parts.norm1, parts.norm2)[i], eps[i])[0]
        if scales:
            branch = scales[i] * branch
        if drops:
            branch = branch * drops[i][piece]
        torch.add(base, branch, out=out)

    context = rows.new_empty(rows.shape, dtype=dtype)
    gates = rows.new_empty(len(rows), len(kernels) + 1, dtype=dtype)
    for piece in _pieces(rows, hidden, dtype):
        context[piece], gates[piece] = _linear(
            _modulation_input(rows[piece], parts, eps, post_norm, dtype), *context_gates).split(
                (channels, gates.shape[1]), 1)
    aggregated, levels = _aggregate(_as_map(context, x), _as_map(gates, x), [kernel.to(dtype) for kernel in kernels],
                                    normalize, keep)
    aggregated = _rows(aggregated)

    out = torch.empty_like(rows, dtype=_residual_dtype(rows, scales))
    kept = _Kept(context, gates, aggregated, [_rows(level) for level in levels], torch.empty_like(out),
                 [torch.empty_like(context) for _ in range(_kept_branches(scales, post_norm))], []) if keep else None
    for piece in _pieces(rows, hidden, dtype):
        queries = _linear(_modulation_input(rows[piece], parts, eps, post_norm, dtype), *query)
        branch = _linear(aggregated[piece], *parts.h).mul_(queries)
        if parts.inner_norm:
            branch = _normalize(branch.to(rows.dtype), parts.inner_norm, eps[2])[0].to(dtype)
        branch = _linear(branch, *parts.proj)
        half = kept.half[piece] if kept else torch.empty_like(out[piece])
        residual(rows[piece], branch, piece, 0, out=half)
        if kept and kept.branches:
            kept.branches[0][piece] = branch
        branch = (half if post_norm else _normalize(half, parts.norm2, eps[1])[0]).to(dtype)
        if kept:
            kept.hidden.append(_linear(branch, *parts.fc1))
            if len(kept.hidden) == 1:
                activated = torch.empty_like(kept.hidden[0])
            branch = torch.ops.aten.gelu.out(kept.hidden[-1], out=activated[:len(branch)])
        else:
            branch = _linear_gelu(branch, *parts.fc1)
        branch = _linear(branch, *parts.fc2)
        residual(half, branch, piece, 1, out=out[piece])
        if kept and kept.branches:
            kept.branches[1][piece] = branch
    return [_as_map(out, x), *(kept.flat() if kept else [])]


# Operators of their own are whole for torch.compile, which would unroll the pieces, and fuse less, otherwise.
_block = torch.library.custom_op('focalnet_mm::block', _compute_block, mutates_args=())


@_block.register_fake
def _(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor], drops: list[Tensor],
      eps: list[float], post_norm: bool, normalize: bool, dtype: torch.dtype, keep: bool) -> list[Tensor]:
    out = torch.empty_like(x, dtype=_residual_dtype(x, scales), memory_format=torch.channels_last)
    if not keep:
        return [out]
    rows, levels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]), len(kernels)
    hidden = len(_Parts.of(parameters, dtype).fc1[0])
    context, aggregated, *maps = (torch.empty_like(rows, dtype=dtype)
                                  for _ in range(2 + levels + _kept_branches(scales, post_norm)))
    return [out, *_Kept(
        context, rows.new_empty(len(rows), levels + 1, dtype=dtype), aggregated, maps[:levels],
        torch.empty_like(rows, dtype=out.dtype), maps[levels:],
        [rows.new_empty(piece.stop - piece.start, hidden, dtype=dtype) for piece in _pieces(rows, hidden, dtype)],
    ).flat()]


@torch.library.custom_op('focalnet_mm::block_backward', mutates_args=())
def _block_backward(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                    drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool, normalize: bool,
                    dtype: torch.dtype) -> list[Tensor]:
    """Gradients of the input, the parameters, the kernels and the layer scales."""
    parts = _Parts.of(parameters, dtype)
    context, gates, aggregated, levels, half, branches, hidden = _Kept.of(
        kept, len(kernels), _kept_branches(scales, post_norm))
    rows, grad_rows = _rows(x), _rows(grad.contiguous(memory_format=torch.channels_last))
    channels = rows.shape[1]
    query = [parameter[:channels] for parameter in parts.f]
    f, h, proj, fc1, fc2 = (weight.t().contiguous() for weight, _ in parts[:5])
    drops = [_per_row(drop, x) for drop in drops]
    grads: dict[str, list[Tensor]] = {}

    def collect(name: str, *found: Tensor) -> None:
        """Add gradients of some rows to those of the rows before."""
        if name not in grads:
            grads[name] = [part.to(parameters[0].dtype) for part in found]
        else:
            for total, part in zip(grads[name], found, strict=True):
                total += part

    def linear_backward(name: str, grad: Tensor, given: Tensor) -> None:
        collect(name, _weight_grad(grad, given), grad.sum(0))

    def norm_backward(name: str, grad: Tensor, given: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        grad, *found = torch.ops.aten.native_layer_norm_backward(
            grad.to(given.dtype), given, [channels], mean, rstd, *getattr(parts, name), [True, True, True])
        collect(name, *found)
        return grad

    def residual_backward(grad: Tensor, piece: slice, i: int) -> Tensor:
        """The gradient of what modulation (0) or MLP (1) returned."""
        name = ('norm1', 'norm2')[i]
        if drops:
            grad = grad * drops[i][piece]
        if branches:
            branch = branches[i][piece].to(rows.dtype)
            normed, mean, rstd = _normalize(branch, getattr(parts, name), eps[i]) if post_norm else (branch, None, None)
            if scales:
                collect(f'scale{i}', (grad * normed).sum(0))
                grad = grad * scales[i]
            if post_norm:
                grad = norm_backward(name, grad, branch, mean, rstd)
        return grad.to(dtype)

    grad_x, grad_query, grad_aggregated = (torch.empty_like(tensor) for tensor in (grad_rows, context, context))
    activated = torch.empty_like(hidden[0])
    for piece, before in zip(_pieces(rows, len(fc2), dtype), hidden, strict=True):
        grad_branch = residual_backward(grad_rows[piece], piece, 1)
        linear_backward('fc2', grad_branch, torch.ops.aten.gelu.out(before, out=activated[:len(before)]))
        grad_branch = _linear(grad_branch, fc2, None)
        torch.ops.aten.gelu_backward.grad_input(grad_branch, before, grad_input=grad_branch)
        given = half[piece]
        if post_norm:
            linear_backward('fc1', grad_branch, given.to(dtype))
            grad_half = grad_rows[piece] + _linear(grad_branch, fc1, None)
        else:
            normed, mean, rstd = _normalize(given, parts.norm2, eps[1])
            linear_backward('fc1', grad_branch, normed.to(dtype))
            grad_half = grad_rows[piece] + norm_backward('norm2', _linear(grad_branch, fc1, None), given, mean, rstd)
        grad_x[piece] = grad_half

        grad_branch = residual_backward(grad_half, piece, 0)
        modulator = _linear(aggregated[piece], *parts.h)
        queries = _linear(_modulation_input(rows[piece], parts, eps, post_norm, dtype), *query)
        product = modulator * queries
        if parts.inner_norm:
            product = product.to(rows.dtype)
            normed, mean, rstd = _normalize(product, parts.inner_norm, eps[2])
            linear_backward('proj', grad_branch, normed.to(dtype))
            grad_branch = norm_backward(
                'inner_norm', _linear(grad_branch, proj, None), product, mean, rstd).to(dtype)
        else:
            linear_backward('proj', grad_branch, product)
            grad_branch = _linear(grad_branch, proj, None)
        torch.mul(grad_branch, modulator, out=grad_query[piece])
        grad_branch = grad_branch.mul_(queries)
        linear_backward('h', grad_branch, aggregated[piece])
        grad_aggregated[piece] = _linear(grad_branch, h, None)

    grad_context, grad_gates, grad_kernels = _aggregate_backward(
        *(_as_map(tensor, x) for tensor in (grad_aggregated, context, gates)),
        [kernel.to(dtype) for kernel in kernels], [_as_map(level, x) for level in levels], normalize)
    for piece in _pieces(rows, len(fc2), dtype):
        grad_f = torch.cat([grad_query[piece], grad_context[piece], grad_gates[piece]], 1)
        given = rows[piece]
        if post_norm:
            linear_backward('f', grad_f, given.to(dtype))
            grad_x[piece] += _linear(grad_f, f, None)
        else:
            normed, mean, rstd = _normalize(given, parts.norm1, eps[0])
            linear_backward('f', grad_f, normed.to(dtype))
            grad_x[piece] += norm_backward('norm1', _linear(grad_f, f, None), given, mean, rstd)

    found = [grad for name, part in zip(parts._fields, parts) if part for grad in grads[name]]
    return [_as_map(grad_x, x).to(x.dtype),
            *(grad.view_as(parameter) for grad, parameter in zip(found, parameters, strict=True)),
            *(grad.to(kernel.dtype) for grad, kernel in zip(grad_kernels, kernels, strict=True)),
            *(grads[f'scale{i}'][0] for i in range(len(scales)))]


@_block_backward.register_fake
def _(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
      drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool, normalize: bool,
      dtype: torch.dtype) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.channels_last),
            *(torch.empty_like(tensor, memory_format=torch.contiguous_format)
              for tensor in (*parameters, *kernels, *scales))]


def _save_block(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, *lists, eps, post_norm, normalize, dtype, _ = inputs
    # Nothing but the block's output has a gradient; zeros for the rest would be as large as all that is kept.
    ctx.set_materialize_grads(False)
    ctx.lengths = [len(tensors) for tensors in lists]
    ctx.settings = eps, post_norm, normalize, dtype
    ctx.save_for_backward(x, *itertools.chain(*lists), *output[1:])


def _differentiate_block(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    if grads[0] is None:
        return None, *([None] * length for length in ctx.lengths), None, None, None, None, None
    x, *saved = ctx.saved_tensors
    saved = iter(saved)
    lists = [list(itertools.islice(saved, length)) for length in ctx.lengths]
    grad_x, *found = _block_backward(grads[0], x, *lists, list(saved), *ctx.settings)
    found = iter(found)
    parameters, kernels, scales = (list(itertools.islice(found, length)) for length in ctx.lengths[:3])
    return grad_x, parameters, kernels, scales, [None] * ctx.lengths[3], None, None, None, None, None


_block.register_autograd(_differentiate_block, setup_context=_save_block)


def _aggregate(context: Tensor, gates: Tensor, kernels: list[Tensor], normalize: bool,
               keep: bool) -> tuple[Tensor, list[Tensor]]:
    """Focal aggregation (arXiv 2203.11926v3, equations 4 and 5), over maps: ``Zᵒᵘᵗ`` and, if told to keep them, the
    levels before their activation. Otherwise it overwrites the context."""
    *level_gates, global_gate = _scaled_gates(gates, normalize).split(1, 1)
    levels, current, buffer = [], context, torch.empty_like(context) if keep else context
    aggregated: Tensor | None = None
    for kernel, gate in zip(kernels, level_gates):
        level = _depthwise(current, kernel)
        current = torch.ops.aten.gelu.out(level, out=buffer)
        if keep:
            levels.append(level)
        aggregated = current * gate if aggregated is None else aggregated.addcmul_(current, gate)
    summary = F.gelu(current.mean((2, 3), keepdim=True))
    aggregated = summary * global_gate if aggregated is None else aggregated.addcmul_(summary, global_gate)
    return aggregated, levels


def _aggregate_backward(grad: Tensor, context: Tensor, gates: Tensor, kernels: list[Tensor], levels: list[Tensor],
                        normalize: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of context and gates, each (N · H · W, ·), and of the kernels."""
    gates = _scaled_gates(gates, normalize)
    *level_gates, global_gate = gates.split(1, 1)
    grad_rows = _rows(grad)
    count, channels, height, width = context.shape
    buffer = torch.empty_like(context) if levels else context
    current = torch.ops.aten.gelu.out(levels[-1], out=buffer) if levels else context
    mean = current.mean((2, 3), keepdim=True)
    by_sample = grad_rows.view(count, height * width, channels)
    grad_gates = grad_rows.new_empty(len(grad_rows), gates.shape[1])
    grad_gates[:, -1] = (by_sample @ F.gelu(mean)[..., 0]).flatten()
    grad_mean = global_gate.reshape(count, 1, -1) @ by_sample
    grad_mean = torch.ops.aten.gelu_backward(grad_mean.view(mean.shape), mean)
    below = (grad_mean / (height * width)).expand_as(context).contiguous(memory_format=torch.channels_last)
    grad_kernels = []
    above_rows = torch.empty_like(grad_rows)
    for i in reversed(range(len(levels))):
        below_rows, current_rows, level_rows = map(_rows, (below, current, levels[i]))
        gate_rows = level_gates[i].reshape(-1, 1)
        for piece in _pieces(grad_rows, 4 * channels, grad.dtype):
            grad_gates[piece, i] = (grad_rows[piece] * current_rows[piece]).sum(1)
            above = torch.addcmul(below_rows[piece], grad_rows[piece], gate_rows[piece])
            above_rows[piece] = torch.ops.aten.gelu_backward(above, level_rows[piece])
        above = _as_map(above_rows, context)
        current = context if i == 0 else torch.ops.aten.gelu.out(levels[i - 1], out=buffer)
        grad_kernels.append(_depthwise_weight_grad(current, above, kernels[i]).contiguous())
        below = _depthwise(above, kernels[i].flip(2, 3))
    return _rows(below), grad_gates.div_(gates.shape[1]) if normalize else grad_gates, grad_kernels[::-1]


def _scaled_gates(gates: Tensor, normalize: bool) -> Tensor:
    """Dense maps of the gates, a normalised modulator's divisor among them."""
    return gates / gates.shape[1] if normalize else gates.contiguous()


def _normalize(rows: Tensor, parameters: tuple[Tensor, Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalisation, its mean and its inverse deviation."""
    return torch.ops.aten.native_layer_norm(rows, [rows.shape[1]], *parameters, eps)


def _weight_grad(grad: Tensor, given: Tensor) -> Tensor:
    """The gradient of a linear layer's weight; in float32 oneDNN's convolutions are twice as fast as torch.mm."""
    if grad.dtype != torch.float32:
        return grad.t() @ given
    weight = grad.new_empty(1).expand(grad.shape[1], given.shape[1], 1, 1)
    return torch.ops.aten.convolution_backward(
        _as_column(grad), _as_column(given), weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
        [False, True, False])[1].flatten(1)


def _pieces(rows: Tensor, hidden: int, dtype: torch.dtype) -> Iterator[slice]:
    """Equal parts of the rows, so that the hidden layer of each stays below the limit."""
    count = -(-len(rows) * hidden * dtype.itemsize // _PIECE_BYTES)
    size = -(-len(rows) // count)
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) in channels-last memory → (N · H · W, C), a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """(N · H · W, C) → (N, C, H, W) with the N, H and W of another map, in channels-last memory, a view."""
    count, _, height, width = like.shape
    return rows.view(count, height, width, rows.shape[1]).permute(0, 3, 1, 2)


def _per_row(x: Tensor, like: Tensor) -> Tensor:
    """(N, 1, 1, 1) → (N · H · W, 1) with the H and W of a map."""
    return x.expand(-1, 1, *like.shape[2:]).reshape(-1, 1)


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer as the 1×1 convolution that it is, which is more than twice as fast as F.linear here."""
    out = F.conv2d(_as_column(rows), weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(len(rows), len(weight))


def _linear_gelu(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if _CONVOLUTION_GELU is None or rows.dtype not in (torch.float32, torch.bfloat16):
        return torch.ops.aten.gelu_(_linear(rows, weight, bias))
    out = _CONVOLUTION_GELU(_as_column(rows), weight[:, :, None, None], bias, [0, 0], [1, 1], [1, 1], 1, 'gelu', [],
                            'none')
    return out.permute(0, 2, 3, 1).reshape(len(rows), len(weight))


def _as_column(rows: Tensor) -> Tensor:
    """(R, C) → (1, C, R, 1) in channels-last memory."""
    return rows.view(1, len(rows), 1, rows.shape[1]).permute(0, 3, 1, 2)


def _depthwise(x: Tensor, weight: Tensor) -> Tensor:
    """A depthwise convolution that keeps the size; oneDNN transposes large kernels up to five times as fast."""
    kernel, channels = weight.shape[-1], len(weight)
    if kernel < _TRANSPOSED_FROM:
        return F.conv2d(x, weight, padding=kernel // 2, groups=channels)
    return F.conv_transpose2d(x, weight.flip(2, 3), padding=kernel // 2, groups=channels)


def _depthwise_weight_grad(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a depthwise kernel: the correlation of input (N, C, H, W) and output gradient, k × k values.

    oneDNN's operator for it does not use the vector units for kernels from 5 on. A depthwise convolution does, so the
    gradient is cut into tiles, each of them a kernel for its part of the input and each tile's channels channels of
    their own; the results of the tiles are summed.
    """
    count, channels, height, width = x.shape
    kernel = weight.shape[-1]
    if kernel < _TILED_FROM or x.dtype not in (torch.float32, torch.bfloat16):
        margin = [kernel // 2] * 2
        return torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], margin, [1, 1], False, [0, 0], channels, [False, True, False])[1]
    tile = min(_TILES, key=lambda tile: -(-width // tile) * -(-height // tile) * tile**2)
    across, down, margin = -(-width // tile), -(-height // tile), kernel // 2
    right, side = across * tile - width, tile + kernel - 1
    # As many rows of tiles, and images where a whole one is small, as their patches stay below the limit.
    row_bytes = side * side * across * channels * x.element_size()
    rows = max(1, min(down, _PATCH_BYTES // row_bytes))
    images = max(1, min(count, _PATCH_BYTES // (row_bytes * down))) if rows == down else 1
    x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    total = torch.zeros(kernel, kernel, channels, dtype=torch.float32)
    for first in range(0, count, images):
        for top in range(0, height, rows * tile):
            bottom = min(top + rows * tile, down * tile)
            above, below = max(0, top - margin), min(height, bottom + margin)
            part = F.pad(x[first:first + images, above:below],
                         (0, 0, margin, margin + right, above - (top - margin), bottom + margin - below))
            image, row, column, _ = part.stride()
            tiles = (len(part), (bottom - top) // tile, across)
            patches = part.as_strided((side, side, *tiles, channels),
                                      (row, column, image, tile * row, tile * column, 1))
            patches = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)
            kernels = F.pad(grad[first:first + images, top:bottom], (0, 0, 0, right, 0, max(0, bottom - height)))
            kernels = kernels.reshape(*tiles[:2], tile, across, tile, channels).permute(0, 1, 3, 5, 2, 4)
            kernels = kernels.reshape(-1, 1, tile, tile)
            sums = F.conv2d(patches, kernels, groups=len(kernels)).permute(0, 2, 3, 1)
            total += sums.reshape(kernel, kernel, -1, channels).sum(2, dtype=torch.float32)
    return total.permute(2, 0, 1)[:, None].to(weight.dtype)
