"""Focal aggregation in channels-last memory: depthwise levels, their gates and the global context."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .depthwise import depthwise, depthwise_weight_grad
from .pointwise import as_map, as_rows, pieces


def aggregate(context: Tensor, gates: Tensor, kernels: list[Tensor], normalize: bool,
              keep: bool) -> tuple[Tensor, list[Tensor]]:
    """Focal aggregation (arXiv 2203.11926v3, equations 4 and 5), over maps: ``Zᵒᵘᵗ`` and, if told to keep them, the
    levels before their activation. Otherwise it overwrites the context."""
    *level_gates, global_gate = _scaled_gates(gates, normalize).split(1, 1)
    levels, current, buffer = [], context, torch.empty_like(context) if keep else context
    aggregated: Tensor | None = None
    for kernel, gate in zip(kernels, level_gates):
        level = depthwise(current, kernel)
        current = torch.ops.aten.gelu.out(level, out=buffer)
        if keep:
            levels.append(level)
        aggregated = current * gate if aggregated is None else aggregated.addcmul_(current, gate)
    summary = F.gelu(current.mean((2, 3), keepdim=True))
    aggregated = summary * global_gate if aggregated is None else aggregated.addcmul_(summary, global_gate)
    return aggregated, levels


def aggregate_backward(grad: Tensor, context: Tensor, gates: Tensor, kernels: list[Tensor], levels: list[Tensor],
                       normalize: bool, learning: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of context and gates, each (N · H · W, ·), and, where they learn, of the kernels."""
    gates = _scaled_gates(gates, normalize)
    *level_gates, global_gate = gates.split(1, 1)
    grad_rows = as_rows(grad)
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
        below_rows, current_rows, level_rows = map(as_rows, (below, current, levels[i]))
        gate_rows = level_gates[i].reshape(-1, 1)
        for piece in pieces(grad_rows, 4 * channels, grad.dtype):
            grad_gates[piece, i] = (grad_rows[piece] * current_rows[piece]).sum(1)
            above = torch.addcmul(below_rows[piece], grad_rows[piece], gate_rows[piece])
            above_rows[piece] = torch.ops.aten.gelu_backward(above, level_rows[piece])
        above = as_map(above_rows, (count, height, width))
        current = context if i == 0 else torch.ops.aten.gelu.out(levels[i - 1], out=buffer)
        if learning:
            grad_kernels.append(depthwise_weight_grad(current, above, kernels[i]).contiguous())
        below = depthwise(above, kernels[i].flip(2, 3))
    return as_rows(below), grad_gates.div_(gates.shape[1]) if normalize else grad_gates, grad_kernels[::-1]


def _scaled_gates(gates: Tensor, normalize: bool) -> Tensor:
    """Dense maps of the gates, a normalised modulator's divisor among them."""
    return gates / gates.shape[1] if normalize else gates.contiguous()
