"""Focal aggregation on a GPU: the launches of its kernels, forward and backward."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from . import gradient_kernels, level_kernels
from .classes import Class, depthwise_channels, depthwise_class, kernel_gradient_class, pointwise_class, shares, tiles
from .launches import launch

__all__ = ['aggregate', 'aggregate_backward']

#: N, H and W.
Size = tuple[int, int, int]


def aggregate(context: Tensor, gates: Tensor, kernels: list[int], taps: list[Tensor], size: Size, normalize: bool,
              keep: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Focal aggregation (arXiv 2203.11926v3, equations 4 and 5).

    Args:
        context: ``Z⁰``, (N · H · W, C), its pixels any distance apart.
        gates: ``G``, (N · H · W, L + 1), as far apart.
        kernels: The sizes of the depthwise kernels of the levels.
        taps: Them, see :class:`~.weights.Weights`.
        size: N, H and W.
        normalize: Whether to divide by L + 1.
        keep: Whether to keep the levels before their activation.

    Returns:
        ``Zᵒᵘᵗ`` (N · H · W, C), the mean of ``Zᴸ`` over each image (N, C) in float32, and the levels if they are kept.
    """
    count, height, width = size
    channels = context.shape[1]
    aggregated = context.new_empty(context.shape)
    maps = len(kernels) if keep else 0
    levels = [torch.empty_like(aggregated) for _ in range(maps)]
    # Levels read one of them and write the other.
    buffers = [torch.empty_like(aggregated) for _ in range(min(2, len(kernels) - 1))]
    current, partial = context, None
    for i, kernel in enumerate(kernels):
        of, last = depthwise_class(channels, kernel), i == len(kernels) - 1
        if last:
            partial = context.new_empty(count, tiles(of, height, width), channels, dtype=torch.float32)
        # What a kernel is told not to touch is any map.
        target = aggregated if last else buffers[i % 2]
        launch(level_kernels.level_forward, _grid(of, size, channels), of.warps, current, taps[i], gates[:, i],
               levels[i] if keep else aggregated, target, aggregated, partial if last else aggregated,
               current.stride(0), taps[i].stride(0), gates.stride(0), height, width, channels, KERNEL=kernel,
               STRIP=of.strip, **_tile(of), FIRST=i == 0, LAST=last, KEEP=keep,
               WIDE=_is_wide(of, kernel, width, context, gates))
        current = target
    mean = _mean(context, size) if partial is None else partial.sum(1) / (height * width)
    of = pointwise_class(channels)
    line = count, 1, height * width
    launch(level_kernels.add_global, _grid(of, line, channels), of.warps, mean, gates[:, -1], aggregated,
           gates.stride(0), 1, height * width, channels, 1 / gates.shape[1] if normalize else 1.0, **_tile(of),
           FIRST=not kernels, WIDE=False)
    return aggregated, mean, levels


def aggregate_backward(grad: Tensor, context: Tensor, gates: Tensor, kernels: list[int], taps: list[Tensor],
                       mean: Tensor, levels: list[Tensor], size: Size, normalize: bool, learning: bool,
                       grad_context: Tensor, grad_gates: Tensor) -> list[Tensor]:
    """The gradients of context and gates, written where they go, and, where they learn, of the kernels.

    Args:
        grad: The gradient of ``Zᵒᵘᵗ``, (N · H · W, C).
        context: ``Z⁰``.
        gates: ``G``.
        kernels: The sizes of the depthwise kernels of the levels.
        taps: Them, see :class:`~.weights.Weights`.
        mean: What the forward pass returned.
        levels: The levels before their activation, each (N · H · W, C).
        size: N, H and W.
        normalize: Whether ``Zᵒᵘᵗ`` was divided by L + 1.
        learning: Whether the kernels learn.
        grad_context: Where the gradient of ``Z⁰`` goes.
        grad_gates: Where that of ``G`` goes.

    Returns:
        The gradients of the kernels, each (C, 1, k, k) in float32, or nothing.
    """
    _, height, width = size
    channels = context.shape[1]
    scale = 1 / gates.shape[1] if normalize else 1.0
    before = _Gradients(grad, gates, size, scale)
    below = before.through_mean(mean)
    if not levels:
        grad_context.copy_(below.repeat_interleave(height * width, 0))
    learned = _KernelGradients(grad, kernels, size) if learning else None
    later = grad
    for i in reversed(range(len(levels))):
        # Where it is not the last one, it is found through the kernel of the next one.
        has_next = i + 1 < len(levels)
        found, activated = before.through_level(i, levels[i], below, later, taps[i + 1] if has_next else None,
                                                kernels[i + 1] if has_next else 0, learning and has_next)
        if has_next and learned:
            learned.add(i + 1, activated, later)
        later = found
    if levels:
        if learned:
            learned.add(0, context, later)
        of = depthwise_class(channels, kernels[0])
        launch(gradient_kernels.context_gradient, _grid(of, size, channels), of.warps, later, taps[0], grad_context,
               taps[0].stride(0), grad_context.stride(0), height, width, channels, KERNEL=kernels[0], STRIP=of.strip,
               **_tile(of), WIDE=_is_wide(of, kernels[0], width, grad_context))
    torch.sum(before.dots, 2, out=(sums := torch.empty(gates.shape, dtype=torch.float32, device=gates.device)))
    grad_gates.copy_(sums)
    return learned.total() if learned else []


class _Gradients:
    """The gradients of the levels of one aggregation, from the last one to the first one."""

    def __init__(self, grad: Tensor, gates: Tensor, size: Size, scale: float) -> None:
        self.grad, self.gates, self.size, self.scale = grad, gates, size, scale
        self.channels = grad.shape[1]
        # As many blocks of channels as the kernel with the smallest ones has; larger blocks leave the rest at zero.
        blocks = -(-self.channels // depthwise_channels(self.channels))
        self.dots = grad.new_zeros(*gates.shape, blocks, dtype=torch.float32)

    def through_mean(self, mean: Tensor) -> Tensor:
        """What comes through the global context to each pixel of ``Zᴸ``, (N, C) in float32."""
        count, height, width = self.size
        of, line = pointwise_class(self.channels), (count, 1, height * width)
        partial = mean.new_empty(count, tiles(of, 1, height * width), self.channels)
        launch(gradient_kernels.global_gradient, _grid(of, line, self.channels), of.warps, self.grad, mean,
               self.gates[:, -1], partial, self.dots[:, -1], self.gates.stride(0), self.dots.stride(0), 1,
               height * width, self.channels, self.scale, **_tile(of), WIDE=False)
        return torch.ops.aten.gelu_backward(partial.sum(1), mean) / (height * width)

    def through_level(self, i: int, level: Tensor, through_mean: Tensor, later: Tensor, taps: Tensor | None,
                      kernel: int, learns: bool) -> tuple[Tensor, Tensor]:
        """The gradient of a level before its GELU and, where the next kernel learns, the level behind it."""
        _, height, width = self.size
        found = torch.empty_like(level)
        activated = torch.empty_like(level) if learns else level
        of = depthwise_class(self.channels, kernel)
        launch(gradient_kernels.level_gradient, _grid(of, self.size, self.channels), of.warps, later,
               level if taps is None else taps, through_mean, self.grad, level, self.gates[:, i], found, activated,
               self.dots[:, i], 0 if taps is None else taps.stride(0), self.gates.stride(0), self.dots.stride(0),
               height, width, self.channels, self.scale, KERNEL=kernel, STRIP=of.strip, **_tile(of), LEARNS=learns,
               WIDE=_is_wide(of, kernel, width, level, self.gates, self.dots))
        return found, activated


class _KernelGradients:
    """The gradients of the kernels of all levels.

    Args:
        like: A map, (N · H · W, C).
        kernels: The sizes of the kernels.
        size: N, H and W.
    """

    def __init__(self, like: Tensor, kernels: list[int], size: Size) -> None:
        self.kernels, self.size, self.channels = kernels, size, like.shape[1]
        self.of = kernel_gradient_class(self.channels)
        self.strips = size[0] * size[1] * -(-size[2] // self.of.strip)
        self.number, self.share = shares(self.strips)
        self.ends = list(itertools.accumulate((kernel**2 for kernel in kernels), initial=0))
        self.partial = like.new_empty(self.number, self.ends[-1], self.channels, dtype=torch.float32)

    def add(self, i: int, context: Tensor, later: Tensor) -> None:
        """That of a level.

        Args:
            i: Its number.
            context: What it took, (N · H · W, C).
            later: The gradient of the level before GELU, (N · H · W, C).
        """
        of, kernel, (_, height, width) = self.of, self.kernels[i], self.size
        launch(gradient_kernels.kernel_gradient, (kernel, self.number, -(-self.channels // of.channels)), of.warps,
               context, later, self.partial[:, self.ends[i]:], context.stride(0), self.partial.stride(0), self.strips,
               height, width, self.channels, self.share, KERNEL=kernel, STRIP=of.strip, LANES=of.width // of.strip,
               BLOCK=of.channels, WIDE=_is_wide(of, kernel, width, context))

    def total(self) -> list[Tensor]:
        """Each (C, 1, k, k) in float32."""
        whole = self.partial.sum(0)
        return [whole[start:end].t().reshape(self.channels, 1, kernel, kernel)
                for kernel, (start, end) in zip(self.kernels, itertools.pairwise(self.ends))]


def _mean(rows: Tensor, size: Size) -> Tensor:
    """The mean over each image, (N, C) in float32."""
    return rows.view(size[0], -1, rows.shape[1]).mean(1, dtype=torch.float32)


def _grid(of: Class, size: Size, channels: int) -> tuple[int, int]:
    return size[0] * tiles(of, size[1], size[2]), -(-channels // of.channels)


def _tile(of: Class) -> dict[str, int]:
    return dict(TILE_H=of.height, TILE_W=of.width, BLOCK=of.channels)


def _is_wide(of: Class, kernel: int, width: int, *maps: Tensor) -> bool:
    """Whether offsets within a tile and its surroundings may need more than 32 bits."""
    return ((of.height + kernel) * width + of.width + kernel) * max(part.stride(0) for part in maps) >= 1 << 31
