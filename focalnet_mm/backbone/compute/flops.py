"""How many operations the block's operators are; torch.utils.flop_counter counts a multiply-add as two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...releases import register_flops

__all__ = ['register_formulas']

Shape = Sequence[int]


def register_formulas(name: str) -> None:
    """Tell how many operations an operator of the block and its derivative, ``…_backward``, are."""
    register_flops(name)(_forward)
    register_flops(f'{name}_backward')(_backward)


def _multiply_adds(x: Shape, parameters: Sequence[Shape], kernels: Sequence[Shape]) -> tuple[list[int], int]:
    """Those of each linear layer, and those of the depthwise convolutions."""
    positions = math.prod(x[:-1])
    layers = [positions * math.prod(weight) for weight in parameters[:10:2]]
    return layers, positions * sum(math.prod(kernel) for kernel in kernels)


def _forward(x: Shape, parameters: Sequence[Shape], kernels: Sequence[Shape], *args: Any, **kwargs: Any) -> int:
    layers, depthwise = _multiply_adds(x, parameters, kernels)
    return 2 * (sum(layers) + depthwise)


def _backward(grad: Shape, x: Shape, parameters: Sequence[Shape], kernels: Sequence[Shape], scales: Any, drops: Any,
              kept: Any, eps: Any, post_norm: bool, normalize: bool, dtype: Any, wanted: Sequence[bool],
              **kwargs: Any) -> int:
    layers, depthwise = _multiply_adds(x, parameters, kernels)
    # The gradients of the inputs, those of the weights that are asked for, and query and modulator once more; where
    # nothing was kept, all but the last layer too.
    learning = sum(count for count, is_wanted in zip(layers, wanted[1:6]) if is_wanted)
    again = layers[1] + math.prod(x) * x[-1]
    if not kept:
        again += sum(layers[:4]) + depthwise
    return 2 * (sum(layers) + depthwise + learning + depthwise * wanted[-2] + again)
