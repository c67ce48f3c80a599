"""FocalNet's block over channels-last memory, for CPUs: the numbers of the reference in less time and memory.

Pointwise layers run over pieces of the feature map that stay in the cache, so that what lies between two of them is
never as large as the map. Training keeps what is dear to compute (the context, the levels and the hidden layer before
their activation) and recomputes what is cheap (norms, activations, the query and the modulator). docs/speed.md tells
what each of this gains.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..tensors import BlockTensors
from .aggregation import aggregate, aggregate_backward
from .pointwise import as_map, as_rows, linear, linear_gelu, normalize, per_row, pieces, weight_grad

__all__ = ['compute_block']


def compute_block(x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                  normalize_modulator: bool, dtype: torch.dtype) -> Tensor:
    """What a block computes, with a graph for first derivatives where they are wanted.

    Args:
        x: Feature map (N, C, H, W) in channels-last memory.
        tensors: The block's parameters.
        drops: What stochastic depth multiplies the results of modulation and MLP with, each (N, 1, 1, 1); or nothing.
        eps: That of ``norm1``, ``norm2`` and, where there is one, the norm inside the modulation.
        post_norm: Whether the norms come behind modulation and MLP.
        normalize_modulator: Whether to divide the aggregated context by the number of levels + 1.
        dtype: In which to compute convolutions and linear layers; norms and residual sums stay as they are.

    Returns:
        Feature map (N, C, H, W) in channels-last memory.

    Raises:
        RuntimeError: A second derivative is asked for.
    """
    lists = tensors.flatten()
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *itertools.chain(*lists)))
    # torch.compile takes the whole as one operator; called without it or a graph, that would only cost time.
    run = _block if keep or torch.compiler.is_compiling() else _compute_block
    return run(x, *lists, drops, eps, post_norm, normalize_modulator, dtype, keep)[0]


class _Kept(NamedTuple):
    """What the backward pass needs besides input and parameters, each (N · H · W, ·)."""

    #: ``Z⁰``.
    context: Tensor
    #: ``G``.
    gates: Tensor
    #: ``Zᵒᵘᵗ``.
    aggregated: Tensor
    #: ``Zˡ`` before their activation.
    levels: list[Tensor]
    #: The map between modulation and MLP.
    half: Tensor
    #: The results of modulation and MLP, where a norm or a layer scale follows.
    branches: list[Tensor]
    #: The hidden layer of the MLP before its activation, in pieces.
    hidden: list[Tensor]

    def flatten(self) -> list[Tensor]:
        return [self.context, self.gates, self.aggregated, self.half, *self.levels, *self.branches, *self.hidden]

    @classmethod
    def unflatten(cls, flat: list[Tensor], levels: int, branches: int) -> _Kept:
        context, gates, aggregated, half, *rest = flat
        return cls(context, gates, aggregated, rest[:levels], half, rest[levels:levels + branches],
                   rest[levels + branches:])


def _kept_branches(scales: list[Tensor], post_norm: bool) -> int:
    """How many results of modulation and MLP the backward pass needs."""
    return 2 if post_norm or scales else 0


def _residual_dtype(x: Tensor, scales: list[Tensor]) -> torch.dtype:
    """That of the residual sums: a layer scale in float32 raises them to it, under autocast too."""
    return torch.promote_types(x.dtype, scales[0].dtype) if scales else x.dtype


class _Forward:
    """The forward pass over the rows of a map."""

    def __init__(self, x: Tensor, tensors: BlockTensors, drops: list[Tensor], eps: list[float], post_norm: bool,
                 normalize_modulator: bool, dtype: torch.dtype) -> None:
        self.x, self.tensors, self.dtype = x, tensors, dtype
        self.eps, self.post_norm, self.normalize_modulator = eps, post_norm, normalize_modulator
        self.rows = as_rows(x)
        self.drops = [per_row(drop, x) for drop in drops]
        channels = self.rows.shape[1]
        self.query, self.context_gates = zip(
            *(parameter.split((channels, len(parameter) - channels)) for parameter in tensors.f))

    def run(self, keep: bool) -> list[Tensor]:
        """The block's output and, if told to, what its backward pass needs."""
        rows, tensors = self.rows, self.tensors
        context, gates = self._context()
        aggregated, levels = aggregate(as_map(context, self.x), as_map(gates, self.x), tensors.kernels,
                                       self.normalize_modulator, keep)
        aggregated = as_rows(aggregated)
        out = torch.empty_like(rows, dtype=_residual_dtype(rows, tensors.scales))
        kept = None
        if keep:
            branches = [torch.empty_like(context) for _ in range(_kept_branches(tensors.scales, self.post_norm))]
            kept = _Kept(context, gates, aggregated, [as_rows(level) for level in levels], torch.empty_like(out),
                         branches, [])
        activated: Tensor | None = None
        for piece in self._pieces():
            half = kept.half[piece] if kept else torch.empty_like(out[piece])
            branch = self._modulation(piece, aggregated[piece])
            self._residual(rows[piece], branch, piece, 0, half)
            if kept and kept.branches:
                kept.branches[0][piece] = branch
            given = (half if self.post_norm else normalize(half, tensors.norm2, self.eps[1])[0]).to(self.dtype)
            if kept:
                hidden = linear(given, *tensors.fc1)
                kept.hidden.append(hidden)
                activated = torch.empty_like(hidden) if activated is None else activated
                given = torch.ops.aten.gelu.out(hidden, out=activated[:len(hidden)])
            else:
                given = linear_gelu(given, *tensors.fc1)
            branch = linear(given, *tensors.fc2)
            self._residual(half, branch, piece, 1, out[piece])
            if kept and kept.branches:
                kept.branches[1][piece] = branch
        return [as_map(out, self.x), *(kept.flatten() if kept else [])]

    def _pieces(self) -> list[slice]:
        return list(pieces(self.rows, len(self.tensors.fc1[0]), self.dtype))

    def _input(self, piece: slice) -> Tensor:
        """What ``f`` takes."""
        rows = self.rows[piece]
        return (rows if self.post_norm else normalize(rows, self.tensors.norm1, self.eps[0])[0]).to(self.dtype)

    def _context(self) -> tuple[Tensor, Tensor]:
        channels, count = self.rows.shape[1], len(self.tensors.kernels) + 1
        context = self.rows.new_empty(self.rows.shape, dtype=self.dtype)
        gates = self.rows.new_empty(len(self.rows), count, dtype=self.dtype)
        for piece in self._pieces():
            context[piece], gates[piece] = linear(self._input(piece), *self.context_gates).split((channels, count), 1)
        return context, gates

    def _modulation(self, piece: slice, aggregated: Tensor) -> Tensor:
        queries = linear(self._input(piece), *self.query)
        branch = linear(aggregated, *self.tensors.h).mul_(queries)
        if self.tensors.inner_norm:
            branch = normalize(branch.to(self.rows.dtype), self.tensors.inner_norm, self.eps[2])[0].to(self.dtype)
        return linear(branch, *self.tensors.proj)

    def _residual(self, base: Tensor, branch: Tensor, piece: slice, i: int, out: Tensor) -> None:
        """Add what modulation (0) or MLP (1) returned."""
        if self.post_norm:
            norm = (self.tensors.norm1, self.tensors.norm2)[i]
            branch = normalize(branch.to(self.rows.dtype), norm, self.eps[i])[0]
        if self.tensors.scales:
            branch = self.tensors.scales[i] * branch
        if self.drops:
            branch = branch * self.drops[i][piece]
        torch.add(base, branch, out=out)


def _compute_block(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                   drops: list[Tensor], eps: list[float], post_norm: bool, normalize_modulator: bool,
                   dtype: torch.dtype, keep: bool) -> list[Tensor]:
    tensors = BlockTensors.unflatten(parameters, kernels, scales).to(dtype)
    return _Forward(x, tensors, drops, eps, post_norm, normalize_modulator, dtype).run(keep)


# Operators of their own are whole for torch.compile, which would unroll the pieces, and fuse less, otherwise.
_block = torch.library.custom_op('focalnet_mm::block', _compute_block, mutates_args=())


@_block.register_fake
def _(x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor], drops: list[Tensor],
      eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype, keep: bool) -> list[Tensor]:
    out = torch.empty_like(x, dtype=_residual_dtype(x, scales), memory_format=torch.channels_last)
    if not keep:
        return [out]
    rows, levels = as_rows(x), len(kernels)
    hidden = len(BlockTensors.unflatten(parameters, kernels, scales).fc1[0])
    context, aggregated, *maps = (torch.empty_like(rows, dtype=dtype)
                                  for _ in range(2 + levels + _kept_branches(scales, post_norm)))
    return [out, *_Kept(
        context, rows.new_empty(len(rows), levels + 1, dtype=dtype), aggregated, maps[:levels],
        torch.empty_like(rows, dtype=out.dtype), maps[levels:],
        [rows.new_empty(piece.stop - piece.start, hidden, dtype=dtype) for piece in pieces(rows, hidden, dtype)],
    ).flatten()]


class _Backward:
    """The backward pass over the rows of a map; the gradients of parameters are sums over its pieces."""

    def __init__(self, grad: Tensor, x: Tensor, tensors: BlockTensors, drops: list[Tensor], kept: _Kept,
                 eps: list[float], post_norm: bool, normalize_modulator: bool, dtype: torch.dtype) -> None:
        self.x, self.kept, self.dtype = x, kept, dtype
        self.eps, self.post_norm, self.normalize_modulator = eps, post_norm, normalize_modulator
        self.rows = as_rows(x)
        self.grad_rows = as_rows(grad.contiguous(memory_format=torch.channels_last))
        self.drops = [per_row(drop, x) for drop in drops]
        self.tensors = tensors.to(dtype)
        self.parameter_dtype = tensors.f[0].dtype
        self.query = [parameter[:self.rows.shape[1]] for parameter in self.tensors.f]
        self.transposed = {name: getattr(self.tensors, name)[0].t().contiguous()
                           for name in ('f', 'h', 'proj', 'fc1', 'fc2')}
        self.sums: dict[str, tuple[Tensor, ...]] = {}

    def run(self) -> tuple[Tensor, BlockTensors]:
        """The gradients of the input and of the parameters."""
        kept = self.kept
        grad_x, grad_query, grad_aggregated = (
            torch.empty_like(like) for like in (self.grad_rows, kept.context, kept.context))
        activated = torch.empty_like(kept.hidden[0])
        for piece, hidden in zip(self._pieces(), kept.hidden, strict=True):
            grad_x[piece] = grad_half = self._mlp(piece, hidden, activated[:len(hidden)])
            grad_aggregated[piece] = self._modulation(piece, grad_half, grad_query[piece])
        grad_map, context, gates = (as_map(rows, self.x) for rows in (grad_aggregated, kept.context, kept.gates))
        grad_context, grad_gates, grad_kernels = aggregate_backward(
            grad_map, context, gates, self.tensors.kernels, [as_map(level, self.x) for level in kept.levels],
            self.normalize_modulator)
        for piece in self._pieces():
            grad_f = torch.cat([grad_query[piece], grad_context[piece], grad_gates[piece]], 1)
            grad_x[piece] += self._normed_linear('f', 'norm1', grad_f, self.rows[piece], 0)
        scales = [self.sums.pop(name)[0] for name in ('scale0', 'scale1') if name in self.sums]
        layers = {name: (weight, bias) for name, (weight, bias) in self.sums.items()}
        inner_norm = layers.pop('inner_norm', None)
        grads = BlockTensors(**layers, inner_norm=inner_norm, kernels=grad_kernels, scales=scales)
        return as_map(grad_x, self.x).to(self.x.dtype), grads

    def _pieces(self) -> list[slice]:
        return list(pieces(self.rows, len(self.tensors.fc1[0]), self.dtype))

    def _mlp(self, piece: slice, hidden: Tensor, activated: Tensor) -> Tensor:
        """Through the MLP to the map between modulation and MLP; overwrites ``activated``."""
        grad = self._residual(self.grad_rows[piece], piece, 1)
        self._collect_linear('fc2', grad, torch.ops.aten.gelu.out(hidden, out=activated))
        grad = linear(grad, self.transposed['fc2'], None)
        torch.ops.aten.gelu_backward.grad_input(grad, hidden, grad_input=grad)
        return self.grad_rows[piece] + self._normed_linear('fc1', 'norm2', grad, self.kept.half[piece], 1)

    def _modulation(self, piece: slice, grad_half: Tensor, grad_query: Tensor) -> Tensor:
        """Through projection and product to the aggregated context; writes the gradient of the query."""
        grad = self._residual(grad_half, piece, 0)
        rows, tensors, eps = self.rows[piece], self.tensors, self.eps
        aggregated = self.kept.aggregated[piece]
        modulator = linear(aggregated, *tensors.h)
        given = (rows if self.post_norm else normalize(rows, tensors.norm1, eps[0])[0]).to(self.dtype)
        queries = linear(given, *self.query)
        product = modulator * queries
        if tensors.inner_norm:
            product = product.to(self.rows.dtype)
            normed, mean, rstd = normalize(product, tensors.inner_norm, eps[2])
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
                self._collect(f'scale{i}', (grad * normed).sum(0))
                grad = grad * scales[i]
            if self.post_norm:
                grad = self._norm(name, grad, branch, mean, rstd)
        return grad.to(self.dtype)

    def _norm(self, name: str, grad: Tensor, given: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        grad, *found = torch.ops.aten.native_layer_norm_backward(
            grad.to(given.dtype), given, [given.shape[1]], mean, rstd, *getattr(self.tensors, name),
            [True, True, True])
        self._collect(name, *found)
        return grad

    def _collect_linear(self, name: str, grad: Tensor, given: Tensor) -> None:
        self._collect(name, weight_grad(grad, given), grad.sum(0))

    def _collect(self, name: str, *found: Tensor) -> None:
        """Add gradients of some rows to those of the rows before."""
        if name not in self.sums:
            self.sums[name] = tuple(part.to(self.parameter_dtype) for part in found)
        else:
            for total, part in zip(self.sums[name], found, strict=True):
                total += part


@torch.library.custom_op('focalnet_mm::block_backward', mutates_args=())
def _block_backward(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
                    drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool,
                    normalize_modulator: bool, dtype: torch.dtype) -> list[Tensor]:
    """Gradients of the input, the parameters, the kernels and the layer scales."""
    found = _Kept.unflatten(kept, len(kernels), _kept_branches(scales, post_norm))
    tensors = BlockTensors.unflatten(parameters, kernels, scales)
    grad_x, grads = _Backward(grad, x, tensors, drops, found, eps, post_norm, normalize_modulator, dtype).run()
    given = itertools.chain(*tensors.flatten())
    return [grad_x, *(found.view_as(tensor).to(tensor.dtype)
                      for found, tensor in zip(itertools.chain(*grads.flatten()), given, strict=True))]


@_block_backward.register_fake
def _(grad: Tensor, x: Tensor, parameters: list[Tensor], kernels: list[Tensor], scales: list[Tensor],
      drops: list[Tensor], kept: list[Tensor], eps: list[float], post_norm: bool, normalize_modulator: bool,
      dtype: torch.dtype) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.channels_last),
            *(torch.empty_like(tensor, memory_format=torch.contiguous_format)
              for tensor in (*parameters, *kernels, *scales))]


def _save_block(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, *lists, eps, post_norm, normalize_modulator, dtype, _ = inputs
    # Nothing but the block's output has a gradient; zeros for the rest would be as large as all that is kept.
    ctx.set_materialize_grads(False)
    ctx.lengths = [len(tensors) for tensors in lists]
    ctx.settings = eps, post_norm, normalize_modulator, dtype
    ctx.save_for_backward(x, *itertools.chain(*lists), *output[1:])


def _differentiate_block(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    if grads[0] is None:
        return None, *([None] * length for length in ctx.lengths), None, None, None, None, None
    x, *rest = ctx.saved_tensors
    saved = iter(rest)
    lists = [list(itertools.islice(saved, length)) for length in ctx.lengths]
    grad_x, *flat = _block_backward(grads[0], x, *lists, list(saved), *ctx.settings)
    found = iter(flat)
    parameters, kernels, scales = (list(itertools.islice(found, length)) for length in ctx.lengths[:3])
    return grad_x, parameters, kernels, scales, [None] * ctx.lengths[3], None, None, None, None, None


_block.register_autograd(_differentiate_block, setup_context=_save_block)
