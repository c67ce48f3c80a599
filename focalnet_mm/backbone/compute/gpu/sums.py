"""Sums over all pixels in two steps, without atomics, so that every run gives the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from .classes import row_shares

__all__ = ['Sums']


class Sums:
    """Sums of columns over all rows of maps. Kernels leave those of a share of the rows each, which torch adds up once
    for all of them.

    Args:
        like: A tensor of the device.
        pixels: How many rows maps have.
        columns: How many columns are summed at most.
    """

    def __init__(self, like: Tensor, pixels: int, columns: int) -> None:
        self.count, self.share = row_shares(pixels)
        self._partial = like.new_empty(self.count, columns, dtype=torch.float32)
        self._places: dict[str, tuple[int, int]] = {}
        self._used = 0

    def take(self, names: list[str], width: int) -> Tensor:
        """Where a kernel leaves sums of ``width`` columns for each name, (shares, names · width) in float32."""
        start = self._used
        for name in names:
            self._places[name] = self._used, self._used + width
            self._used += width
        return self._partial[:, start:self._used]

    def total(self) -> dict[str, Tensor]:
        """Name → its sums, (width) in float32, which share memory."""
        total = self._partial[:, :self._used].sum(0)
        return {name: total[start:end] for name, (start, end) in self._places.items()}
