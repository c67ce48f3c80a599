"""How many bytes each step of a block reads and writes on a GPU, counted once each (what caches cannot save), and how
many multiply-adds its depthwise sums are.

Steps whose name begins with ``torch:`` are torch's, the others Triton's. ``python -m tests.helpers.traffic`` prints
them for the blocks of FocalNet-T, and tests/backbone/compute/gpu/interpreted.py compares these with the addresses that
the kernels touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..backbone.compute.gpu.classes import (
    Class,
    depthwise_channels,
    depthwise_class,
    kernel_gradient_class,
    pointwise_class,
    row_shares,
    shares,
    tiles,
)
from ..backbone.compute.gpu.weights import context_columns

__all__ = ['Shape', 'Step', 'backward', 'forward']


class Step(NamedTuple):
    """A launch: bytes, and multiply-adds in float32; and the size of the depthwise kernel, where there is one."""

    name: str
    read: int
    written: int
    multiply_adds: int = 0
    size: int = 0


@dataclass(frozen=True)
class Shape:
    """A block before whose layers the norms are, without layer scale.

    Attributes:
        count: Images.
        height: Rows of the map.
        width: Columns of the map.
        channels: Channels of the map.
        kernels: The sizes of the depthwise kernels.
        ratio: Channels of the hidden layer, as a multiple of those of the map.
        low: Bytes of an element where layers are computed.
        high: Bytes of an element of the residual stream and of the parameters of norms.
    """

    count: int
    height: int
    width: int
    channels: int
    kernels: tuple[int, ...]
    ratio: int = 4
    low: int = 2
    high: int = 4

    @property
    def pixels(self) -> int:
        return self.count * self.height * self.width

    @property
    def map(self) -> int:
        """The bytes of a map."""
        return self.pixels * self.channels * self.low

    @property
    def residual(self) -> int:
        """The bytes of the residual stream."""
        return self.pixels * self.channels * self.high

    @property
    def gate(self) -> int:
        """The bytes of the gate of a level."""
        return self.pixels * self.low

    @property
    def columns(self) -> int:
        """The bytes of context and gates."""
        return self.pixels * context_columns(self.channels, len(self.kernels)) * self.low

    @property
    def blocks(self) -> int:
        """Into how many blocks the kernels with a depthwise sum cut the channels."""
        return -(-self.channels // depthwise_channels(self.channels))

    @property
    def vector(self) -> int:
        """The bytes of a parameter of a norm."""
        return self.channels * self.high

    def weight(self, kernel: int) -> int:
        """The bytes of a depthwise kernel in float32, its channels filled up to whole blocks."""
        return self.blocks * depthwise_channels(self.channels) * kernel**2 * 4

    def taps(self, kernel: int) -> int:
        """The multiply-adds of a depthwise kernel."""
        return self.pixels * self.channels * kernel**2

    def sums(self, of: Class, height: int, width: int) -> int:
        """The bytes of the sums of each tile, in float32."""
        return self.count * tiles(of, height, width) * self.channels * 4

    def line_sums(self) -> int:
        """The same where an image is one line."""
        return self.sums(pointwise_class(self.channels), 1, self.height * self.width)

    def dots(self, of: Class) -> int:
        """The bytes of the sums over each block of channels."""
        return self.pixels * -(-self.channels // of.channels) * 4

    def column_sums(self, columns: int) -> int:
        """The bytes of the sums of columns over each share of the pixels."""
        return row_shares(self.pixels)[0] * columns * 4

    def linear(self, inputs: int, outputs: int, name: str) -> Step:
        """A linear layer, without its weights."""
        return Step(f'torch: {name}', self.pixels * inputs * self.low, self.pixels * outputs * self.low)


def forward(shape: Shape, keep: bool = True) -> list[Step]:
    """The forward pass.

    Args:
        shape: The block.
        keep: Whether it is that of a training.

    Returns:
        Its steps in their order; the weights of linear layers are left out.
    """
    channels, hidden, each = shape.channels, shape.ratio * shape.channels, shape.map
    steps = [
        Step('rows_normed', shape.residual + 2 * shape.vector, each),
        shape.linear(channels, channels, 'f, query'),
        Step('torch: f, context and gates', each, shape.columns)]
    partial, mean = 0, shape.count * channels * 4
    for i, kernel in enumerate(shape.kernels):
        last = i == len(shape.kernels) - 1
        partial = shape.sums(depthwise_class(channels, kernel), shape.height, shape.width) if last else 0
        steps.append(Step('level_forward', (2 if i else 1) * each + shape.gate + shape.weight(kernel),
                          (1 + keep + (not last)) * each + partial, shape.taps(kernel), kernel))
    return [
        *steps,
        Step('torch: mean', partial or each, mean),
        Step('add_global', (each if shape.kernels else 0) + shape.gate + mean, each),
        shape.linear(channels, channels, 'h'),
        Step('torch: product', 2 * each, each),
        shape.linear(channels, channels, 'proj'),
        Step('residual_forward', shape.residual + each + 2 * shape.vector, shape.residual + each),
        shape.linear(channels, hidden, 'fc1'),
        shape.linear(hidden, hidden, 'GELU'),
        shape.linear(hidden, channels, 'fc2'),
        Step('residual_forward', shape.residual + each, shape.residual)]


def backward(shape: Shape) -> list[Step]:
    """The backward pass, in which everything learns: its steps in their order."""
    channels, hidden, each = shape.channels, shape.ratio * shape.channels, shape.map
    residual, columns = shape.residual, context_columns(channels, len(shape.kernels))
    norm = Step('row_gradient', 2 * residual + each + shape.vector, residual + shape.column_sums(2 * channels))
    again = Step('rows_normed', residual + 2 * shape.vector, each)
    cast = (Step('row_gradient', residual, each + shape.column_sums(channels)) if shape.low != shape.high else
            Step('column_sums', residual, shape.column_sums(channels)))

    def gradients(inputs: int, outputs: int, name: str) -> list[Step]:
        """Those of a linear layer's weight and input."""
        sizes = [shape.pixels * size * shape.low for size in (inputs, outputs)]
        return [Step(f'torch: {name}, weight', sum(sizes), 0), Step(f'torch: {name}, input', sizes[1], sizes[0])]

    # Biases, and both norms.
    summed = shape.column_sums(hidden + columns + 8 * channels)
    return [
        cast, shape.linear(hidden, hidden, 'GELU again'), *gradients(hidden, channels, 'fc2'),
        Step('column_sums', 2 * shape.ratio * each, shape.ratio * each + shape.column_sums(hidden)),
        again, *gradients(channels, hidden, 'fc1'), norm, cast, again,
        shape.linear(channels, channels, 'f, query again'), shape.linear(channels, channels, 'h again'),
        Step('torch: product again', 2 * each, each), *gradients(channels, channels, 'proj'),
        Step('product_gradient', 3 * each, 2 * each + shape.column_sums(2 * channels)),
        *gradients(channels, channels, 'h'), *_aggregation_backward(shape),
        Step('column_sums', shape.columns, shape.column_sums(columns)), *gradients(channels, channels, 'f, query'),
        *gradients(channels, columns, 'f, context and gates'), norm, Step('torch: sums', summed, 0)]


def _aggregation_backward(shape: Shape) -> list[Step]:
    """The backward pass of focal aggregation."""
    channels, each, levels = shape.channels, shape.map, len(shape.kernels)
    line, mean = pointwise_class(channels), shape.count * channels * 4
    dots = shape.pixels * shape.blocks * 4
    steps = [
        Step('torch: zeros', 0, shape.columns + (levels + 1) * dots),
        Step('global_gradient', each + mean + shape.gate, shape.line_sums() + shape.dots(line)),
        Step('torch: mean', shape.line_sums(), mean)]
    for i in reversed(range(levels)):
        later = shape.kernels[i + 1] if i + 1 < levels else 0
        if later:
            steps.append(Step('level_gradient', 3 * each + shape.gate + shape.weight(later), 2 * each + dots,
                              shape.taps(later), later))
            steps.append(_kernel_gradient(shape, later))
        else:
            steps.append(Step('level_gradient', 2 * each + mean + shape.gate, each + dots))
    if levels:
        steps.append(_kernel_gradient(shape, shape.kernels[0]))
        steps.append(Step('context_gradient', each + shape.weight(shape.kernels[0]), each,
                          shape.taps(shape.kernels[0]), shape.kernels[0]))
    learned = sum(_kernel_gradient(shape, kernel).written for kernel in shape.kernels)
    return [*steps, Step('torch: gates', (levels + 1) * dots, (levels + 1) * shape.pixels * (4 + 4 + shape.low)),
            Step('torch: kernels', learned, 0)]


def _kernel_gradient(shape: Shape, kernel: int) -> Step:
    strips = shape.count * shape.height * -(-shape.width // kernel_gradient_class(shape.channels).strip)
    partial = shares(strips)[0] * shape.channels * kernel**2 * 4
    return Step('kernel_gradient', 2 * shape.map, partial, shape.taps(kernel), kernel)
