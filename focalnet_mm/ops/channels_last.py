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
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from ..focalnet import Block
    from ..modulation import FocalModulation

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
    rows = _rows(x)
    normed = (rows if block.post_norm else _norm(block.norm1, rows)).to(dtype)
    query, context, gates = _split_f(modulation, dtype)
    context = _as_map(_linear(normed, *context), x)
    gates = _as_map(_linear(normed, *gates), x).contiguous()
    if modulation.normalize_modulator:
        gates = gates / gates.shape[1]
    *level_gates, global_gate = gates.split(1, 1)

    aggregated: Tensor | None = None
    for layer, gate in zip(modulation.focal_layers, level_gates):
        context = torch.ops.aten.gelu_(_depthwise(context, layer[0].weight.to(dtype)))
        aggregated = context * gate if aggregated is None else aggregated.addcmul_(context, gate)
    summary = F.gelu(context.mean((2, 3), keepdim=True))
    aggregated = summary * global_gate if aggregated is None else aggregated.addcmul_(summary, global_gate)
    aggregated = _rows(aggregated)

    h, proj, fc1, fc2 = (_parameters(layer, dtype) for layer in (modulation.h, modulation.proj, mlp.fc1, mlp.fc2))
    # A layer scale in float32 raises the sum of residuals to it, under autocast too.
    out = torch.empty_like(rows, dtype=rows.dtype if block.gamma_2 is None else torch.promote_types(
        rows.dtype, block.gamma_2.dtype))
    for piece in _pieces(rows, hidden=len(fc1[0])):
        branch = _linear(aggregated[piece], *h).mul_(_linear(normed[piece], *query))
        if isinstance(modulation.ln, nn.LayerNorm):
            branch = _norm(modulation.ln, branch).to(dtype)
        half = rows[piece] + _scaled(block, block.norm1, block.gamma_1, _linear(branch, *proj))
        branch = (half if block.post_norm else _norm(block.norm2, half)).to(dtype)
        branch = _linear(_linear_gelu(branch, *fc1), *fc2)
        torch.add(half, _scaled(block, block.norm2, block.gamma_2, branch), out=out[piece])
    return _as_map(out, x)


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
                             for weight, bias in _split_f(modulation, dtype))
    weights = [layer[0].weight.to(dtype) for layer in modulation.focal_layers]
    aggregated = aggregate(context, gates, weights, modulation.normalize_modulator)
    weight, bias = _parameters(modulation.h, dtype)
    branch = query * F.conv2d(aggregated, weight[:, :, None, None], bias)
    if isinstance(modulation.ln, nn.LayerNorm):
        branch = _as_map(_norm(modulation.ln, _rows(branch)), x).to(dtype)
    weight, bias = _parameters(modulation.proj, dtype)
    branch = F.conv2d(branch, weight[:, :, None, None], bias)
    x = x + block.drop_path(_scaled_map(block, block.norm1, block.gamma_1, branch))

    norm = (None, None, 0.0) if block.post_norm else (block.norm2.weight, block.norm2.bias, block.norm2.eps)
    branch = _MLP.apply(x, *norm, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias, dtype)
    return x + block.drop_path(_scaled_map(block, block.norm2, block.gamma_2, branch))


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
    return _Aggregate.apply(context, gates, normalize, *weights)


class _Aggregate(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, context: Tensor, gates: Tensor, normalize: bool, *weights: Tensor) -> Tensor:
        context = context.contiguous(memory_format=torch.channels_last)
        gates = gates.contiguous()
        scale = 1 / gates.shape[1] if normalize else 1.0
        scaled = (gates * scale if normalize else gates).split(1, 1)
        levels, current = [], context
        aggregated: Tensor | None = None
        for weight, gate in zip(weights, scaled):
            levels.append(_depthwise(current, weight))
            current = _gelu(levels[-1], out=None if current is context else current)
            aggregated = current * gate if aggregated is None else aggregated.addcmul_(current, gate)
        summary = F.gelu(current.mean((2, 3), keepdim=True))
        aggregated = summary * scaled[-1] if aggregated is None else aggregated.addcmul_(summary, scaled[-1])
        ctx.save_for_backward(context, gates, *weights, *levels)
        ctx.scale = scale
        return aggregated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        context, gates, *rest = ctx.saved_tensors
        weights, levels = rest[:len(rest) // 2], rest[len(rest) // 2:]
        grad = grad.contiguous(memory_format=torch.channels_last)
        if ctx.scale != 1:
            grad = grad * ctx.scale
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
        below = (grad_mean / (height * width)).expand_as(context)
        grad_weights: list[Tensor | None] = [None] * len(weights)
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
            if ctx.needs_input_grad[3 + i]:
                grad_weights[i] = _depthwise_weight_grad(current, above, weights[i])
            if i or ctx.needs_input_grad[0]:
                below = _depthwise(above, weights[i].flip(2, 3))
        return below, grad_gates, None, *grad_weights


class _MLP(torch.autograd.Function):
    """Norm, linear layer, GELU, linear layer; the norm is left out where it has no weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm_weight: Tensor | None, norm_bias: Tensor | None, eps: float, weight1: Tensor,
                bias1: Tensor, weight2: Tensor, bias2: Tensor, dtype: torch.dtype) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        rows = _rows(x)
        low = [parameter.to(dtype) for parameter in (weight1, bias1, weight2, bias2)]
        out = rows.new_empty(len(rows), len(bias2), dtype=dtype)
        hidden = []
        for piece in _pieces(rows, hidden=len(bias1)):
            normed, *_ = _MLP._norm(rows[piece], norm_weight, norm_bias, eps)
            hidden.append(_linear(normed.to(dtype), low[0], low[1]))
            out[piece] = _linear(F.gelu(hidden[-1]), low[2], low[3])
        ctx.save_for_backward(x, norm_weight, norm_bias, weight1, weight2, *hidden)
        ctx.eps = eps
        return _as_map(out, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_weight, norm_bias, weight1, weight2, *hidden = ctx.saved_tensors
        rows, dtype = _rows(x), grad.dtype
        grad_rows = _rows(grad.contiguous(memory_format=torch.channels_last))
        low1, low2 = (weight.to(dtype).t().contiguous() for weight in (weight1, weight2))
        grad_x = torch.empty_like(rows)
        grads: list[Tensor] = []
        for piece, before in zip(_pieces(rows, hidden=len(weight1)), hidden, strict=True):
            normed, mean, rstd = _MLP._norm(rows[piece], norm_weight, norm_bias, ctx.eps)
            out = grad_rows[piece]
            inner = torch.ops.aten.gelu_backward(_linear(out, low2, None), before)
            parts = [inner.t() @ normed.to(dtype), inner.sum(0), out.t() @ F.gelu(before), out.sum(0)]
            outer = _linear(inner, low1, None).to(rows.dtype)
            if norm_weight is not None:
                outer, *of_norm = torch.ops.aten.native_layer_norm_backward(
                    outer, rows[piece], [rows.shape[1]], mean, rstd, norm_weight, norm_bias, [True, True, True])
                parts += of_norm
            grad_x[piece] = outer
            if not grads:
                grads = [part.to(weight1.dtype) for part in parts]
            else:
                for total, part in zip(grads, parts, strict=True):
                    total += part
        grad_norm = grads[4:] or (None, None)
        return _as_map(grad_x, x), *grad_norm, None, *grads[:4], None

    @staticmethod
    def _norm(rows: Tensor, weight: Tensor | None, bias: Tensor | None,
              eps: float) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if weight is None:
            return rows, None, None
        return torch.ops.aten.native_layer_norm(rows, [rows.shape[1]], weight, bias, eps)


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


def _split_f(modulation: FocalModulation, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of query, context and gates: computed apart, each result is dense."""
    weight, bias = _parameters(modulation.f, dtype)
    sizes = (modulation.embed_dims, modulation.embed_dims, modulation.focal_level + 1)
    return list(zip(weight.split(sizes), bias.split(sizes)))


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


def _scaled(block: Block, norm: nn.LayerNorm, gamma: Tensor | None, rows: Tensor) -> Tensor:
    """What follows a branch: the norm of post-norm models and the layer scale."""
    if block.post_norm:
        rows = _norm(norm, rows)
    return rows if gamma is None else gamma * rows


def _scaled_map(block: Block, norm: nn.LayerNorm, gamma: Tensor | None, x: Tensor) -> Tensor:
    return _as_map(_scaled(block, norm, gamma, _rows(x)), x)
