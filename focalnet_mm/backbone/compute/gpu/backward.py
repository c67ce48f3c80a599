"""The backward pass of a block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import WANTED, BlockTensors, Pair
from .aggregation import aggregate_backward
from .forward import Kept, Pass
from .rows import normalize, sum_columns, through, through_product
from .sums import Sums
from .weights import Weights

__all__ = ['Backward']


class Backward(Pass):
    """The backward pass over the rows of a map."""

    def __init__(self, grad: Tensor, x: Tensor, tensors: BlockTensors, drops: list[Tensor], kept: Kept,
                 eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype,
                 wanted: list[bool]) -> None:
        super().__init__(x, tensors, drops, eps, post_norm, normalize_modulator, dtype, Weights(tensors, *kept.weights))
        self.kept = kept
        self.wanted = {name for name, is_wanted in zip(WANTED, wanted, strict=True) if is_wanted}
        self.grad_rows = grad.resolve_neg().contiguous().view(self.rows.shape)
        # Biases, norms and layer scales.
        columns = kept.hidden.shape[1] + kept.context_gates.shape[1] + 15 * self.channels
        self.sums = Sums(self.rows, len(self.rows), columns)
        self.grad_weights: dict[str, Tensor] = {}

    def run(self) -> tuple[Tensor, BlockTensors]:
        """The gradients of the input and of the parameters; those that are not wanted are empty tensors."""
        grad_half = self._mlp()
        grad_query, grad_aggregated, given = self._modulation(grad_half)
        context, gates = self.split(self.kept.context_gates)
        # The columns that only fill up get no gradient.
        grad_context_gates = torch.zeros_like(self.kept.context_gates)
        grad_kernels = aggregate_backward(
            grad_aggregated, context, gates, self.kernels, self.weights.taps, self.kept.mean, self.kept.levels,
            self.size, self.normalize_modulator, 'kernels' in self.wanted, *self.split(grad_context_gates))
        grad_x = self._first_layer(grad_query, grad_context_gates, given, grad_half)
        return grad_x.view(self.x.shape).to(self.x.dtype), self._gradients(grad_kernels)

    def _gradients(self, grad_kernels: list[Tensor]) -> BlockTensors:
        nothing = self.rows.new_empty(0)
        total = self.sums.total()
        if 'f' in self.wanted:
            total['f'] = torch.cat((total['f, query'], total['f, context and gates']))[:len(self.tensors.f[1])]

        def layer(name: str) -> Pair:
            return (self.grad_weights[name], total[name]) if name in self.wanted else (nothing, nothing)

        def norm(name: str) -> Pair:
            return (total[f'{name}.weight'], total[f'{name}.bias']) if name in self.wanted else (nothing, nothing)

        return BlockTensors(
            f=layer('f'), h=layer('h'), proj=layer('proj'), fc1=layer('fc1'), fc2=layer('fc2'), norm1=norm('norm1'),
            norm2=norm('norm2'), inner_norm=norm('inner_norm') if self.tensors.inner_norm else None,
            kernels=grad_kernels or [nothing] * len(self.kernels),
            scales=[total[f'{name}.scale'] if 'scales' in self.wanted else nothing
                    for name in ('norm1', 'norm2')[:len(self.tensors.scales)]])

    def _mlp(self) -> Tensor:
        """Through the MLP to the map between modulation and MLP."""
        kept, weights = self.kept, self.weights
        grad = self._branch(self.grad_rows, 1, 'fc2')
        if 'fc2' in self.wanted:
            self._learn('fc2', grad, F.gelu(kept.hidden))
        grad = grad @ weights.fc2[0]
        sum_columns(grad, self.sums, 'fc1', kept.hidden)
        if 'fc1' in self.wanted:
            self._learn('fc1', grad, kept.half.to(self.dtype) if self.post_norm else normalize(
                kept.half, self.tensors.norm2, self.eps[1], self.dtype))
        grad = grad @ weights.fc1[0]
        return self.grad_rows + grad if self.post_norm else self._norm(
            'norm2', grad, kept.half, 1, self.grad_rows.dtype, self.grad_rows)

    def _modulation(self, grad_half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Through projection and product (equation 6) to query and aggregated context; and what ``f`` took."""
        weights, aggregated, inner_norm = self.weights, self.kept.aggregated, self.tensors.inner_norm
        grad = self._branch(grad_half, 0, 'proj')
        given = self.given()
        query, modulator = F.linear(given, *weights.query), F.linear(aggregated, *weights.h)
        product = modulator * query
        if inner_norm:
            self._learn('proj', grad, normalize(product, inner_norm, self.eps[2], self.dtype))
            grad = self._norm('inner_norm', grad @ weights.proj[0], product, 2, self.dtype)
        else:
            self._learn('proj', grad, product)
            grad = grad @ weights.proj[0]
        del product
        grad_query = through_product(grad, query, modulator, self.sums, ['f, query', 'h'])
        self._learn('h', grad, aggregated)
        return grad_query, grad @ weights.h[0], given

    def _first_layer(self, grad_query: Tensor, grad_context_gates: Tensor, given: Tensor, grad_half: Tensor) -> Tensor:
        """Through ``f`` and the norm before it; with what came through the residual sum."""
        weights, channels = self.weights, self.channels
        if 'f' in self.wanted:
            sum_columns(grad_context_gates, self.sums, 'f, context and gates')
            found = given.new_empty(channels + grad_context_gates.shape[1], channels)
            torch.mm(grad_query.t(), given, out=found[:channels])
            torch.mm(grad_context_gates.t(), given, out=found[channels:])
            self.grad_weights['f'] = found[:len(self.tensors.f[0])]
        if not self.wanted & {'x', 'norm1'}:
            return grad_half
        grad = torch.addmm(grad_query @ weights.query[0], grad_context_gates, weights.context_gates[0])
        return grad_half + grad if self.post_norm else self._norm(
            'norm1', grad, self.rows, 0, grad_half.dtype, grad_half)

    def _branch(self, grad: Tensor, i: int, layer: str) -> Tensor:
        """The gradient of what modulation (0) or MLP (1) returned, by its last layer."""
        norm, scale, name = self.norm_behind(i), self.scale(i), ('norm1', 'norm2')[i]
        learns = (norm is not None and name in self.wanted) or (scale is not None and 'scales' in self.wanted)
        return through(grad, self.kept.branches[i] if self.kept.branches else None, norm, self.eps[i], scale,
                       self.drop(i), self.per_image, self.dtype, self.sums, learned=name if learns else '',
                       summed=layer if layer in self.wanted else '')

    def _norm(self, name: str, grad: Tensor, given: Tensor, i: int, dtype: torch.dtype,
              added: Tensor | None = None) -> Tensor:
        return through(grad, given, getattr(self.tensors, name), self.eps[i], None, None, self.per_image, dtype,
                       self.sums, added, name if name in self.wanted else '')

    def _learn(self, name: str, grad: Tensor, given: Tensor) -> None:
        """The gradient of the weight of a linear layer."""
        if name in self.wanted:
            self.grad_weights[name] = grad.t() @ given
