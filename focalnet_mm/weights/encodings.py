"""The encoding of query positions, which the forks of mmdet made twice as fine."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ['fit_encoding', 'with_encodings']

# Boxes are encoded coordinate by coordinate.
_COORDINATES = 4


def fit_encoding(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    """The layer behind the encoding of query positions, for an encoding with twice as many frequencies.

    mmdet's DINO encodes each coordinate of a box in 128 sines and cosines of frequencies T^(-2k/128), its fork in 256
    of T^(-2k/256). Those with even k are the same, so that the layer computes the same where the weights of the others
    are zero.

    Args:
        name: Name of the tensor in the model.
        tensor: The checkpoint's (C, 4 · F): sine and cosine of each frequency in turn, coordinate by coordinate.
        shape: The model's, (C, 4 · 2F).

    Returns:
        A tensor of the model's shape.

    Raises:
        ValueError: It is no such layer, or the shapes are others.
    """
    if not name.endswith('ref_point_head.layers.0.weight') or tensor.dim() != 2 or (
            tuple(shape) != (tensor.shape[0], 2 * tensor.shape[1]) or tensor.shape[1] % (2 * _COORDINATES)):
        raise ValueError(f'{name}: {tuple(tensor.shape)} does not fit {tuple(shape)}.')
    pairs = tensor.view(len(tensor), _COORDINATES, -1, 1, 2)
    return torch.cat([pairs, torch.zeros_like(pairs)], 3).view(shape)


def with_encodings(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a checkpoint, those behind an encoding as the model's encoding wants them.

    Args:
        tensors: Tensors by the model's names.
        model: The model.

    Returns:
        The same tensors but for layers that :func:`fit_encoding` fits.
    """
    own = model.state_dict()
    found = dict(tensors)
    for name in own.keys() & tensors.keys():
        with contextlib.suppress(ValueError):
            found[name] = fit_encoding(name, tensors[name], own[name].shape)
    return found
