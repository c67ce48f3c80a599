"""FocalNet's block over channels-last memory, for CPUs: the numbers of the reference in less time and memory.

Pointwise layers run over pieces of the feature map that stay in the cache, so that what lies between two of them is
never as large as the map. Training keeps what is dear to compute and recomputes what is cheap: of the MLP it keeps the
hidden layer before its activation, of focal aggregation the levels before theirs. docs/performance.md tells what each
of this gains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..focalnet import Block

__all__ = ['aggregate', 'block_inference', 'block_training']

# Bytes of the hidden layer at a time: small enough for the cache, and far below the 32 MB from which on glibc takes
# fresh pages from the system for every allocation.
_PIECE_BYTES = 3 << 20
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


def block_inference(block: Block, x: Tensor, dtype: torch.dtype) -> Tensor:
    """What a block computes, without a graph for gradients.

    Args:
        block: The block, without dropout or stochastic depth at work.
        x: Feature map (N, C, H, W) in channels-last memory.
        dtype: In which to compute convolutions and linear layers; norms and residual sums stay as they are.

    Returns:
        Feature map (N, C, H, W) in channels-last memory.
    """
    modulation, mlp = block.modulation, block.mlp
    parameters = [block.norm1.weight, block.norm1.bias, block.norm2.weight, block.norm2.bias]
    for layer in (modulation.f, modulation.h, modulation.proj, mlp.fc1, mlp.fc2):
        parameters += [layer.weight, layer.bias]
    kernels = [layer[0].weight for layer in modulation.focal_layers]
    inner_norm = [modulation.ln.weight, modulation.ln.bias] if isinstance(modulation.ln, nn.LayerNorm) else []
    scales = [] if block.gamma_1 is None else [block.gamma_1, block.gamma_2]
    # torch.compile takes the whole as one operator; called without it, that would only cost time.
    run = _block if torch.compiler.is_compiling() else _compute_block
    return run(x, parameters, kernels, inner_norm, scales, block.norm1.eps, block.post_norm,
               modulation.normalize_modulator, dtype)


def _compute_block(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], inner_norm: list[Tensor],
                   scales: list[Tensor], eps: float, post_norm: bool, normalize: bool, dtype: torch.dtype) -> Tensor:
    norm1, norm2, f, h, proj, fc1, fc2 = zip(parameters[::2], parameters[1::2])
    h, proj, fc1, fc2 = ((weight.flatten(1).to(dtype), bias.to(dtype)) for weight, bias in (h, proj, fc1, fc2))
    query, context, gates = _split_f(*f, dtype)

    def norm(rows: Tensor, parameters: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
        return F.layer_norm(rows, rows.shape[1:], *parameters, eps)

    def after(branch: Tensor, parameters: tuple[Tensor, Tensor], i: int) -> Tensor:
        if post_norm:
            branch = norm(branch, parameters)
        return scales[i] * branch if scales else branch

    rows = _rows(x)
    normed = (rows if post_norm else norm(rows, norm1)).to(dtype)
    context = _as_map(_linear(normed, *context), x)
    gates = _as_map(_linear(normed, *gates), x).contiguous()
    if normalize:
        gates = gates / gates.shape[1]
    *level_gates, global_gate = gates.split(1, 1)

    aggregated: Tensor | None = None
    for kernel, gate in zip(kernels, level_gates):
        context = torch.ops.aten.gelu_(_depthwise(context, kernel.to(dtype)))
        aggregated = context * gate if aggregated is None else aggregated.addcmul_(context, gate)
    summary = F.gelu(context.mean((2, 3), keepdim=True))
    aggregated = summary * global_gate if aggregated is None else aggregated.addcmul_(summary, global_gate)
    aggregated = _rows(aggregated)

    # A layer scale in float32 raises the sum of residuals to it, under autocast too.
    out = torch.empty_like(rows, dtype=torch.promote_types(rows.dtype, scales[0].dtype) if scales else rows.dtype)
    for piece in _pieces(rows, hidden=len(fc1[0])):
        branch = _linear(aggregated[piece], *h).mul_(_linear(normed[piece], *query))
        if inner_norm:
            branch = norm(branch, inner_norm).to(dtype)
        half = rows[piece] + after(_linear(branch, *proj), norm1, 0)
        branch = (half if post_norm else norm(half, norm2)).to(dtype)
        branch = _linear(_linear_gelu(branch, *fc1), *fc2)
        torch.add(half, after(branch, norm2, 1), out=out[piece])
    return _as_map(out, x)


_block = torch.library.custom_op('focalnet_mm::block', _compute_block, mutates_args=())


@_block.register_fake
def _(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], inner_norm: list[Tensor], scales: list[Tensor],
      eps: float, post_norm: bool, normalize: bool, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(x, dtype=torch.promote_types(x.dtype, scales[0].dtype) if scales else x.dtype,
                            memory_format=torch.channels_last)


def block_training(block: Block, x: Tensor, dtype: torch.dtype) -> Tensor:
    """What a block computes, with a graph for first derivatives.

    Args:
        block: The block, without dropout.
        x: Feature map (N, C, H, W) in channels-last memory.
        dtype: In which to compute convolutions and linear layers; norms and residual sums stay as they are.

    Returns:
        Feature map (N, C, H, W) in channels-last memory.
    """
    modulation, mlp = block.modulation, block.mlp
    normed = x if block.post_norm else _as_map(_norm(block.norm1, _rows(x)), x)
    normed = normed.to(dtype)
    query, context, gates = (F.conv2d(normed, weight[:, :, None, None], bias)
                             for weight, bias in _split_f(modulation.f.weight, modulation.f.bias, dtype))
    weights = [layer[0].weight.to(dtype) for layer in modulation.focal_layers]
    aggregated = aggregate(context, gates, weights, modulation.normalize_modulator)
    weight, bias = _parameters(modulation.h, dtype)
    branch = query * F.conv2d(aggregated, weight[:, :, None, None], bias)
    if isinstance(modulation.ln, nn.LayerNorm):
        branch = _as_map(_norm(modulation.ln, _rows(branch)), x).to(dtype)
    weight, bias = _parameters(modulation.proj, dtype)
    branch = F.conv2d(branch, weight[:, :, None, None], bias)
    x = x + block.drop_path(_scaled(block, block.norm1, block.gamma_1, branch))

    parameters = [mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias]
    if not block.post_norm:
        parameters += [block.norm2.weight, block.norm2.bias]
    branch = _mlp(x, parameters, block.norm2.eps, dtype)[0]
    return x + block.drop_path(_scaled(block, block.norm2, block.gamma_2, branch))


def aggregate(context: Tensor, gates: Tensor, weights: list[Tensor], normalize: bool = False) -> Tensor:
    """Focal aggregation (arXiv 2203.11926v3, equations 4 and 5) that keeps one tensor a level for its gradients.

    Args:
        context: ``Z⁰`` (N, C, H, W).
        gates: (N, L + 1, H, W), of the levels and of the global context.
        weights: Depthwise kernels (C, 1, k, k) of the L levels.
        normalize: Divide by L + 1.

    Returns:
        ``Zᵒᵘᵗ`` (N, C, H, W) in channels-last memory.

    Raises:
        RuntimeError: A second derivative is asked for.
    """
    return _aggregate(context, gates, weights, normalize)[0]


# Operators of their own are whole for torch.compile, which would unroll the pieces, and fuse less, otherwise.
@torch.library.custom_op('focalnet_mm::aggregate', mutates_args=())
def _aggregate(context: Tensor, gates: Tensor, weights: list[Tensor], normalize: bool) -> list[Tensor]:
    """``Zᵒᵘᵗ``, and each level before its activation."""
    context = context.contiguous(memory_format=torch.channels_last)
    gates = gates.contiguous()
    *level_gates, global_gate = (gates / gates.shape[1] if normalize else gates).split(1, 1)
    levels, current = [], context
    aggregated: Tensor | None = None
    for weight, gate in zip(weights, level_gates):
        levels.append(_depthwise(current, weight))
        current = _gelu(levels[-1], out=None if current is context else current)
        aggregated = current * gate if aggregated is None else aggregated.addcmul_(current, gate)
    summary = F.gelu(current.mean((2, 3), keepdim=True))
    aggregated = summary * global_gate if aggregated is None else aggregated.addcmul_(summary, global_gate)
    return [aggregated, *levels]


@_aggregate.register_fake
def _(context: Tensor, gates: Tensor, weights: list[Tensor], normalize: bool) -> list[Tensor]:
    return [torch.empty_like(context, memory_format=torch.channels_last) for _ in range(len(weights) + 1)]


@torch.library.custom_op('focalnet_mm::aggregate_backward', mutates_args=())
def _aggregate_backward(grad: Tensor, context: Tensor, gates: Tensor, weights: list[Tensor], levels: list[Tensor],
                        normalize: bool) -> list[Tensor]:
    """Gradients of context, gates and weights."""
    context, grad = (x.contiguous(memory_format=torch.channels_last) for x in (context, grad))
    gates = gates.contiguous()
    if normalize:
        grad = grad / gates.shape[1]
    grad_rows = _rows(grad)
    count, channels, height, width = context.shape
    current = F.gelu(levels[-1]) if levels else context
    mean = current.mean((2, 3), keepdim=True)
    *level_gates, global_gate = gates.split(1, 1)
    by_sample = grad_rows.view(count, height * width, channels)
    grad_gates = torch.empty_like(gates)
    grad_gates[:, -1] = (by_sample @ F.gelu(mean)[..., 0]).view(count, height, width)
    grad_mean = global_gate.reshape(count, 1, -1) @ by_sample
    grad_mean = torch.ops.aten.gelu_backward(grad_mean.view(mean.shape), mean)
    below = (grad_mean / (height * width)).expand_as(context).contiguous(memory_format=torch.channels_last)
    grad_weights = []
    above_rows = torch.empty_like(grad_rows)
    for i in reversed(range(len(levels))):
        below_rows, current_rows, level_rows = map(_rows, (below, current, levels[i]))
        gate_rows, grad_gate = level_gates[i].reshape(-1, 1), grad_gates.new_empty(len(grad_rows))
        for piece in _pieces(grad_rows, hidden=4 * channels):
            grad_gate[piece] = (grad_rows[piece] * current_rows[piece]).sum(1)
            above = torch.addcmul(below_rows[piece], grad_rows[piece], gate_rows[piece])
            above_rows[piece] = torch.ops.aten.gelu_backward(above, level_rows[piece])
        grad_gates[:, i] = grad_gate.view(count, height, width)
        above = _as_map(above_rows, context)
        current = context if i == 0 else _gelu(levels[i - 1], out=current)
        grad_weights.append(_depthwise_weight_grad(current, above, weights[i]).contiguous())
        below = _depthwise(above, weights[i].flip(2, 3))
    return [below, grad_gates, *reversed(grad_weights)]


@_aggregate_backward.register_fake
def _(grad: Tensor, context: Tensor, gates: Tensor, weights: list[Tensor], levels: list[Tensor],
      normalize: bool) -> list[Tensor]:
    return [torch.empty_like(context, memory_format=torch.channels_last),
            *(torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (gates, *weights))]


def _save_aggregation(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    context, gates, weights, ctx.normalize = inputs
    ctx.save_for_backward(context, gates, *weights, *output[1:])


def _differentiate_aggregation(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    context, gates, *rest = ctx.saved_tensors
    weights, levels = rest[:len(rest) // 2], rest[len(rest) // 2:]
    grad_context, grad_gates, *grad_weights = _aggregate_backward(
        grads[0], context, gates, weights, levels, ctx.normalize)
    return grad_context, grad_gates, grad_weights, None


_aggregate.register_autograd(_differentiate_aggregation, setup_context=_save_aggregation)


@torch.library.custom_op('focalnet_mm::mlp', mutates_args=())
def _mlp(x: Tensor, parameters: list[Tensor], eps: float, dtype: torch.dtype) -> list[Tensor]:
    """Linear layer, GELU, linear layer over a map, after a norm if its parameters follow; and the pieces of what is
    before the activation."""
    weight1, bias1, weight2, bias2 = (parameter.to(dtype) for parameter in parameters[:4])
    rows = _rows(x.contiguous(memory_format=torch.channels_last))
    out = rows.new_empty(len(rows), len(bias2), dtype=dtype)
    hidden = []
    for piece in _pieces(rows, hidden=len(bias1)):
        normed, *_ = _normalize(rows[piece], parameters[4:], eps)
        hidden.append(_linear(normed.to(dtype), weight1, bias1))
        out[piece] = _linear(F.gelu(hidden[-1]), weight2, bias2)
    return [_as_map(out, x), *hidden]


@_mlp.register_fake
def _(x: Tensor, parameters: list[Tensor], eps: float, dtype: torch.dtype) -> list[Tensor]:
    count, _, height, width = x.shape
    rows = x.new_empty(count * height * width, 1)
    out = x.new_empty(count, height, width, len(parameters[3]), dtype=dtype).permute(0, 3, 1, 2)
    hidden = len(parameters[1])
    return [out, *(x.new_empty(piece.stop - piece.start, hidden, dtype=dtype) for piece in _pieces(rows, hidden))]


@torch.library.custom_op('focalnet_mm::mlp_backward', mutates_args=())
def _mlp_backward(grad: Tensor, x: Tensor, parameters: list[Tensor], hidden: list[Tensor], eps: float) -> list[Tensor]:
    """Gradients of the map and the parameters."""
    dtype = grad.dtype
    rows, grad_rows = (_rows(tensor.contiguous(memory_format=torch.channels_last)) for tensor in (x, grad))
    weight1, weight2 = (parameter.to(dtype).t().contiguous() for parameter in parameters[0:4:2])
    grad_x = torch.empty_like(rows)
    totals: list[Tensor] = []
    for piece, before in zip(_pieces(rows, hidden=len(parameters[0])), hidden, strict=True):
        normed, mean, rstd = _normalize(rows[piece], parameters[4:], eps)
        out = grad_rows[piece]
        inner = torch.ops.aten.gelu_backward(_linear(out, weight2, None), before)
        parts = [inner.t() @ normed.to(dtype), inner.sum(0), out.t() @ F.gelu(before), out.sum(0)]
        outer = _linear(inner, weight1, None).to(rows.dtype)
        if parameters[4:]:
            outer, *of_norm = torch.ops.aten.native_layer_norm_backward(
                outer, rows[piece], [rows.shape[1]], mean, rstd, *parameters[4:], [True, True, True])
            parts += of_norm
        grad_x[piece] = outer
        if not totals:
            totals = [part.to(parameter.dtype) for part, parameter in zip(parts, parameters, strict=True)]
        else:
            for total, part in zip(totals, parts, strict=True):
                total += part
    return [_as_map(grad_x, x), *totals]


@_mlp_backward.register_fake
def _(grad: Tensor, x: Tensor, parameters: list[Tensor], hidden: list[Tensor], eps: float) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.channels_last),
            *(torch.empty_like(parameter, memory_format=torch.contiguous_format) for parameter in parameters)]


def _save_mlp(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, parameters, ctx.eps, _ = inputs
    ctx.save_for_backward(x, *parameters, *output[1:])
    ctx.count = len(parameters)


def _differentiate_mlp(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    x, *rest = ctx.saved_tensors
    grad_x, *grad_parameters = _mlp_backward(grads[0], x, rest[:ctx.count], rest[ctx.count:], ctx.eps)
    return grad_x, grad_parameters, None, None


_mlp.register_autograd(_differentiate_mlp, setup_context=_save_mlp)


def _normalize(rows: Tensor, parameters: list[Tensor], eps: float) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Layer normalisation, its mean and its inverse deviation; without parameters there is none."""
    if not parameters:
        return rows, None, None
    return torch.ops.aten.native_layer_norm(rows, [rows.shape[1]], *parameters, eps)


def _pieces(rows: Tensor, hidden: int) -> Iterator[slice]:
    size = max(64, _PIECE_BYTES // (hidden * rows.element_size()))
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) in channels-last memory → (N · H · W, C), a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    """(N · H · W, C) → (N, C, H, W) with the N, H and W of another map, in channels-last memory, a view."""
    count, _, height, width = like.shape
    return rows.view(count, height, width, rows.shape[1]).permute(0, 3, 1, 2)


def _norm(norm: nn.LayerNorm, rows: Tensor) -> Tensor:
    return F.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _parameters(layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return layer.weight.flatten(1).to(dtype), layer.bias.to(dtype)


def _split_f(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of query, context and gates: computed apart, each result is dense."""
    channels = weight.shape[1]
    sizes = (channels, channels, len(weight) - 2 * channels)
    return list(zip(weight.to(dtype).split(sizes), bias.to(dtype).split(sizes)))


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


def _gelu(x: Tensor, out: Tensor | None) -> Tensor:
    """GELU into memory that is at hand already: fresh pages cost several times the arithmetic."""
    return F.gelu(x) if out is None else torch.ops.aten.gelu.out(x, out=out)


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


def _scaled(block: Block, norm: nn.LayerNorm, gamma: Tensor | None, x: Tensor) -> Tensor:
    """What follows a branch: the norm of post-norm models and the layer scale."""
    rows = _rows(x)
    if block.post_norm:
        rows = _norm(norm, rows)
    return _as_map(rows if gamma is None else gamma * rows, x)
