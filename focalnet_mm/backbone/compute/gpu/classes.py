"""Which tile a kernel takes: few, chosen by kernel and channels alone, so that results and compile times are the same
on every run. They were the fastest of some on an H200, docs/speed.md."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ['Class', 'column_class', 'depthwise_channels', 'depthwise_class', 'kernel_gradient_class',
           'pointwise_class', 'row_class', 'row_shares', 'shares', 'tiles']

# How many strips a program sums up at least, and into how many shares they are cut at most, for the gradient of a
# kernel, of which there are programs for each row and block of channels too; and the same of pixels for other sums.
_SHARES = 128, 64
_ROW_SHARES = 64, 1024


class Class(NamedTuple):
    """A tile: pixels down, pixels across, channels; the warps that compute it; and the pixels of a row that a thread
    computes."""

    height: int
    width: int
    channels: int
    warps: int
    strip: int = 1


def depthwise_channels(channels: int) -> int:
    """The channels of a tile of kernels with a depthwise sum."""
    return 16 if channels <= 16 else 32


def depthwise_class(channels: int, kernel: int) -> Class:
    """That of a kernel with a depthwise sum."""
    return Class(8, 16, depthwise_channels(channels), 4, 8 if kernel >= 7 else 4)


def pointwise_class(channels: int) -> Class:
    """That of a kernel which looks at no neighbours; it takes an image for one line."""
    return Class(1, 64, 16, 4) if channels <= 16 else Class(1, 32, 64, 4)


def kernel_gradient_class(channels: int) -> Class:
    """That of a step of a program which sums up over pixels."""
    return Class(1, 256, 16 if channels <= 16 else 32, 4, 16)


def column_class(channels: int) -> Class:
    """That of a step of a program which sums up columns of a map."""
    return Class(1, 64, 16, 4) if channels <= 16 else Class(1, 16, 64, 4)


def row_class(channels: int) -> Class:
    """That of a kernel which sums over all channels of a pixel: all of them at a time."""
    block = max(16, 1 << (channels - 1).bit_length())
    return Class(1, max(1, 1024 // block), block, 4 if block <= 2048 else 8)


def tiles(of: Class, height: int, width: int) -> int:
    """How many tiles an image has."""
    return -(-height // of.height) * -(-width // of.width)


def shares(strips: int) -> tuple[int, int]:
    """Into how many shares the strips are cut for the gradient of a kernel, and how many of them a share has."""
    return _cut(strips, *_SHARES)


def row_shares(pixels: int) -> tuple[int, int]:
    """The same of pixels, for the gradients of biases, norms and layer scales."""
    return _cut(pixels, *_ROW_SHARES)


def _cut(number: int, least: int, most: int) -> tuple[int, int]:
    count = max(1, min(most, -(-number // least)))
    return count, -(-number // count)
