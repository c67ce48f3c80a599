"""What a block computes with, as plain tensors: implementations know nothing of modules."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ['WANTED', 'BlockTensors', 'kept_branches', 'residual_dtype']

Pair = tuple[Tensor, Tensor]


@dataclass
class BlockTensors:
    """The parameters of a block, or their gradients; layers as (weight, bias).

    Custom operators take and return lists of tensors: :meth:`flatten` and :meth:`unflatten` are the one place that
    knows their order.
    """

    #: ``f``, the query, the context and the gates in one layer.
    f: Pair
    #: ``h``.
    h: Pair
    #: The projection behind the product of query and modulator.
    proj: Pair
    fc1: Pair
    fc2: Pair
    norm1: Pair
    norm2: Pair
    #: The norm before the projection, of the variants that have one.
    inner_norm: Pair | None
    #: The depthwise kernels of the levels, each (C, 1, k, k).
    kernels: list[Tensor]
    #: The layer scales of modulation and MLP, or none.
    scales: list[Tensor]

    def flatten(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Parameters of the layers, kernels and layer scales."""
        return list(itertools.chain.from_iterable(self._pairs())), self.kernels, self.scales

    @classmethod
    def unflatten(cls, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor]) -> BlockTensors:
        """What :meth:`flatten` took apart."""
        f, h, proj, fc1, fc2, norm1, norm2, *inner_norm = zip(parameters[::2], parameters[1::2])
        return cls(f, h, proj, fc1, fc2, norm1, norm2, inner_norm[0] if inner_norm else None, kernels, scales)

    def to(self, dtype: torch.dtype) -> BlockTensors:
        """Linear layers and kernels in another data type, the weights of layers as matrices; norms as they are."""
        # oneDNN reads a bias as dense, whatever its stride.
        linear = {name: (weight.flatten(1).to(dtype), bias.to(dtype).contiguous())
                  for name in ('f', 'h', 'proj', 'fc1', 'fc2') for weight, bias in [getattr(self, name)]}
        return BlockTensors(**linear, norm1=self.norm1, norm2=self.norm2, inner_norm=self.inner_norm,
                            kernels=[kernel.to(dtype) for kernel in self.kernels], scales=self.scales)

    def dense(self) -> BlockTensors:
        """Norms and layer scales as memory that holds them one element behind the other; the rest as it is."""
        vectors = itertools.chain(self.norm1, self.norm2, self.inner_norm or (), self.scales)
        if all(vector.is_contiguous() and not vector.is_neg() for vector in vectors):
            return self
        norms: dict[str, Any] = {
            name: (_dense(pair[0]), _dense(pair[1])) if pair else None
            for name in ('norm1', 'norm2', 'inner_norm') for pair in [getattr(self, name)]}
        return replace(self, **norms, scales=[*map(_dense, self.scales)])

    def _pairs(self) -> Iterable[Pair]:
        pairs = (getattr(self, field.name) for field in fields(self)[:-2])
        return (pair for pair in pairs if pair is not None)


def _dense(tensor: Tensor) -> Tensor:
    """A tensor that memory holds as it is, without strides and without a sign that is still to be turned."""
    return tensor.resolve_neg().contiguous()


#: What a backward pass can be asked for, in the order in which its operator is told.
WANTED = ('x', *(field.name for field in fields(BlockTensors)))


def kept_branches(scales: list[Tensor], post_norm: bool) -> int:
    """How many results of modulation and MLP the backward pass needs."""
    return 2 if post_norm or scales else 0


def residual_dtype(x: Tensor, scales: list[Tensor]) -> torch.dtype:
    """That of the residual sums: a layer scale in float32 raises them to it, under autocast too."""
    return torch.promote_types(x.dtype, scales[0].dtype) if scales else x.dtype
