"""Focal maps during training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from .figures import as_picture, pixels, plot_focal_maps
from .maps import focal_maps

__all__ = ['FocalMapsHook']


@HOOKS.register_module()
class FocalMapsHook(Hook):
    """Shows the maps of some validation images in the visualizer: TensorBoard, wandb or local files.

    ``custom_hooks = [dict(type='FocalMapsHook')]`` in a config is enough. The names are ``focal_maps_`` and the name
    of the image. Images are taken to be BGR, as mmcv loads them.

    Args:
        num_images (int): How many images of a validation to show, the first ones. Defaults to 4.
        interval (int): Show at every how many validations, the first among them. Defaults to 1.
        stage (int): The stage to show, negative from the last. Defaults to -2, stride 16 in most models.
        block (int): The block of the stage, likewise. Defaults to -1.

    Raises:
        ValueError: ``num_images`` or ``interval`` is not positive; or, when it is due, the model has no FocalNet.
        IndexError: When it is due: the stage or block does not exist.
    """

    priority = 'NORMAL'

    def __init__(self, num_images: int = 4, interval: int = 1, stage: int = -2, block: int = -1) -> None:
        for name, value in (('num_images', num_images), ('interval', interval)):
            if value < 1:
                raise ValueError(f'FocalMapsHook: {name} must be 1 or more, got {value}.')
        self.num_images = num_images
        self.interval = interval
        self.stage = stage
        self.block = block
        self._validations = 0
        self._left = 0

    def before_val_epoch(self, runner: Any) -> None:
        """Count the validations, and see whether this one is due."""
        due = self._validations % self.interval == 0 and is_main_process()
        self._left = self.num_images if due else 0
        self._validations += 1

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Show the images of this batch, until there are enough."""
        if not self._left:
            return
        count = min(self._left, len(data_batch['inputs']))
        self._left -= count
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for i in range(count):
            sample = {key: values[i:i + 1] for key, values in data_batch.items()}
            maps = focal_maps(model, sample, self.stage, self.block)
            name = Path(getattr(sample['data_samples'][0], 'img_path', None) or f'{batch_idx}_{i}').stem
            figure = plot_focal_maps(as_picture(sample['inputs'][0]), maps, title=name)
            runner.visualizer.add_image(f'focal_maps_{name}', pixels(figure), runner.iter)
