"""Starting from a checkpoint that was trained for other classes, with ``load_from`` of a training."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from ..weights import SCHEME, fit_model, read_model, trained_classes
from ..weights.heads import plain_name
from ..weights.losses import warn
from ..weights.whole import unwrapped
from .build import unwrap

__all__ = ['FitCheckpoint', 'load_fitted', 'public_classes']

# The public data set that so many classes are of, and where the library has their names.
_PUBLIC = {
    80: ("COCO's", 'mmdet.datasets', 'CocoDataset'),
    133: ("COCO's for panoptic segmentation", 'mmdet.datasets', 'CocoPanopticDataset'),
    150: ("ADE20K's", 'mmseg.datasets', 'ADE20KDataset'),
    1000: ("ImageNet-1K's", 'mmpretrain.datasets', 'ImageNet'),
}
# The layers that tell the number of classes of a whole model: which heads have them, and the rows behind the classes.
_TELLING = {
    'bbox_head.fc_cls.weight': 1, 'bbox_head.0.fc_cls.weight': 1, 'bbox_head.cls_branches.0.weight': 0,
    'bbox_head.atss_cls.weight': 0, 'panoptic_head.cls_embed.weight': 1, 'decode_head.cls_embed.weight': 1,
    'decode_head.conv_seg.weight': 0, 'head.fc.weight': 0,
}


class FitCheckpoint(Hook):
    """Fits what ``load_from`` names to the model before it is loaded, and logs what became of each tensor.

    Class rows are looked up by name in the training data's classes, see
    :func:`~focalnet_mm.weights.heads.fit_classes`. A run that is resumed, and a test, load what they find.

    Raises:
        ValueError: The checkpoint has nothing for the model.
    """

    # The averaged model, and whatever else looks at the checkpoint, takes what is fitted.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume or not hasattr(runner._train_loop, 'dataloader'):
            return
        tensors = checkpoint.get('state_dict', checkpoint)
        if not isinstance(tensors, Mapping):
            return
        wanted = getattr(runner._train_loop.dataloader.dataset, 'metainfo', None) or {}
        ready, report = _fitted(unwrap(runner.model), tensors, checkpoint.get('meta') or {}, wanted,
                                str(runner._load_from).removeprefix(SCHEME))
        print_log(report, logger='current')
        if tensors is checkpoint:
            checkpoint.clear()
        checkpoint['state_dict'] = ready


def load_fitted(model: BaseModel, source: str, wanted: Mapping[str, Any]) -> str:
    """Load into a model what ``load_from`` names, as a training does with :class:`FitCheckpoint`.

    Args:
        model: The model, changed in place.
        source: As :func:`~focalnet_mm.weights.read_model` takes it.
        wanted: The ``metainfo`` of the data set for training.

    Returns:
        What became of each tensor.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It cannot be read, or has nothing for the model.
    """
    read = read_model(source)
    ready, report = _fitted(model, read['state_dict'], read['meta'], wanted, source)
    model.load_state_dict(ready, strict=False)
    return report


def _fitted(model: BaseModel, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], wanted: Mapping[str, Any],
            source: str) -> tuple[Mapping[str, Tensor], str]:
    """The tensors of a checkpoint as they fit a model, and what became of each."""
    trained = trained_classes(meta)
    plain = unwrapped(tensors)
    if not trained.get('classes') and not meta:
        own = model.state_dict()
        trained = public_classes({name: tensor for name, tensor in plain.items() if name in own}, source,
                                 wanted.get('classes'))
    ready, report = fit_model(plain, model, trained, wanted, source)
    warn(source, report.losses)
    return ready, str(report)


def public_classes(tensors: Mapping[str, Tensor], source: str, wanted: Any = None) -> dict[str, Any]:
    """The classes of a checkpoint that notes nothing at all, by their number, where a public data set has as many.

    OpenMMLab's own trainings note the classes, so a file without any notes is another library's, or was published
    without them. A line of the log says whose classes they are taken for.

    Args:
        tensors: Tensors by names of mmdet, mmseg or mmpretrain.
        source: Path or URL of the checkpoint, for the log.
        wanted: Names of the data's classes. Where they are as many, and all others, the checkpoint may well be of
            these, and the guess would lose its rows.

    Returns:
        ``classes`` and what else the library knows of them, or nothing.
    """
    numbers = {tensor.shape[0] - behind for name, tensor in tensors.items() for end, behind in _TELLING.items()
               if (name == end or name.endswith(f'.{end}')) and tensor.dim() > 1}
    # Sparse R-CNN has no row for the background, Mask R-CNN has one under the same name.
    numbers |= {number + 1 for number in numbers if number == 79}
    known = [number for number in numbers if number in _PUBLIC]
    if len(known) != 1:
        return {}
    whose, module, dataset = _PUBLIC[known[0]]
    try:
        noted = getattr(importlib.import_module(module), dataset).METAINFO
    except ImportError:
        return {}
    theirs = set(map(plain_name, noted['classes']))
    if isinstance(wanted, (list, tuple)) and len(wanted) == known[0] and theirs.isdisjoint(
            plain_name(str(name)) for name in wanted):
        return {}
    print_log(f'{source} does not name its {known[0]} classes: they are taken for {whose}, by their number.',
              logger='current')
    return dict(noted)
