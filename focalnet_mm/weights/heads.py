"""Which rows of a head's tensors belong to which class, and how a head learns other classes from them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ['ClassReport', 'ClassTensors', 'class_tensors', 'fit_classes', 'heads_with_classes',
           'plain_name']

# What the heads that know the classes of the data are called in models of mmdet, mmseg and mmpretrain; a head that
# proposes regions is none of them.
_HEADS = frozenset(('bbox_head', 'mask_head', 'panoptic_head', 'query_head', 'decode_head', 'auxiliary_head', 'head',
                    'cls_head'))
# What makes noisy queries of labels knows their number too.
_LABELS = frozenset(('dn_query_generator',))
# Their layers with a score a class: two-stage detectors, detectors with queries, those with masks from queries,
# semantic segmenters, classifiers; the embedding of labels; and whatever dense detectors call theirs.
_SCORES = re.compile(r'fc_cls|cls_branches\.\d+|cls_embed|conv_seg|fc|layers\.head|label_embedding|'
                     r'(\w+_)?cls(\.\d+)?|multi_level_conv_cls\.\d+')
_BOXES, _MASKS = 'fc_reg', 'conv_logits'


@dataclass(frozen=True)
class ClassTensors:
    """Weight and bias of a layer whose rows belong to classes.

    Row ``(p · (classes + background) + c) · each + k`` is number k of class c at prior p; the background is behind the
    classes.

    Attributes:
        layer: Name of the layer in the model.
        classes: Number of classes.
        each: Rows of a class: 4 where each class has its own box regression, else 1.
        priors: How many anchors a position has, each with all classes.
        background: Whether the background has a row, as in heads with softmax.
    """

    layer: str
    classes: int
    each: int = 1
    priors: int = 1
    background: bool = False


@dataclass(frozen=True)
class ClassReport:
    """What became of the class rows of a layer.

    Attributes:
        layer: Name of the layer.
        before: Number of classes in the checkpoint.
        after: Number of classes of the model.
        kept: Names of the classes whose rows were found by name.
        new: Names, or numbers where there are none, of the classes that start fresh.
        reason: Why nothing could be looked up by name, or nothing.
    """

    layer: str
    before: int
    after: int
    kept: tuple[str, ...]
    new: tuple[str, ...]
    reason: str = ''

    def __str__(self) -> str:
        kept = f'{_some(self.kept)} by name; ' if self.kept else ''
        names = '' if self.reason or not self.new else f' ({_some(self.new)})'
        return (f'{self.before} → {self.after} classes: {kept}{len(self.new)} new{names}'
                f'{f", since {self.reason}" if self.reason else ""}')


def heads_with_classes(model: nn.Module, names: frozenset[str] = _HEADS) -> Iterator[tuple[str, nn.Module, int]]:
    """The parts of a model whose ``num_classes`` is that of the data.

    Args:
        model: A detector, segmenter or classifier of mmdet, mmseg or mmpretrain.
        names: What such parts are called, by default all heads.

    Yields:
        Name, part and number of classes; nothing of models that take their classes from a text.
    """
    if hasattr(model, 'language_model') or hasattr(model, 'text_encoder'):
        return
    for path, head in model.named_modules(remove_duplicate=False):
        number = getattr(head, 'num_classes', None)
        parts = [part for part in path.split('.') if not part.isdigit()]
        if parts and parts[-1] in names and type(number) is int:
            yield path, head, number


def class_tensors(model: nn.Module) -> list[ClassTensors]:
    """The layers of a model with rows for classes.

    Args:
        model: A detector, segmenter or classifier of mmdet, mmseg or mmpretrain.

    Returns:
        Of each head that knows the data's classes the layers of scores, box regressions and masks. Heads that take
        their classes from a text, or share boxes or masks among the classes, have none there.
    """
    found: dict[str, ClassTensors] = {}
    for path, head, number in heads_with_classes(model, _HEADS | _LABELS):
        for each in _of_head(path, head, number) if number > 0 else ():
            found.setdefault(each.layer, each)
    return list(found.values())


def _of_head(path: str, head: nn.Module, number: int) -> Iterator[ClassTensors]:
    kinds = {base.__name__ for base in type(head).__mro__}
    for name, layer in head.named_modules(remove_duplicate=False):
        weight = getattr(layer, 'weight', None)
        if not isinstance(weight, Tensor) or weight.dim() < 2:
            continue
        rows, full = weight.shape[0], f'{path}.{name}'
        if name == _BOXES:
            size = getattr(getattr(head, 'bbox_coder', None), 'encode_size', 4)
            if rows == number * size and not getattr(head, 'reg_class_agnostic', False) and 'DIIHead' not in kinds:
                yield ClassTensors(full, number, each=size)
        elif name == _MASKS:
            if rows == number and not getattr(head, 'class_agnostic', False):
                yield ClassTensors(full, number)
        elif _SCORES.fullmatch(name):
            # Dense detectors have a score for each of their anchors.
            channels = getattr(head, 'cls_out_channels', None) if 'fc_cls' not in name else None
            channels = channels if channels and rows % channels == 0 else rows
            if channels - number in (0, 1):
                yield ClassTensors(full, number, priors=rows // channels, background=channels > number)


def fit_classes(tensors: Mapping[str, Tensor], model: nn.Module, trained: Mapping[str, Any],
                wanted: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[ClassReport]]:
    """The class rows of a checkpoint in the order of a model's classes.

    Rows are looked up by the names of the classes: first by equal ones, then by those that differ in case, spaces,
    hyphens and underscores alone. Rows of
    classes that the checkpoint has not, and all where one side has no names, are the model's own, as they were
    initialised.

    Args:
        tensors: The checkpoint's tensors by the model's names.
        model: The model with its initial weights.
        trained: ``classes``, and ``thing_classes`` and ``stuff_classes`` where there are such, of the checkpoint.
        wanted: The same of the data.

    Returns:
        The tensors that are others now, and what was done, a report a layer. Layers are left out whose classes are the
        same, and those with as many classes that one side does not name.
    """
    own, fitted, reports = model.state_dict(), dict[str, Tensor](), []
    for layer in class_tensors(model):
        names = [name for name in (f'{layer.layer}.weight', f'{layer.layer}.bias') if name in own and name in tensors]
        if not names or any(tensors[name].dim() != own[name].dim() or tensors[name].shape[1:] != own[name].shape[1:]
                            for name in names):
            continue
        before, background = _their_classes(layer, tensors[names[0]].shape[0], trained)
        if before < 1:
            continue
        theirs, ours = _names(trained, before), _names(wanted, layer.classes)
        if (theirs is None or ours is None) and before == layer.classes and background == layer.background:
            continue
        rows, report = _match(layer, before, trained, wanted)
        if list(rows.items()) == [(i, i) for i in range(before)] and (before, background) == (
                layer.classes, layer.background):
            continue
        if background and layer.background:
            rows[layer.classes] = before
        for name in names:
            fitted[name] = _take(layer, tensors[name], own[name], rows, before + background)
        reports.append(report)
    return fitted, reports


def _their_classes(layer: ClassTensors, rows: int, trained: Mapping[str, Any]) -> tuple[int, bool]:
    """How many classes the checkpoint has rows for, and whether it has some for the background."""
    if layer.each > 1:
        return (rows // layer.each if rows % layer.each == 0 else 0), False
    if rows % layer.priors:
        return 0, False
    channels = rows // layer.priors
    # A head trained with softmax may be wanted with a sigmoid, and the other way round: the names tell.
    for background in (layer.background, not layer.background):
        if _names(trained, channels - background) is not None:
            return channels - background, background
    return channels - layer.background, layer.background


def _names(noted: Mapping[str, Any], number: int) -> list[str] | None:
    """The names of so many classes: all, or things or stuff alone."""
    for key in ('classes', 'thing_classes', 'stuff_classes'):
        names = noted.get(key)
        if isinstance(names, Sequence) and not isinstance(names, str) and len(names) == number and all(
                isinstance(name, str) for name in names):
            return list(names)
    return None


def _match(layer: ClassTensors, before: int, trained: Mapping[str, Any],
           wanted: Mapping[str, Any]) -> tuple[dict[int, int], ClassReport]:
    """Which of the checkpoint's classes each of the model's is, as far as it has them."""
    theirs, ours = _names(trained, before), _names(wanted, layer.classes)
    if theirs is None or ours is None:
        side, noted, number = ('checkpoint', trained, before) if theirs is None else ('data', wanted, layer.classes)
        names = noted.get('classes')
        reason = (f'the {side} names {len(names)} classes, and not {number}'
                  if isinstance(names, (list, tuple)) and names and len(names) != number
                  else f'the {side} does not name its classes')
        fresh = tuple(ours or map(str, range(layer.classes)))
        return {}, ClassReport(layer.layer, before, layer.classes, (), fresh, reason)
    rows = _rows(theirs, ours)
    kept = tuple(ours[i] for i in rows)
    new = tuple(name for i, name in enumerate(ours) if i not in rows)
    return rows, ClassReport(layer.layer, before, layer.classes, kept, new)


def _rows(theirs: Sequence[str], ours: Sequence[str]) -> dict[int, int]:
    """Of each class that both sides name its number here and there; each row of the checkpoint goes to one class."""
    rows: dict[int, int] = {}
    # ImageNet has two cranes, and letters of both cases are classes too: equal names first, in their order.
    for said in (str, plain_name):
        free: dict[str, list[int]] = {}
        for i in sorted(set(range(len(theirs))) - set(rows.values()), reverse=True):
            free.setdefault(said(theirs[i]), []).append(i)
        for i, name in enumerate(ours):
            if i not in rows and free.get(said(name)):
                rows[i] = free[said(name)].pop()
    return dict(sorted(rows.items()))


def _take(layer: ClassTensors, theirs: Tensor, ours: Tensor, rows: Mapping[int, int], channels: int) -> Tensor:
    """The model's own tensor with the rows of the checkpoint."""
    made = ours.detach().clone()
    target = made.unflatten(0, (layer.priors, -1, layer.each))
    source = theirs.to(made).unflatten(0, (layer.priors, channels, layer.each))
    for mine, other in rows.items():
        target[:, mine] = source[:, other]
    return made


def plain_name(name: str) -> str:
    """The name of a class without what does not matter in it.

    Args:
        name: The name.

    Returns:
        It in small letters, with one space for spaces, hyphens and underscores; as it is where it has nothing else.
    """
    # Letters with accents are one sign or two.
    return re.sub(r'[\s_-]+', ' ', unicodedata.normalize('NFC', name)).strip().casefold() or name


def _some(names: Sequence[str], most: int = 6) -> str:
    return ', '.join(names[:most]) + (f', … {len(names) - most} more' if len(names) > most else '')
