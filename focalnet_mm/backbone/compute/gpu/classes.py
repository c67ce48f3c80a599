"""Which tile a kernel takes: few, chosen by kernel, channels and data type alone, so that results and compile times are
the same on every run. No GPU has been measured yet: the choice rests on registers and shared memory as compiled."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ['Class', 'depthwise_class', 'kernel_gradient_class', 'pointwise_class', 'row_class', 'row_shares',
           'shares', 'tiles']

# How many pixels a program sums up at least, and into how many shares pixels are cut at most: for the gradient of a
# kernel, of which there are programs for each row and block of channels too, and for those of norms and layer scales.
_SHARES = 512, 128
_ROW_SHARES = 64, 1024


class Class(NamedTuple):
    """A tile: pixels down, pixels across, channels; and the warps that compute it."""

    height: int
    width: int
    channels: int
    warps: int


def depthwise_class(channels: int, element_size: int) -> Class:
    """That of a kernel with a depthwise sum. Elements of four bytes: with twice as many a thread, a kernel of 13 spills
    on sm_80."""
    if element_size > 2:
        return Class(4, 8, 16, 4)
    return Class(4, 8, 16, 2) if channels <= 16 else Class(4, 8, 32, 4)


def pointwise_class(channels: int) -> Class:
    """That of a kernel which looks at no neighbours; it takes an image for one line."""
    return Class(1, 64, 16, 4) if channels <= 16 else Class(1, 32, 64, 4)


def kernel_gradient_class(kernel: int, channels: int) -> tuple[int, Class]:
    """Taps a row of the kernel, rounded up to a power of two; and pixels and channels of a step of a program."""
    taps = 1 << (kernel - 1).bit_length()
    return taps, Class(1, min(32, 128 // taps), 16 if channels <= 16 else 32, 4)


def row_class(channels: int) -> Class:
    """That of a kernel which sums over all channels of a pixel: all of them at a time."""
    block = max(16, 1 << (channels - 1).bit_length())
    return Class(1, max(1, 1024 // block), block, 4 if block <= 2048 else 8)


def tiles(of: Class, height: int, width: int) -> int:
    """How many tiles an image has."""
    return -(-height // of.height) * -(-width // of.width)


def shares(pixels: int) -> tuple[int, int]:
    """Into how many shares the pixels are cut for the gradient of a kernel, and how many of them a share has."""
    return _cut(pixels, *_SHARES)


def row_shares(pixels: int) -> tuple[int, int]:
    """The same for the gradients of norms and layer scales."""
    return _cut(pixels, *_ROW_SHARES)


def _cut(pixels: int, least: int, most: int) -> tuple[int, int]:
    count = max(1, min(most, -(-pixels // least)))
    return count, -(-pixels // count)
