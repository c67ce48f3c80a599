"""The parameters of a block as its kernels and linear layers take them, made in few launches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import BlockTensors, Pair
from .classes import depthwise_channels

__all__ = ['Weights', 'context_columns', 'kept_sizes']

# Rows of context and gates lie a multiple of as many elements apart, so that a GPU reads several at a time; matrices
# begin at such a multiple too.
_COLUMNS = 16


def context_columns(channels: int, levels: int) -> int:
    """How far apart the rows of context and gates lie, which one linear layer writes."""
    return _filled(channels + levels + 1)


class Weights:
    """The parameters of a block in the data type of its layers; each layer as (weight, bias).

    Args:
        tensors: The parameters, of which only shapes are asked.
        layers: Those of the linear layers, one behind the other, as :meth:`of` writes them.
        taps: The depthwise kernels, rounded, in float32: (blocks of channels, sum of all k · k, channels of a block).

    Attributes:
        kept: ``layers`` and ``taps``.
        query: The rows of ``f`` for the query.
        context_gates: Those for context and gates, and rows of zeros that only fill up.
        h: ``h``.
        proj: The projection.
        fc1: The first layer of the MLP.
        fc2: The second one.
        taps: The taps of each level.
    """

    def __init__(self, tensors: BlockTensors, layers: Tensor, taps: Tensor) -> None:
        self.kept = [layers, taps]
        shapes = _shapes(tensors)
        parts = layers.split([_filled(math.prod(shape)) for shape in shapes])
        self._all = [part if part.shape == shape else part[:math.prod(shape)].view(shape)
                     for part, shape in zip(parts, shapes)]
        weight, bias, *rest = self._all
        channels = weight.shape[1]
        self.query: Pair = weight[:channels], bias[:channels]
        self.context_gates: Pair = weight[channels:], bias[channels:]
        self.h, self.proj, self.fc1, self.fc2 = zip(rest[::2], rest[1::2])
        self.taps = list(taps.split([kernel[0].numel() for kernel in tensors.kernels], 1)) if tensors.kernels else []

    @classmethod
    def of(cls, tensors: BlockTensors, dtype: torch.dtype) -> Weights:
        """Copies of the parameters of a block."""
        sizes, taps = kept_sizes(tensors)
        given = _given(tensors)
        layers = given[0].new_zeros(sizes, dtype=dtype)
        weights = cls(tensors, layers, _taps(tensors.kernels, taps, dtype, layers))
        rows = given[0].shape[0]
        torch._foreach_copy_([weights._all[0][:rows], weights._all[1][:rows], *weights._all[2:]], given)
        return weights


def kept_sizes(tensors: BlockTensors) -> tuple[int, tuple[int, int, int]]:
    """The sizes of what :class:`Weights` are made of: elements of the layers, shape of the taps."""
    channels = tensors.f[0].shape[1]
    block = depthwise_channels(channels)
    taps = sum(kernel.shape[-1]**2 for kernel in tensors.kernels)
    return sum(_filled(math.prod(shape)) for shape in _shapes(tensors)), (-(-channels // block), taps, block)


def _given(tensors: BlockTensors) -> list[Tensor]:
    """Weights, as matrices, and biases of the linear layers."""
    return [tensor for weight, bias in (tensors.f, tensors.h, tensors.proj, tensors.fc1, tensors.fc2)
            for tensor in (weight.flatten(1), bias)]


def _shapes(tensors: BlockTensors) -> list[tuple[int, ...]]:
    """Those of the copies, of which the first two have more rows than what they are copies of."""
    hidden, channels = tensors.fc1[0].shape
    rows = channels + context_columns(channels, len(tensors.kernels))
    return [shape for out, into in ((rows, channels), (channels, channels), (channels, channels), (hidden, channels),
                                    (channels, hidden)) for shape in ((out, into), (out,))]


def _filled(size: int) -> int:
    return -(-size // _COLUMNS) * _COLUMNS


def _taps(kernels: list[Tensor], shape: tuple[int, int, int], dtype: torch.dtype, like: Tensor) -> Tensor:
    whole = like.new_empty(shape, dtype=torch.float32)
    if kernels:
        blocks, taps, block = shape
        rounded = torch.cat([kernel.flatten(1) for kernel in kernels], 1).to(dtype)
        if blocks * block > rounded.shape[0]:
            rounded = F.pad(rounded, (0, 0, 0, blocks * block - rounded.shape[0]))
        whole.copy_(rounded.view(blocks, block, taps).transpose(1, 2))
    return whole
