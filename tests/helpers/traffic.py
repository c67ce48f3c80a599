"""How many bytes each step of a block reads and writes on a GPU, counted once each: what caches cannot save.

``python -m tests.helpers.traffic`` prints it for the blocks of FocalNet-T. Steps whose name begins with ``torch:`` are
torch's, the others Triton's; tests/backbone/compute/gpu/interpreted.py compares these with the addresses that the
kernels touch.
"""

import math
from typing import NamedTuple

from focalnet_mm.backbone.compute.gpu.classes import depthwise_class, pointwise_class, row_shares, shares, tiles
from focalnet_mm.backbone.compute.gpu.forward import context_columns

#: Maps of C channels that the forward pass of a block moves by count of its steps: in plain PyTorch under bfloat16
#: autocast; with its elementwise steps fused; with norm and f, level, product and projection, and MLP as a step each.
COUNTED = {'plain PyTorch': 72, 'elementwise steps fused': 45, 'four fused steps': 30}


class Step(NamedTuple):
    """A launch, in bytes."""

    name: str
    read: int
    written: int


class Shape(NamedTuple):
    """A block before whose layers the norms are, without layer scale, and the bytes of its data types."""

    count: int
    height: int
    width: int
    channels: int
    kernels: tuple
    ratio: int = 4
    #: Bytes of an element where layers are computed, and of the residual stream and the parameters of norms.
    low: int = 2
    high: int = 4

    @property
    def pixels(self):
        return self.count * self.height * self.width

    @property
    def map(self):
        return self.pixels * self.channels * self.low

    @property
    def residual(self):
        return self.pixels * self.channels * self.high

    @property
    def gate(self):
        return self.pixels * self.low

    @property
    def columns(self):
        return self.pixels * context_columns(self.channels, len(self.kernels)) * self.low

    @property
    def vector(self):
        return self.channels * self.high

    def weight(self, kernel):
        return self.channels * kernel**2 * self.low

    def sums(self, of, height, width):
        """Those of each tile, in float32."""
        return self.count * tiles(of, height, width) * self.channels * 4

    def line_sums(self):
        return self.sums(pointwise_class(self.channels), 1, self.height * self.width)

    def dots(self, of):
        return self.pixels * -(-self.channels // of.channels) * 4

    def linear(self, inputs, outputs, name):
        return Step(f'torch: {name}', self.pixels * inputs * self.low, self.pixels * outputs * self.low)


def forward(shape, keep=True):
    """The forward pass, in a training if ``keep``; the weights of linear layers left out."""
    channels, hidden, each = shape.channels, shape.ratio * shape.channels, shape.map
    steps = [
        Step('rows_normed', shape.residual + 2 * shape.vector, each),
        shape.linear(channels, channels, 'f, query'),
        Step('torch: f, context and gates', each, shape.columns)]
    partial, mean = 0, shape.count * channels * 4
    for i, kernel in enumerate(shape.kernels):
        last = i == len(shape.kernels) - 1
        partial = shape.sums(depthwise_class(channels, shape.low), shape.height, shape.width) if last else 0
        steps.append(Step('level_forward', (2 if i else 1) * each + shape.gate + shape.weight(kernel),
                          (1 + keep + (not last)) * each + partial))
    steps += [
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
    return steps


def backward(shape):
    """The backward pass, in which everything learns."""
    channels, hidden, each = shape.channels, shape.ratio * shape.channels, shape.map
    count, residual = row_shares(shape.pixels)[0], shape.residual
    norm = Step('row_gradient', 2 * residual + each + shape.vector, residual + count * 3 * channels * 4)
    again = Step('rows_normed', residual + 2 * shape.vector, each)

    def gradients(inputs, outputs, name):
        """Those of a linear layer's input, of its weight and of its bias."""
        sizes = [shape.pixels * size * shape.low for size in (inputs, outputs)]
        return [Step(f'torch: {name}, input', sizes[1], sizes[0]), Step(f'torch: {name}, weight', sum(sizes), 0),
                Step(f'torch: {name}, bias', sizes[1], 0)]

    cast = [Step('row_gradient', residual, each)] if shape.low != shape.high else []
    return [
        *cast, shape.linear(hidden, hidden, 'GELU again'), *gradients(hidden, channels, 'fc2'),
        shape.linear(2 * hidden, hidden, 'GELU'), again, *gradients(channels, hidden, 'fc1'), norm, *cast, again,
        shape.linear(channels, channels, 'f, query again'), shape.linear(channels, channels, 'h again'),
        Step('torch: product again', 2 * each, each), *gradients(channels, channels, 'proj'),
        Step('torch: product, query', 2 * each, each), Step('torch: product, modulator', 2 * each, each),
        *gradients(channels, channels, 'h'), *aggregation_backward(shape), *gradients(channels, channels, 'f, query'),
        *gradients(channels, context_columns(channels, len(shape.kernels)), 'f, context and gates'), norm]


def aggregation_backward(shape):
    """The backward pass of focal aggregation."""
    channels, each, levels = shape.channels, shape.map, len(shape.kernels)
    line, mean = pointwise_class(channels), shape.count * channels * 4
    steps = [
        Step('torch: zeros', 0, shape.columns),
        Step('global_gradient', each + mean + shape.gate, shape.line_sums() + shape.dots(line)),
        Step('torch: mean', shape.line_sums(), mean)]
    for i in reversed(range(levels)):
        later = shape.kernels[i + 1] if i + 1 < levels else 0
        dots = shape.dots(depthwise_class(channels, shape.low))
        if later:
            steps.append(Step('level_gradient', 3 * each + shape.gate + shape.weight(later), 2 * each + dots))
            steps += _kernel_gradient(shape, later)
        else:
            steps.append(Step('level_gradient', 2 * each + mean + shape.gate, each + dots))
    if levels:
        steps += _kernel_gradient(shape, shape.kernels[0])
        steps.append(Step('context_gradient', each + shape.weight(shape.kernels[0]), each))
    dots = (levels + 1) * shape.dots(depthwise_class(channels, shape.low))
    return [*steps, Step('torch: gates', dots, (levels + 1) * shape.pixels * (4 + 4 + shape.low))]


def _kernel_gradient(shape, kernel):
    partial = shares(shape.pixels)[0] * shape.channels * kernel**2 * 4
    return [Step('kernel_gradient', 2 * shape.map, partial), Step('torch: kernel', partial, 0)]


def main():
    for name, count, height, width in (('800×1216, batch 2', 2, 200, 304), ('224×224, batch 64', 64, 56, 56)):
        shape = Shape(count, height, width, 96, (9, 11, 13) if height == 200 else (3, 5, 7))
        print(f'\nFirst stage of FocalNet-T, {name}, kernels {shape.kernels}, bfloat16 autocast, in maps of C channels '
              f'of {shape.map / 1e6:.1f} MB:\n\n| pass | step | read | written |\n|---|---|---|---|')
        passes = dict(inference=forward(shape, keep=False), forward=forward(shape), backward=backward(shape))
        for label, steps in passes.items():
            for step in steps:
                print(f'| {label} | {step.name} | {step.read / shape.map:.2f} | {step.written / shape.map:.2f} |')
        print()
        for label, steps in passes.items():
            total = math.fsum(step.read + step.written for step in steps)
            print(f'{label}: {total / shape.map:.1f} maps, {total / 1e9:.2f} GB')
    print('By count, forward: ' + ', '.join(f'{name} {maps}' for name, maps in COUNTED.items()))


if __name__ == '__main__':
    main()
