"""The backward pass of a block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import WANTED, BlockTensors, Pair
from .aggregation import aggregate_backward
from .forward import Kept, Pass
from .rows import normalize, through

__all__ = ['Backward']


class Backward(Pass):
    """The backward pass over the rows of a map."""

    def __init__(self, grad: Tensor, x: Tensor, tensors: BlockTensors, drops: list[Tensor], kept: Kept,
                 eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype,
                 wanted: list[bool]) -> None:
        super().__init__(x, tensors, drops, eps, post_norm, normalize_modulator, dtype)
        self.kept = kept
        self.wanted = {name for name, is_wanted in zip(WANTED, wanted, strict=True) if is_wanted}
        self.grad_rows = grad.contiguous().view(self.rows.shape)
        self.found: dict[str, Pair] = {}
        self.scales_found: list[Tensor] = [self.rows.new_empty(0) for _ in tensors.scales]

    def run(self) -> tuple[Tensor, BlockTensors]:
        """The gradients of the input and of the parameters; those that are not wanted are empty tensors."""
        grad_half = self._mlp()
        grad_query, grad_aggregated, given = self._modulation(grad_half)
        context, gates = self.split(self.kept.context_gates)
        # The columns that only fill up get no gradient.
        grad_context_gates = torch.zeros_like(self.kept.context_gates)
        grad_kernels = aggregate_backward(
            grad_aggregated, context, gates, self.tensors.kernels, self.kept.mean, self.kept.levels, self.size,
            self.normalize_modulator, 'kernels' in self.wanted, *self.split(grad_context_gates))
        grad_x = self._first_layer(grad_query, grad_context_gates, given, grad_half)
        return grad_x.view(self.x.shape).to(self.x.dtype), self._gradients(grad_kernels)

    def _gradients(self, grad_kernels: list[Tensor]) -> BlockTensors:
        nothing = self.rows.new_empty(0)
        layers = dict(self.found)
        for name in ('f', 'h', 'proj', 'fc1', 'fc2', 'norm1', 'norm2'):
            layers.setdefault(name, (nothing, nothing))
        inner_norm = layers.pop('inner_norm', (nothing, nothing)) if self.tensors.inner_norm else None
        kernels = grad_kernels or [nothing] * len(self.tensors.kernels)
        return BlockTensors(**layers, inner_norm=inner_norm, kernels=kernels, scales=self.scales_found)

    def _mlp(self) -> Tensor:
        """Through the MLP to the map between modulation and MLP."""
        kept = self.kept
        grad = self._branch(self.grad_rows, 1)
        if 'fc2' in self.wanted:
            self._collect('fc2', grad, F.gelu(kept.hidden))
        grad = grad @ self.tensors.fc2[0]
        torch.ops.aten.gelu_backward.grad_input(grad, kept.hidden, grad_input=grad)
        if self.post_norm:
            self._collect('fc1', grad, kept.half.to(self.dtype))
            return self.grad_rows + grad @ self.tensors.fc1[0]
        if 'fc1' in self.wanted:
            self._collect('fc1', grad, normalize(kept.half, self.tensors.norm2, self.eps[1], self.dtype))
        return self._norm('norm2', grad @ self.tensors.fc1[0], kept.half, 1, self.grad_rows.dtype, self.grad_rows)

    def _modulation(self, grad_half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Through projection and product (equation 6) to query and aggregated context; and what ``f`` took."""
        tensors, aggregated = self.tensors, self.kept.aggregated
        grad = self._branch(grad_half, 0)
        given = self.given()
        query, modulator = F.linear(given, *self.query), F.linear(aggregated, *tensors.h)
        product = modulator * query
        if tensors.inner_norm:
            self._collect('proj', grad, normalize(product, tensors.inner_norm, self.eps[2], self.dtype))
            grad = self._norm('inner_norm', grad @ tensors.proj[0], product, 2, self.dtype)
        else:
            self._collect('proj', grad, product)
            grad = grad @ tensors.proj[0]
        del product
        grad_query = grad * modulator
        grad_modulator = grad.mul_(query)
        self._collect('h', grad_modulator, aggregated)
        return grad_query, grad_modulator @ tensors.h[0], given

    def _first_layer(self, grad_query: Tensor, grad_context_gates: Tensor, given: Tensor, grad_half: Tensor) -> Tensor:
        """Through ``f`` and the norm before it; with what came through the residual sum."""
        if 'f' in self.wanted:
            rest = len(self.tensors.f[0]) - self.channels
            weights = [grad_query.t() @ given, (grad_context_gates.t() @ given)[:rest]]
            biases = [_sum(grad_query), _sum(grad_context_gates)[:rest]]
            self.found['f'] = torch.cat(weights), torch.cat(biases)
        if not self.wanted & {'x', 'norm1'}:
            return grad_half
        grad = torch.addmm(grad_query @ self.query[0], grad_context_gates, self.context_gates[0])
        if self.post_norm:
            return grad_half + grad
        return self._norm('norm1', grad, self.rows, 0, grad_half.dtype, grad_half)

    def _branch(self, grad: Tensor, i: int) -> Tensor:
        """The gradient of what modulation (0) or MLP (1) returned."""
        norm, scale, name = self.norm_behind(i), self.scale(i), ('norm1', 'norm2')[i]
        learns = (norm is not None and name in self.wanted) or (scale is not None and 'scales' in self.wanted)
        found, for_scale, *for_norm = through(
            grad, self.kept.branches[i] if self.kept.branches else None, norm, self.eps[i], scale, self.drop(i),
            self.per_image, self.dtype, learns=learns)
        if norm is not None and name in self.wanted:
            self.found[name] = for_norm[0], for_norm[1]
        if scale is not None and 'scales' in self.wanted:
            self.scales_found[i] = for_scale
        return found

    def _norm(self, name: str, grad: Tensor, given: Tensor, i: int, dtype: torch.dtype,
              added: Tensor | None = None) -> Tensor:
        learns = name in self.wanted
        found, _, *for_norm = through(grad, given, getattr(self.tensors, name), self.eps[i], None, None, self.per_image,
                                      dtype, added, learns)
        if learns:
            self.found[name] = for_norm[0], for_norm[1]
        return found

    def _collect(self, name: str, grad: Tensor, given: Tensor) -> None:
        """The gradients of a linear layer."""
        if name in self.wanted:
            self.found[name] = grad.t() @ given, _sum(grad)


def _sum(grad: Tensor) -> Tensor:
    return grad.sum(0, dtype=torch.float32)
