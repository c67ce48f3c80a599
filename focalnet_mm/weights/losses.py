"""What of a checkpoint would be lost, or is worth nothing, without anybody noticing."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from mmengine.logging import print_log
from torch import Tensor

from .layouts import shorten

__all__ = ['check_numbers', 'lost_branches', 'lost_norms', 'warn', 'worthless']

# What a backbone has no use for although it is whole: a classifier's norm and head, output norms of stages that are not
# asked for, the blocks of stages that are not built, and what transformers pretrains with: a decoder of pictures, and
# what it puts in the place of a patch that is to be guessed.
_KNOWN = re.compile(r'(norm\d*|head|layers\.\d+\.(blocks|downsample)|decoder)\.|focalnet\.embeddings\.mask_token$')


def worthless(tensors: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with the values of weights, a sentence a fault.

    Args:
        tensors: Tensors by name. Of those with one dimension, such as biases, all may be zero.

    Returns:
        Sentences about weights that are not finite, and about weights that are zero everywhere.
    """
    infinite, zero = [], []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        # In one pass over the values, and without memory for as many answers; an old PyTorch has none for float16.
        least, greatest = (tensor.float() if tensor.element_size() <= 2 else tensor.detach()).aminmax()
        if not (least.isfinite() and greatest.isfinite()):
            infinite.append(name)
        elif tensor.dim() > 1 and least == 0 == greatest:
            zero.append(name)
    found = []
    if infinite:
        found.append(f'{len(infinite)} of its {len(tensors)} tensors hold NaN or infinity ({shorten(infinite)}): its '
                     'training diverged, or it is damaged; take an earlier checkpoint or get it again.')
    if zero:
        found.append(f'{len(zero)} of its {len(tensors)} tensors are weights of zeros alone ({shorten(zero)}): it was '
                     'never trained, or was not written whole; take another checkpoint or get it again.')
    return found


def check_numbers(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> None:
    """Refuse integers and complex numbers for weights, which a copy would take for real numbers without a word.

    Args:
        tensors: The checkpoint's tensors by the model's names.
        own: The model's tensors.
        source: Path or URL of the checkpoint.

    Raises:
        ValueError: A tensor is of another kind of number.
    """
    names = [name for name, tensor in tensors.items()
             if name in own and own[name].is_floating_point() and not tensor.is_floating_point()]
    if names:
        raise ValueError(f'The checkpoint {source} holds {len(names)} weights as {tensors[names[0]].dtype} '
                         f'({shorten(names)}), expected floating-point numbers: it was quantised, or is of another '
                         'network; get the weights from before.')


def lost_norms(new: Iterable[str], unused: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Output norms that start fresh although the file holds trained ones.

    Args:
        new: Names of the backbone's tensors that the file has nothing for.
        unused: The file's tensors that were not used.
        own: The backbone's tensors.

    Returns:
        A sentence, or none.
    """
    fresh = {name for name in new if re.match(r'norm\d+\.', name)}
    found = [name for name, tensor in unused.items() for norm in fresh
             if (name == norm or name.endswith(f'.{norm}')) and tensor.shape == own[norm].shape]
    if not found:
        return _lost_last_norm(fresh, unused, own)
    return [f'trained output norms are unused ({shorten(found)}), and those of the backbone start fresh: give them the '
            f'prefix of the backbone\'s other tensors, so that {min(fresh)} is among these, and load again.']


def _lost_last_norm(fresh: set[str], unused: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """A classifier's norm lies behind its last stage, as that of a backbone does that gives this stage alone."""
    theirs = [name for name in unused if re.search(r'(^|\.)norm\.weight$', name)]
    if len(fresh) != 2 or len(theirs) != 1 or unused[theirs[0]].shape != own[min(fresh, key=len)].shape:
        return []
    return [f'the norm behind its last stage is unused ({theirs[0]}), and that of the backbone starts fresh '
            f'({", ".join(sorted(fresh))}): to keep it, load the classifier as a whole with load_from.']


def lost_branches(unused: Sequence[str]) -> list[str]:
    """Whole parts inside of a FocalNet that this one lacks.

    Args:
        unused: Official names of the FocalNet's tensors that were not used.

    Returns:
        A sentence, or none.
    """
    branches = list(dict.fromkeys(re.sub(r'(\.\d+)*\.\w+$', '', name) for name in unused if not _KNOWN.match(name)))
    if not branches:
        return []
    return [f'parts of its network are unused ({shorten(branches)}), so that features are not those it was trained '
            'for: build the network that it is of, or take another checkpoint.']


def warn(source: str, losses: Iterable[str]) -> None:
    """Log what would be lost as warnings.

    Args:
        source: Path or URL of the checkpoint.
        losses: Sentences about it.
    """
    for loss in losses:
        print_log(f'The checkpoint {source}: {loss}', logger='current', level=logging.WARNING)
