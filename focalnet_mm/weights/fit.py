"""Fit pretrained tensors to a backbone with other kernels or more levels, or say why they don't fit."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from ..backbone.archs import guess_arch, read_settings
from .files import read_checkpoint
from .layouts import layout_of, select_backbone, shorten, uncompiled
from .losses import check_numbers, lost_branches, lost_norms, warn, worthless

__all__ = ['LoadReport', 'fit_tensor', 'load_into']


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor.

    Attributes:
        source: Path or URL of the checkpoint.
        layout: One of :data:`~focalnet_mm.weights.LAYOUTS`.
        prefix: Prefix of the backbone's tensors in the checkpoint.
        landed: Official names of the backbone's tensors that were copied as they are.
        fitted: Name → how it was fitted, for those whose shape had to change.
        new: Names of the backbone's tensors that the checkpoint has nothing for: they keep their initialisation.
        unused: Names of the tensors that the backbone has no use for: beside it as in the checkpoint, of the FocalNet
            itself official, with the prefix. What torch.compile puts into names is left out of all.
        losses: What of it would be lost without anybody noticing, a sentence each; they are logged as warnings.
    """

    source: str
    layout: str
    prefix: str
    landed: tuple[str, ...]
    fitted: Mapping[str, str]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    losses: tuple[str, ...] = ()

    def __str__(self) -> str:
        fitted = '; '.join(f'{count} {how}' for how, count in Counter(self.fitted.values()).items())
        layout = '' if self.layout == 'official' else f' in the layout of {self.layout}'
        return (f'FocalNet from {self.source}{layout}: {len(self.landed)} tensors landed as they are, '
                f'{len(self.fitted)} fitted{f" ({fitted})" if fitted else ""}, '
                f'{len(self.new)} new{_list(self.new)}, {len(self.unused)} of the file unused{_list(self.unused)}.')


def fit_tensor(name: str, pretrained: Tensor, target: torch.Size) -> tuple[Tensor, str]:
    """Bring a pretrained tensor to the shape that a backbone needs.

    A depthwise kernel of a focal level is padded with zeros around its centre, or cropped to its centre. ``f`` keeps
    the rows of query and context, the gates of its levels and, as its last row, the gate of the global context; the
    gates of added levels are 0. The stem's kernels for one channel are the sums of those for RGB, which gives the same
    for grey images; for more than three channels those of RGB are kept, and the others are 0.

    Args:
        name: Official name of the tensor.
        pretrained: The checkpoint's tensor.
        target: The backbone's shape.

    Returns:
        A tensor of the target's shape, and how it was fitted in words.

    Raises:
        ValueError: It cannot be fitted.
    """
    source = pretrained.shape
    if (re.search(r'modulation\.focal_layers\.\d+\.0\.weight$', name) and len(source) == len(target) == 4
            and source[:2] == target[:2]):
        margin = target[-1] - source[-1]
        if margin % 2 == 0:
            verb = 'padded with zeros' if margin > 0 else 'cropped'
            # A negative padding crops.
            return F.pad(pretrained, [margin // 2] * 4), f'kernels {verb} from {source[-1]} to {target[-1]}'
    if re.search(r'modulation\.f\.(weight|bias)$', name) and source[1:] == target[1:] and target[0] > source[0]:
        added = pretrained.new_zeros(target[0] - source[0], *source[1:])
        return torch.cat([pretrained[:-1], added, pretrained[-1:]]), f'gates widened by {len(added)}'
    if (name == 'patch_embed.proj.weight' and len(source) == len(target) == 4 and source[1] == 3
            and (source[0], *source[2:]) == (target[0], *target[2:])):
        if target[1] == 1:
            return pretrained.sum(1, keepdim=True), 'stem summed over RGB for 1 channel'
        if target[1] > 3:
            return (F.pad(pretrained, [0, 0, 0, 0, 0, target[1] - 3]),
                    f'stem given zeros for {target[1] - 3} more channels than RGB')
    raise ValueError(f'{name} has shape {tuple(source)} in the checkpoint and {tuple(target)} in the model')


def load_into(backbone: nn.Module, source: str | os.PathLike, prefix: str | None = None) -> LoadReport:
    """Load a checkpoint into a FocalNet: every tensor lands, is fitted, or is reported.

    Reads every layout of :data:`~focalnet_mm.weights.LAYOUTS`, under any prefix, bare backbones, classifiers,
    detectors and segmenters alike; see :func:`~focalnet_mm.weights.read_checkpoint` for the file formats and
    :func:`~focalnet_mm.weights.fit_tensor` for what is fitted. Output norms and added focal levels may be missing in
    the checkpoint. Logs one line.

    Args:
        backbone: A :class:`~focalnet_mm.FocalNet`, changed in place, or not at all on an error.
        source: Path, URL or name, see :func:`~focalnet_mm.weights.read_checkpoint`.
        prefix: Prefix of the backbone's tensors in the file, where it holds several FocalNets; with or without its last
            dot.

    Returns:
        What became of each tensor.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: The download failed.
        ValueError: The file cannot be read, holds no FocalNet, or holds one that does not fit this backbone.
    """
    source = os.fspath(source)
    state_dict = read_checkpoint(source)
    renamed = {uncompiled(name): tensor for name, tensor in state_dict.items()}
    if len(renamed) == len(state_dict):
        state_dict, prefix = renamed, prefix and uncompiled(f'{prefix.removesuffix(".")}.')
    try:
        layout = layout_of(state_dict, prefix)
        tensors, prefix = select_backbone(state_dict, prefix)
    except ValueError as error:
        raise ValueError(f'The checkpoint {source} does not fit: {error}.') from None

    own = backbone.state_dict()
    check_numbers(tensors, own, source)
    try:
        ready, fitted, new = _fit(tensors, own)
    except ValueError as error:
        raise ValueError(f'The checkpoint {source} does not fit: {error}{_cause(tensors, own)}.') from None

    _check_blocks(source, tensors, own, new)
    backbone.load_state_dict(ready, strict=False)
    unused = {**{prefix + name: tensor for name, tensor in tensors.items() if name not in ready},
              **{name: tensor for name, tensor in state_dict.items() if not name.startswith(prefix)}}
    report = LoadReport(
        source=source,
        layout=layout,
        prefix=prefix,
        landed=tuple(name for name in ready if name not in fitted),
        fitted=fitted,
        new=tuple(new),
        unused=tuple(unused),
        losses=(*worthless(ready), *lost_norms(new, unused, own),
                *lost_branches([name for name in tensors if name not in ready])))
    print_log(str(report), logger='current')
    warn(source, report.losses)
    return report


@WEIGHT_INITIALIZERS.register_module(name='FocalNetPretrained')
class PretrainedFocalNet:
    """What a FocalNet does with ``init_cfg=dict(type='Pretrained', …)``, where the network itself reads no files.

    Args:
        checkpoint (str): As :func:`load_into` takes it.
        prefix (str, optional): The same.
        map_location (optional): As mmengine's own takes it; not used, since tensors are read on the CPU.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, map_location: Any = None) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix

    def __call__(self, module: nn.Module) -> None:
        load_into(module, self.checkpoint, self.prefix)


def _fit(tensors: Mapping[str, Tensor],
         own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """The tensors for a backbone, how some of them were fitted, and the names that there is nothing for."""
    ready, fitted, new = {}, {}, []
    for name, parameter in own.items():
        if name not in tensors:
            new.append(name)
        elif tensors[name].shape == parameter.shape:
            ready[name] = tensors[name]
        else:
            ready[name], fitted[name] = fit_tensor(name, tensors[name], parameter.shape)
    return ready, fitted, new


def _check_blocks(source: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], new: list[str]) -> None:
    """Refuse a checkpoint that lacks tensors, or has more in the same stages."""
    pretrained_levels = read_settings(tensors)['focal_levels']
    lacking = [name for name in new if not _may_be_new(name, pretrained_levels)]
    stages = len(read_settings(own)['depths'])
    surplus = [name for name in tensors if name not in own and _is_in_blocks(name, stages)]
    for names, fault in ((lacking, 'lacks'), (surplus, 'has, beyond what the model has,')):
        if names:
            cause = _cause(tensors, own) or ': it is not whole, get it again'
            raise ValueError(f'The checkpoint {source} does not fit: it {fault} {len(names)} tensors{_list(names)}'
                             f'{cause}.')


def _may_be_new(name: str, pretrained_levels: tuple[int | None, ...]) -> bool:
    """Whether a checkpoint without this tensor is whole all the same: an output norm, or a level that was added."""
    if re.match(r'norm\d+\.', name):
        return True
    match = re.match(r'layers\.(\d+)\.blocks\.\d+\.modulation\.focal_layers\.(\d+)\.', name)
    if match is None or int(match[1]) >= len(pretrained_levels):
        return False
    levels = pretrained_levels[int(match[1])]
    return levels is not None and int(match[2]) >= levels


def _is_in_blocks(name: str, stages: int) -> bool:
    match = re.match(r'layers\.(\d+)\.blocks\.', name)
    return match is not None and int(match[1]) < stages


def _cause(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The likely reason of a misfit: what differs between two FocalNets, and their variants."""
    words = dict(
        modulation='modulation {}', stem_kernel='a {0}×{0} stem', embed_dims='{} channels',
        depths='stages of {} blocks', focal_levels='{} levels', layer_scale='layer scale: {}',
        post_norm_in_modulation='norms inside the modulation: {}',
        depthwise_convs='depthwise convolutions before the branches: {}')
    theirs, ours = read_settings(tensors), read_settings(own)
    stages = len(ours['depths'])
    for key in ('depths', 'focal_levels'):
        theirs[key] = theirs[key][:stages]
    different = [key for key in words if theirs[key] != ours[key]]
    if not different:
        return ''
    has, needs = (', '.join(words[key].format(side[key]) for key in different) for side in (theirs, ours))
    arch, own_arch = guess_arch(tensors), guess_arch(own)
    hint = f'arch {arch or "unknown"} in the checkpoint, {own_arch or "a custom one"} in the model?'
    return f': the checkpoint has {has}, this model {needs} ({hint})'


def _list(names: list[str] | tuple[str, ...]) -> str:
    """Some of the names in brackets, or nothing where there are none."""
    return f' ({shorten(names)})' if names else ''
