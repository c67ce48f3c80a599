"""Focal maps during training."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..backbone.focalnet import FocalNet, find_backbone
from ..backbone.parts import named_parts
from ..data.pictures import printable, shown_as
from ..run.randomness import same_random_states
from .figures import as_array, as_picture, pixels, plot_focal_maps, reads_rgb
from .maps import FocalMaps, choose_blocks, focal_maps, maps_of, only_backbone, recorded

__all__ = ['FocalMapsHook']

# Files are named after the images; file systems allow 255 bytes.
_MOST_BYTES = 180


@HOOKS.register_module()
class FocalMapsHook(Hook):
    """Shows the maps of some validation images in the visualizer: TensorBoard, wandb or local files.

    ``custom_hooks = [dict(type='FocalMapsHook')]`` in a config is enough. The names are ``focal_maps_`` and the name
    of the image. Images are drawn in the order of channels that the config's data preprocessor and pipeline say.

    Whatever goes wrong is said once, and the training goes on. The training itself is the same with the hook and
    without: mode, gradients and random states stay as they are.

    Args:
        num_images (int): How many images of a validation to show, the first ones. Defaults to 4.
        interval (int): Show at every how many validations, the first among them. Defaults to 1.
        stage (int): The stage to show, negative from the last. Defaults to -2, stride 16 in most models.
        block (int): The block of the stage, likewise. Defaults to -1.
        backbone (str, optional): Which FocalNet of a model with several, such as ``'student.backbone'``. By default
            that which predicts, as ``semi_test_cfg`` says, or else the first.

    Raises:
        ValueError: ``num_images`` or ``interval`` is not positive.
    """

    priority = 'NORMAL'

    def __init__(self, num_images: int = 4, interval: int = 1, stage: int = -2, block: int = -1,
                 backbone: str | None = None) -> None:
        for name, value in (('num_images', num_images), ('interval', interval)):
            if value < 1:
                raise ValueError(f'FocalMapsHook: {name} must be 1 or more, got {value}.')
        self.num_images = num_images
        self.interval = interval
        self.stage = stage
        self.block = block
        self.backbone = backbone
        self._validations = 0
        self._left = 0
        self._shown: set[str] = set()
        self._said: set[str] = set()
        self._recording = contextlib.ExitStack()
        self._outputs: Callable[[], dict[tuple[int, int], list[Tensor]]] | None = None

    def before_val_epoch(self, runner: Any) -> None:
        """Count the validations, and see whether this one is due."""
        self._left = self.num_images if self._validations % self.interval == 0 else 0
        self._validations += 1
        self._shown.clear()
        self._recording.close()

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Listen to the pass of the validation itself, where a pass of one's own would need all processes."""
        if not self._left or not _is_sharded(runner.model):
            return
        with self._going_on('listen to the model'):
            backbone = find_backbone(runner.model, self._chosen(runner.model))
            chosen = choose_blocks(backbone, self.stage, self.block)
            self._outputs = self._recording.enter_context(recorded(backbone, chosen, 'f', 'h'))

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Show the images of this batch, until there are enough."""
        if not self._left:
            return
        with self._going_on('read the batch'), self._recording:
            count = min(self._left, len(data_batch['inputs']))
            self._left -= count
            if is_main_process():
                self._show(runner, batch_idx, data_batch, count)
        self._outputs = None

    def _show(self, runner: Any, batch_idx: int, batch: Mapping[str, Any], count: int) -> None:
        rgb = reads_rgb(getattr(runner, 'cfg', {}), 'val')
        for i in range(count):
            with self._going_on('show an image'), same_random_states():
                sample = {key: copy.deepcopy(values[i:i + 1]) for key, values in batch.items() if values is not None}
                maps = self._maps(runner.model, sample, i, len(batch['inputs']))
                name = self._name(sample, f'{batch_idx}_{i}')
                picture = sample['inputs'][0]
                note = shown_as(as_array(picture))
                figure = plot_focal_maps(as_picture(picture, rgb), maps, title=f'{name} ({note})' if note else name)
                runner.visualizer.add_image(f'focal_maps_{name}', pixels(figure), runner.iter)

    def _maps(self, model: nn.Module, sample: dict[str, Any], index: int,
              size: int) -> dict[tuple[int, int], FocalMaps]:
        """The maps of an image of a batch of a size, which is a batch of its own here."""
        name = self._chosen(model)
        if not _is_sharded(model):
            return focal_maps(only_backbone(model, name), sample, self.stage, self.block)
        if self._outputs is None:
            raise RuntimeError('nothing was heard of the model')
        found = maps_of(find_backbone(model, name), self._outputs())
        for maps in found.values():
            if len(maps.gates) != size:
                raise RuntimeError(f'the backbone got {len(maps.gates)} images for a batch of {size}')
        mine = slice(index, index + 1)
        return {key: FocalMaps(maps.gates[mine], maps.modulator[mine], maps.norm[mine], maps.stride)
                for key, maps in found.items()}

    def _name(self, sample: Mapping[str, Any], otherwise: str) -> str:
        """The image's name, with a number where another of this validation has it."""
        samples = sample.get('data_samples') or [None]
        stem = printable(Path(getattr(samples[0], 'img_path', None) or otherwise).stem)
        name = stem = stem.encode()[:_MOST_BYTES].decode(errors='ignore')
        number = 2
        while name in self._shown:
            name, number = f'{stem}_{number}', number + 1
        self._shown.add(name)
        return name

    def _chosen(self, model: nn.Module) -> str | None:
        """The name of the backbone to show; ``None`` for a model with one."""
        if self.backbone is not None:
            return self.backbone
        names = [name for name, part in named_parts(model) if isinstance(part, FocalNet)]
        if len(names) < 2:
            return None
        predicts = _predicting(model)
        chosen = next((name for name in names if f'{name}.'.startswith(f'{predicts}.')), names[0])
        self._say(f'FocalMapsHook shows the maps of {chosen}. The model has {len(names)} FocalNets, '
                  f"{', '.join(names)}: choose another one with backbone='NAME'.", logging.INFO)
        return chosen

    @contextlib.contextmanager
    def _going_on(self, task: str) -> Iterator[None]:
        """Warn of a failure, once of each kind, in place of ending the training."""
        try:
            yield
        except Exception as error:
            kind = type(error).__name__
            self._say(f'FocalMapsHook could not {task}, and the training goes on without: {kind}: {error}',
                      logging.WARNING, key=kind)

    def _say(self, text: str, level: int, key: str | None = None) -> None:
        if (key or text) not in self._said:
            self._said.add(key or text)
            print_log(text, logger='current', level=level)


def _predicting(model: nn.Module) -> str | None:
    """The name of the part of a semi-supervised model that predicts, as mmdet chooses it."""
    for name, part in named_parts(model):
        settings = getattr(part, 'semi_test_cfg', None)
        if settings is not None:
            side = 'teacher' if settings.get('predict_on', 'teacher') == 'teacher' else 'student'
            return '.'.join(filter(None, (name, side)))
    return None


def _is_sharded(model: nn.Module) -> bool:
    """Whether a process has only a part of the tensors, so that a pass needs all processes at once."""
    if is_model_wrapper(model) and not isinstance(model, (DataParallel, DistributedDataParallel)):
        return True
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor
    return (any(isinstance(module, FullyShardedDataParallel) for module in model.modules())
            or any(isinstance(parameter, DTensor) for parameter in model.parameters()))
