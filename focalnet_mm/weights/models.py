"""Fit a checkpoint to a whole model with other classes, channels, kernels or levels, and say what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..backbone.focalnet import FocalNet
from .encodings import fit_encoding
from .fit import fit_tensor
from .heads import ClassReport, fit_classes
from .layouts import shorten
from .losses import check_numbers, lost_branches, lost_norms, worthless

__all__ = ['ModelReport', 'fit_model']


@dataclass(frozen=True)
class ModelReport:
    """What became of each tensor of a checkpoint in a whole model.

    Attributes:
        source: Path or URL of the checkpoint.
        landed: Names of the tensors that land as they are.
        fitted: Name → how it was fitted, for those whose shape had to change.
        classes: What became of the rows of classes, a report a layer.
        misfits: Names of the tensors of other shapes: the model's start fresh.
        new: Names of the model's tensors that the checkpoint has nothing for.
        unused: Names of the checkpoint's tensors that the model has no place for.
        losses: What is worth a warning, a sentence each.
    """

    source: str
    landed: tuple[str, ...]
    fitted: Mapping[str, str]
    classes: tuple[ClassReport, ...]
    misfits: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    losses: tuple[str, ...]

    def __str__(self) -> str:
        fitted = '; '.join(f'{count} {how}' for how, count in Counter(self.fitted.values()).items())
        layers: dict[str, list[str]] = {}
        for report in self.classes:
            layers.setdefault(str(report), []).append(report.layer)
        classes = '; '.join(f'{said}, in {shorten(names)}' for said, names in layers.items())
        said = [f'{len(self.landed)} tensors landed as they are', fitted, classes,
                f'{len(self.new)} of the model new{_parts(self.new)}',
                f'{len(self.unused)} of the file unused{_parts(self.unused)}']
        return f'{self.source}: {"; ".join(filter(None, said))}.'


def fit_model(tensors: Mapping[str, Tensor], model: nn.Module, trained: Mapping[str, Any], wanted: Mapping[str, Any],
              source: str) -> tuple[dict[str, Tensor], ModelReport]:
    """The tensors of a checkpoint as a whole model takes them.

    Rows of classes are looked up by the classes' names, whose case, spaces, hyphens and underscores do not matter: of
    scores, box regressions, masks and label embeddings, in heads with and without a row for the background. Rows of
    other classes, and all where one side names none and their numbers differ, stay as the model initialised them.
    Tensors of a FocalNet are fitted as :func:`~focalnet_mm.weights.fit_tensor` does. What fits neither way is left out
    and reported.

    Args:
        tensors: Tensors by the model's names, as :func:`~focalnet_mm.weights.read_model` gives them.
        model: The model with its initial weights; it stays as it is.
        trained: Classes of the checkpoint, as :func:`~focalnet_mm.weights.trained_classes` gives them.
        wanted: Classes of the data, by the same keys.
        source: Path or URL of the checkpoint, for the report.

    Returns:
        The tensors to load, those without a place in the model among them, and what became of each.

    Raises:
        ValueError: The checkpoint has nothing for the model, or holds weights that are no floating-point numbers.
    """
    own = model.state_dict()
    check_numbers(tensors, own, source)
    by_class, classes = fit_classes(tensors, model, trained, wanted)
    backbones = [f'{path}.' for path, part in model.named_modules() if path and isinstance(part, FocalNet)]
    ready, fitted, misfits, landed = dict(by_class), dict[str, str](), list[str](), list[str]()
    for name, tensor in tensors.items():
        if name in ready or name not in own:
            continue
        if tensor.shape == own[name].shape:
            ready[name] = tensor
            landed.append(name)
            continue
        prefix = next((prefix for prefix in backbones if name.startswith(prefix)), None)
        try:
            ready[name], fitted[name] = (
                (fit_encoding(name, tensor, own[name].shape), 'in the finer encoding of query positions')
                if prefix is None else fit_tensor(name.removeprefix(prefix), tensor, own[name].shape))
        except ValueError:
            misfits.append(name)
    # Counters and the like land in anything. Semi-supervised models give each tensor to teacher and student themselves.
    renames = type(model)._load_from_state_dict is not nn.Module._load_from_state_dict
    if not renames and not any(ready[name].dim() for name in ready):
        raise ValueError(f'The checkpoint {source} has nothing for this model: none of its {len(tensors)} tensors '
                         f'({shorten(tensors, 3)}) is one of the model\'s {len(own)} ({shorten(own, 3)}); give a '
                         'checkpoint of this kind of model, or of its backbone in the init_cfg of the backbone.')
    new = [name for name in own if name not in tensors]
    unused = {name: tensor for name, tensor in tensors.items() if name not in own}
    losses = [*worthless({name: tensors[name] for name in ready}), *_misfits(misfits, tensors, own),
              *_branches(tensors, new, own)]
    for prefix in backbones:
        inside = {name.removeprefix(prefix): tensor for name, tensor in own.items() if name.startswith(prefix)}
        losses += lost_norms([name.removeprefix(prefix) for name in new if name.startswith(prefix)], unused, inside)
        losses += lost_branches([name.removeprefix(prefix) for name in unused if name.startswith(prefix)])
    report = ModelReport(source, tuple(landed), fitted, tuple(classes), tuple(misfits), tuple(new), tuple(unused),
                         tuple(losses))
    # Parts of the model may know older names.
    return {**ready, **unused}, report


def _branches(tensors: Mapping[str, Tensor], new: Iterable[str], own: Mapping[str, Tensor]) -> list[str]:
    """A sentence where parts of the checkpoint are unused while parts of the model start fresh."""
    used = {_part(name) for name in tensors if name in own}
    unused = list(dict.fromkeys(_part(name) for name in tensors if name not in own and _part(name) not in used))
    fresh = list(dict.fromkeys(_part(name) for name in new if _part(name) not in used))
    if not unused or not fresh:
        return []
    return [f'its {shorten(unused)} is unused, while {shorten(fresh)} of the model starts fresh: if these are the same '
            'under other names, rename them; else all is well.']


def _misfits(names: Sequence[str], theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """A sentence about tensors of other shapes, where there are some."""
    shapes = [f'{name}: {tuple(theirs[name].shape)} in the checkpoint, {tuple(own[name].shape)} in the model'
              for name in names]
    return [f'{len(names)} of its tensors have other shapes, and the model\'s start fresh ({shorten(shapes)}): build '
            'the model as the checkpoint\'s was, to use them.'] if names else []


def _part(name: str) -> str:
    """The part of a model that a tensor belongs to, such as ``neck`` or ``roi_head.mask_head``."""
    first, _, rest = name.partition('.')
    return f'{first}.{rest.partition(".")[0]}' if first == 'roi_head' else first


def _parts(names: Iterable[str]) -> str:
    """How many tensors of each part, in brackets, or nothing where there are none."""
    counts = Counter(map(_part, names))
    return f' ({", ".join(f"{count} of {part}" for part, count in counts.items())})' if counts else ''
