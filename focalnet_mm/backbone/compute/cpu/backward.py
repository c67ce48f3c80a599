"""The backward pass of a block."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tensors import WANTED, BlockTensors
from .aggregation import aggregate_backward
from .forward import Kept, Pass
from .pointwise import as_map, linear, normalize, weight_grad

__all__ = ['Backward']


class Backward(Pass):
    """The backward pass over the rows of a map; the gradients of parameters are sums over its pieces."""

    def __init__(self, grad: Tensor, x: Tensor, tensors: BlockTensors, drops: list[Tensor], kept: Kept,
                 eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype,
                 wanted: list[bool]) -> None:
        super().__init__(x, tensors, drops, eps, post_norm, normalize_modulator, dtype)
        self.kept = kept
        self.wanted = {name for name, is_wanted in zip(WANTED, wanted, strict=True) if is_wanted}
        self.grad_rows = grad.contiguous().view(self.rows.shape)
        self.parameter_dtype = tensors.f[0].dtype
        self.transposed = {name: getattr(self.tensors, name)[0].t()
                           for name in ('f', 'h', 'proj', 'fc1', 'fc2')}
        self.sums: dict[str, tuple[Tensor, ...]] = {}

    def run(self) -> tuple[Tensor, BlockTensors]:
        """The gradients of the input and of the parameters; those that are not wanted are empty tensors."""
        kept, pieces = self.kept, self.pieces()
        grad_x, grad_query, grad_aggregated = (
            torch.empty_like(like) for like in (self.grad_rows, kept.context, kept.context))
        hidden = kept.hidden_of(pieces)
        activated = torch.empty_like(hidden[0])
        for piece, before in zip(pieces, hidden, strict=True):
            grad_half = self._mlp(piece, before, activated[:len(before)], grad_x[piece])
            grad_aggregated[piece] = self._modulation(piece, grad_half, grad_query[piece])
        grad_map, context, gates = (as_map(rows, self.size) for rows in (grad_aggregated, kept.context, kept.gates))
        grad_context, grad_gates, grad_kernels = aggregate_backward(
            grad_map, context, gates, self.tensors.kernels, [as_map(level, self.size) for level in kept.levels],
            self.normalize_modulator, 'kernels' in self.wanted)
        if self.wanted & {'x', 'f', 'norm1'}:
            for piece in pieces:
                grad_f = torch.cat([grad_query[piece], grad_context[piece], grad_gates[piece]], 1)
                grad_x[piece] += self._normed_linear('f', 'norm1', grad_f, self.rows[piece], 0)
        return grad_x.view(self.x.shape).to(self.x.dtype), self._gradients(grad_kernels)

    def _gradients(self, grad_kernels: list[Tensor]) -> BlockTensors:
        nothing = self.rows.new_empty(0)
        layers = {name: (found[0], found[1]) for name, found in self.sums.items() if not name.startswith('scale')}
        for name in ('f', 'h', 'proj', 'fc1', 'fc2', 'norm1', 'norm2'):
            layers.setdefault(name, (nothing, nothing))
        inner_norm = layers.pop('inner_norm', (nothing, nothing)) if self.tensors.inner_norm else None
        scales = [self.sums.get(f'scale{i}', (nothing,))[0] for i in range(len(self.tensors.scales))]
        kernels = grad_kernels or [nothing] * len(self.tensors.kernels)
        return BlockTensors(**layers, inner_norm=inner_norm, kernels=kernels, scales=scales)

    def _mlp(self, piece: slice, hidden: Tensor, activated: Tensor, out: Tensor) -> Tensor:
        """Through the MLP to the map between modulation and MLP; overwrites ``activated`` and ``out``."""
        grad = self._residual(self.grad_rows[piece], piece, 1)
        self._collect_linear('fc2', grad, torch.ops.aten.gelu.out(hidden, out=activated))
        grad = linear(grad, self.transposed['fc2'], None)
        torch.ops.aten.gelu_backward.grad_input(grad, hidden, grad_input=grad)
        return torch.add(self.grad_rows[piece], self._normed_linear('fc1', 'norm2', grad, self.kept.half[piece], 1),
                         out=out)

    def _modulation(self, piece: slice, grad_half: Tensor, grad_query: Tensor) -> Tensor:
        """Through projection and product to the aggregated context; writes the gradient of the query."""
        grad = self._residual(grad_half, piece, 0)
        tensors = self.tensors
        aggregated = self.kept.aggregated[piece]
        modulator = linear(aggregated, *tensors.h)
        queries = linear(self.given(piece), *self.query)
        product = modulator * queries
        if tensors.inner_norm:
            product = product.to(self.rows.dtype)
            normed, mean, rstd = normalize(product, tensors.inner_norm, self.eps[2])
            self._collect_linear('proj', grad, normed.to(self.dtype))
            grad = linear(grad, self.transposed['proj'], None)
            grad = self._norm('inner_norm', grad, product, mean, rstd).to(self.dtype)
        else:
            self._collect_linear('proj', grad, product)
            grad = linear(grad, self.transposed['proj'], None)
        torch.mul(grad, modulator, out=grad_query)
        grad = grad.mul_(queries)
        self._collect_linear('h', grad, aggregated)
        return linear(grad, self.transposed['h'], None)

    def _normed_linear(self, layer: str, norm: str, grad: Tensor, given: Tensor, i: int) -> Tensor:
        """Through a linear layer and the norm before it, if that is where the norms are."""
        if self.post_norm:
            self._collect_linear(layer, grad, given.to(self.dtype))
            return linear(grad, self.transposed[layer], None)
        normed, mean, rstd = normalize(given, getattr(self.tensors, norm), self.eps[i])
        self._collect_linear(layer, grad, normed.to(self.dtype))
        return self._norm(norm, linear(grad, self.transposed[layer], None), given, mean, rstd)

    def _residual(self, grad: Tensor, piece: slice, i: int) -> Tensor:
        """The gradient of what modulation (0) or MLP (1) returned."""
        name = ('norm1', 'norm2')[i]
        scales = self.tensors.scales
        if self.drops:
            grad = grad * self.drops[i][piece]
        if self.kept.branches:
            normed = branch = self.kept.branches[i][piece].to(self.rows.dtype)
            if self.post_norm:
                normed, mean, rstd = normalize(branch, getattr(self.tensors, name), self.eps[i])
            if scales:
                if 'scales' in self.wanted:
                    self._collect(f'scale{i}', (grad * normed).sum(0))
                grad = grad * scales[i]
            if self.post_norm:
                grad = self._norm(name, grad, branch, mean, rstd)
        return grad.to(self.dtype)

    def _norm(self, name: str, grad: Tensor, given: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        learns = name in self.wanted
        grad, *found = torch.ops.aten.native_layer_norm_backward(
            grad.to(given.dtype), given, [given.shape[1]], mean, rstd, *getattr(self.tensors, name),
            [True, learns, learns])
        if learns:
            self._collect(name, *found)
        return grad

    def _collect_linear(self, name: str, grad: Tensor, given: Tensor) -> None:
        if name in self.wanted:
            self._collect(name, weight_grad(grad, given), grad.sum(0))

    def _collect(self, name: str, *found: Tensor) -> None:
        """Add gradients of some rows to those of the rows before."""
        if name not in self.sums:
            self.sums[name] = tuple(part.to(self.parameter_dtype) for part in found)
        else:
            for total, part in zip(self.sums[name], found, strict=True):
                total += part
