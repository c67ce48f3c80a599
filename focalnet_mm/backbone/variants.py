"""What the paper compares focal modulation with (arXiv 2203.11926v3, tables 12 and 13), each in the place of it.

A block of another modulation is always computed by the reference. The tensors of these modulations have names that
focal modulation has not, so that a checkpoint of one is never taken for one of another.

The authors published neither code nor weights of them. The formulas are the paper's; what it leaves open follows its
parameters and FLOPs where these decide, and otherwise is said here to be a choice.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modulation import FocalModulation, depthwise_levels, level_kernels

__all__ = ['MODULATIONS', 'SlidingWindowAttention', 'Variant', 'build_modulation', 'check_modulation']

# The width of a head is not published; it is that of Swin and Focal Transformer.
_HEAD_CHANNELS = 32
_WINDOW = 7


class Variant(nn.Module):
    """What all of them have: levels, and the way out, ``Y = proj(ln(·))``.

    Args:
        embed_dims: As :class:`~focalnet_mm.FocalModulation` takes it.
        focal_level: The same.
        focal_window: The same.
        focal_factor: The same.
        post_norm: Normalise before the last projection.
        normalize_modulator: Divide the sum over the maps by their number.
        drop_rate: Dropout after the projection.

    Raises:
        ValueError: A level's kernel is even or not positive, there are too few levels, or ``normalize_modulator`` is
            set and there is no sum over maps.
    """

    _SUMS_MAPS = False
    _LEAST_LEVELS = 0

    def __init__(self, embed_dims: int, focal_level: int, focal_window: int, focal_factor: int = 2,
                 post_norm: bool = False, normalize_modulator: bool = False, drop_rate: float = 0.0) -> None:
        super().__init__()
        kernels = level_kernels(focal_level, focal_window, focal_factor)
        if focal_level < self._LEAST_LEVELS:
            raise ValueError(f'{type(self).__name__} needs {self._LEAST_LEVELS} focal level or more, got '
                             f'{focal_level}: raise focal_levels.')
        if normalize_modulator and not self._SUMS_MAPS:
            raise ValueError(f'{type(self).__name__} sums no levels up, whose number normalize_modulator would divide '
                             'by: set it to False.')
        self.embed_dims = embed_dims
        self.focal_level = focal_level
        self.normalize_modulator = normalize_modulator
        self.focal_layers = self._levels(kernels)
        self.ln = nn.LayerNorm(embed_dims) if post_norm else nn.Identity()
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(drop_rate)

    def kernels(self) -> list[Tensor]:
        """The depthwise kernel of each level, (C, 1, k, k); none where the levels have no weights."""
        convolutions = [level[0] for level in self.focal_layers if isinstance(level, nn.Sequential)]
        return [convolution.weight for convolution in convolutions if isinstance(convolution, nn.Conv2d)]

    def _levels(self, kernels: Iterable[int]) -> nn.ModuleList:
        return depthwise_levels(self.embed_dims, kernels)

    def _maps(self, context: Tensor) -> list[Tensor]:
        """``Z⁰, Z¹, …, Zᴸ`` and the global context ``Zᴸ⁺¹``, each (N, C, H, W), the last one (N, C, 1, 1)."""
        maps = [context]
        for level in self.focal_layers:
            maps.append(level(maps[-1]))
        return [*maps, F.gelu(maps[-1].mean((2, 3), keepdim=True))]

    def _project(self, x: Tensor) -> Tensor:
        return self.proj_drop(self.proj(self.ln(x)))


class _Aggregation(Variant):
    """Focal modulation with one step exchanged.

    ``Y = proj(f_q(X) ⊙ h(Zᵒᵘᵗ))``, ``Zᵒᵘᵗ = Σ Gˡ ⊙ Zˡ``, ``G = f_g(X)``, ``Z⁰ = f_z(X)``.
    """

    _SUMS_MAPS = True
    #: Which of ``Z¹ … Zᴸ⁺¹`` are summed.
    _SUMMED = slice(None)
    _IS_GATED = True

    def __init__(self, embed_dims: int, focal_level: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(embed_dims, focal_level, *args, **kwargs)
        self.f_q = nn.Linear(embed_dims, embed_dims)
        self.f_z = nn.Linear(embed_dims, embed_dims)
        self.f_g = nn.Linear(embed_dims, len(range(focal_level + 1)[self._SUMMED])) if self._IS_GATED else None
        self.h = nn.Conv2d(embed_dims, embed_dims, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) → (N, H, W, C)."""
        maps = self._maps(self.f_z(x).permute(0, 3, 1, 2))[1:][self._SUMMED]
        if self.f_g is not None:
            gates = self.f_g(x).permute(0, 3, 1, 2).unsqueeze(2).unbind(1)
            maps = [gate * context for gate, context in zip(gates, maps)]
        aggregated = maps[0]
        for context in maps[1:]:
            aggregated = aggregated + context
        if self.normalize_modulator:
            aggregated = aggregated / len(maps)
        return self._project(self._interact(self.f_q(x), self.h(aggregated).permute(0, 2, 3, 1)))

    def _interact(self, query: Tensor, modulator: Tensor) -> Tensor:
        return query * modulator


class SumModulation(_Aggregation):
    """Table 13: the modulator is added, ``Y = proj(f_q(X) + h(Zᵒᵘᵗ))``."""

    def _interact(self, query: Tensor, modulator: Tensor) -> Tensor:
        return query + modulator


class NoGlobalModulation(_Aggregation):
    """Table 13: without the global context, ``Zᵒᵘᵗ = Σ Gˡ ⊙ Zˡ`` over ``l = 1…L``."""

    _SUMMED = slice(None, -1)
    _LEAST_LEVELS = 1


class TopOnlyModulation(_Aggregation):
    """Table 13: only the map of the top level, ``Zᵒᵘᵗ = Gᴸ ⊙ Zᴸ``.

    That the top is ``Zᴸ`` and not the global context is a choice: the global context alone has 75.7 in table 12, and
    this 81.9. So is that its gate stays, which table 13 takes away in a row of its own.
    """

    _SUMMED = slice(-2, -1)
    _LEAST_LEVELS = 1


class NoGatingModulation(_Aggregation):
    """Table 13: without gates, ``Zᵒᵘᵗ = Σ Zˡ`` over ``l = 1…L+1``."""

    _IS_GATED = False


class PoolingModulation(_Aggregation):
    """Table 12, *pooling aggregator*: a level is the average pool of the one below, of its kernel, with stride 1.

    Choices: no GELU follows a pool, as in the paper's formula; at the border the average is that of the positions
    inside the map, as in PoolFormer.
    """

    def _levels(self, kernels: Iterable[int]) -> nn.ModuleList:
        return nn.ModuleList(nn.AvgPool2d(kernel, 1, kernel // 2, count_include_pad=False) for kernel in kernels)


class DepthwiseConvNet(Variant):
    """Table 12, *depth-wise ConvNet*: ``Y = proj(q(GELU(h(Zᴸ))))`` with ``Z⁰ = f_z(X)``, and no gates or product.

    The published parameters fit four linear layers, so that ``f_z`` and the last projection stay.
    """

    def __init__(self, embed_dims: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(embed_dims, *args, **kwargs)
        self.f_z = nn.Linear(embed_dims, embed_dims)
        self.h = nn.Conv2d(embed_dims, embed_dims, kernel_size=1)
        self.q = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) → (N, H, W, C)."""
        context = self.f_z(x).permute(0, 3, 1, 2)
        for level in self.focal_layers:
            context = level(context)
        return self._project(self.q(F.gelu(self.h(context)).permute(0, 2, 3, 1)))


class _Attention(Variant):
    """Each position attends to some tokens of its own, with several heads.

    The number of heads is a choice: 32 channels each, one head where there are fewer channels.

    Raises:
        ValueError: The channels are no multiple of a head's.
    """

    def __init__(self, embed_dims: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(embed_dims, *args, **kwargs)
        self.num_heads = max(embed_dims // _HEAD_CHANNELS, 1)
        if embed_dims % self.num_heads:
            raise ValueError(f'{type(self).__name__} has heads of {_HEAD_CHANNELS} channels, of which {embed_dims} '
                             'channels are no multiple: choose other embed_dims.')

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """``softmax(q · kᵀ / √d + bias) v`` per position and head.

        Args:
            query: (N, H, W, C).
            keys: Those of T tokens of each position, (N, H, W, T, C).
            values: Likewise.
            bias: What broadcasts to (N, H, W, heads, T).

        Returns:
            (N, H, W, C).
        """
        heads = self.num_heads, self.embed_dims // self.num_heads
        query, keys, values = (part.unflatten(-1, heads) for part in (query, keys, values))
        scores = torch.einsum('...ad,...tad->...at', query * heads[1]**-0.5, keys)
        if bias is not None:
            scores = scores + bias
        return torch.einsum('...at,...tad->...ad', scores.softmax(-1), values).flatten(-2)

    def _tokens(self, x: Tensor) -> Tensor:
        """``X, Z¹, …, Zᴸ⁺¹`` with ``Z⁰ = X`` at each position, (N, H, W, C) → (N, H, W, L+2, C)."""
        maps = (context.permute(0, 2, 3, 1) for context in self._maps(x.permute(0, 3, 1, 2)))
        return torch.stack([context.expand_as(x) for context in maps], 3)


class QKVFirstAttention(_Attention):
    """Table 12, *multi-scale self-attention, QKV first*: the levels are made of keys and of values.

    ``q, k⁰, v⁰ = f(X)``; ``kˡ`` and ``vˡ`` follow from ``kˡ⁻¹`` and ``vˡ⁻¹`` as in equation 4, by the same kernels,
    since the published parameters leave no room for others; ``Y = proj(SA(q; k⁰ … kᴸ⁺¹; v⁰ … vᴸ⁺¹))``.
    """

    def __init__(self, embed_dims: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(embed_dims, *args, **kwargs)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) → (N, H, W, C)."""
        query, key, value = self.qkv(x).chunk(3, -1)
        return self._project(self._attend(query, self._tokens(key), self._tokens(value)))


class QKVLaterAttention(_Attention):
    """Table 12, *multi-scale self-attention, QKV later*: keys and values are made of each level.

    ``Z⁰ = X``; ``Y = proj(SA(q(X); k(X), k(Z¹) … k(Zᴸ⁺¹); v(X), v(Z¹) … v(Zᴸ⁺¹)))``. The published parameters leave no
    room for ``f_z``, and the published FLOPs fit keys and values of the global context that are computed at each
    position, as here, though they are all the same.
    """

    def __init__(self, embed_dims: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(embed_dims, *args, **kwargs)
        self.q = nn.Linear(embed_dims, embed_dims)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) → (N, H, W, C)."""
        return self._project(self._attend(self.q(x), *self.kv(self._tokens(x)).chunk(2, -1)))


class SlidingWindowAttention(_Attention):
    """Table 12, *sliding-window self-attention*: ``Y = proj(SA(q(xᵢ); k(xⱼ); v(xⱼ)))``, j in the 7×7 window around i.

    Focal levels, windows and factors say nothing here. At the border the window is what of it lies inside the map.
    That each head adds a bias for the relative position, as in Swin, is a choice: a window without it has no order.
    """

    def __init__(self, embed_dims: int, focal_level: int, focal_window: int, focal_factor: int = 2, *args: Any,
                 **kwargs: Any) -> None:
        super().__init__(embed_dims, 0, _WINDOW, 0, *args, **kwargs)
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.relative_position_bias_table = nn.Parameter(torch.empty(_WINDOW**2, self.num_heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the biases of the relative positions anew."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) → (N, H, W, C)."""
        query, key, value = self.qkv(x).chunk(3, -1)
        is_outside = _windows(x.new_ones(1, *x.shape[1:3], 1)).squeeze(-1).unsqueeze(-2) == 0
        bias = self.relative_position_bias_table.t().masked_fill(is_outside, float('-inf'))
        return self._project(self._attend(query, _windows(key), _windows(value), bias))


def _windows(x: Tensor) -> Tensor:
    """The positions around each one, zeros outside: (N, H, W, C) → (N, H, W, 49, C)."""
    _, height, width, channels = x.shape
    columns = F.unfold(x.permute(0, 3, 1, 2), _WINDOW, padding=_WINDOW // 2)
    windows = columns.unflatten(2, (height, width)).unflatten(1, (channels, _WINDOW**2)).permute(0, 3, 4, 2, 1)
    # Otherwise torch.export asks of the strides whether there is more than one image.
    return windows.contiguous()


def _global_pooling(embed_dims: int, focal_level: int, *args: Any, **kwargs: Any) -> FocalModulation:
    """Table 12, *global pooling*: focal modulation of no levels, whatever ``focal_level`` says."""
    return FocalModulation(embed_dims, 0, *args, **kwargs)


#: Name → what builds the modulation; all take the arguments of :class:`~focalnet_mm.FocalModulation`.
MODULATIONS: dict[str, Callable[..., FocalModulation | Variant]] = {
    'focal': FocalModulation,
    'depthwise_convnet': DepthwiseConvNet,
    'pooling': PoolingModulation,
    'global_pooling': _global_pooling,
    'self_attention_qkv_first': QKVFirstAttention,
    'self_attention_qkv_later': QKVLaterAttention,
    'sliding_window': SlidingWindowAttention,
    'sum': SumModulation,
    'no_global': NoGlobalModulation,
    'top_only': TopOnlyModulation,
    'no_gating': NoGatingModulation,
}


def check_modulation(name: Any) -> None:
    """Raise ValueError where there is no modulation of this name."""
    if not isinstance(name, str) or name not in MODULATIONS:
        close = difflib.get_close_matches(str(name), MODULATIONS, n=1)
        hint = f'did you mean {close[0]!r}? ' if close else ''
        raise ValueError(f'Unknown modulation {name!r}: {hint}There are {", ".join(MODULATIONS)}.')


def build_modulation(name: str, *args: Any, **kwargs: Any) -> FocalModulation | Variant:
    """A modulation by its name.

    Args:
        name: A key of :data:`MODULATIONS`.
        *args: The arguments of :class:`~focalnet_mm.FocalModulation`.
        **kwargs: The same.

    Raises:
        ValueError: There is none of this name, or it does not take these settings.
    """
    check_modulation(name)
    return MODULATIONS[name](*args, **kwargs)
