"""Figures and gallery of a model and some pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from torch import Tensor, nn

from ..backbone.focalnet import find_backbone
from ..data.pictures import Input, printable, shown_as, unique_names
from ..run.failures import first_line
from ..run.images import ImagePipeline
from .fields import receptive_fields
from .figures import as_array, as_picture, plot_focal_maps, plot_kernels, reads_rgb
from .gallery import Gallery
from .maps import FocalMaps, focal_maps, mean_kernels

__all__ = ['Explained', 'explain_inputs']


class Explained(NamedTuple):
    """What :func:`explain_inputs` wrote."""

    #: The page.
    file: Path
    #: What could not be read.
    failed: list[Input]
    #: How many inputs are done, the failed among them: all of them if nobody wished to stop.
    done: int


def explain_inputs(model: nn.Module, cfg: Config, pipeline: ImagePipeline, inputs: Sequence[Input], out: Path,
                   stages: Sequence[int] | None, blocks: Sequence[int] | None, facts: Mapping[str, str],
                   name: str = 'explain', stop: Callable[[], bool] = lambda: False) -> Explained:
    """Draw figures of pictures and kernels, and write a gallery of all blocks, with a progress bar.

    Args:
        model: A model of mmdet, mmseg or mmpretrain with a FocalNet.
        cfg: Its config.
        pipeline: Its test pipeline.
        inputs: The pictures.
        out: Where to: ``figures``, ``kernels.png`` and ``index.html`` with what it needs.
        stages: As :func:`~focalnet_mm.explain.focal_maps` takes them.
        blocks: The same; without them the figures show the last block of each stage, the gallery all.
        facts: Lines below the gallery's title.
        name: What begins the line about a picture that can't be read.
        stop: Whether to end after the picture that was the last; the gallery then has those before.

    Returns:
        Where the page is, and what could not be read.

    Raises:
        ValueError: None of the pictures could be read.
        OSError: A figure or the page could not be written.
    """
    figures = unique_names([f'{item.name}.png' for item in inputs])
    gallery = Gallery(out, 'What the FocalNet looks at', facts)
    failed, done = [], 0
    with Progress(console=Console(stderr=True)) as progress:
        def say(text: str) -> None:
            progress.console.print(f'{name}: {printable(text)}', markup=False, soft_wrap=True)

        drawer = _Drawer(model, pipeline, reads_rgb(cfg, 'test'), stages, blocks, gallery, say)
        task = progress.add_task('', total=len(inputs))
        for item, figure in zip(inputs, figures):
            if stop():
                break
            progress.update(task, description=escape(printable(item.name)))
            try:
                drawer.draw(item, out / 'figures' / figure)
            except ValueError as error:
                failed.append(item)
                say(str(error))
            done += 1
            progress.advance(task)
    if len(failed) == done:
        raise ValueError('none of the inputs could be read, see above.' if done else 'stopped before the first input.')
    kernels = mean_kernels(model)
    if kernels:
        plot_kernels(kernels).savefig(out / 'kernels.png', dpi=100)
    fields = receptive_fields(model, stages=stages, blocks=blocks)
    return Explained(gallery.finish(fields, 'kernels.png' if kernels else None), failed, done)


class _Drawer:
    """Figures of pictures, and their part of the gallery."""

    def __init__(self, model: nn.Module, pipeline: ImagePipeline, rgb: bool, stages: Sequence[int] | None,
                 blocks: Sequence[int] | None, gallery: Gallery, say: Callable[[str], None]) -> None:
        self.model = model
        self.pipeline = pipeline
        self.channels = find_backbone(model).in_channels
        self.rgb = rgb
        self.stages = stages
        self.blocks = blocks
        self.gallery = gallery
        self.say = say
        self._said: set[str] = set()

    def draw(self, item: Input, target: Path) -> None:
        """Write the figure of a picture, and add it to the gallery."""
        if item.is_video:
            raise ValueError(f'{item.path} is a video: name pictures, such as some of its frames.')
        loaded = self.pipeline(item.channels or item.path, str(item.path))
        self.pipeline.check_channels(loaded, self.channels, str(item.path))
        batch = _one_view(loaded.batch)
        maps = _maps(self.model, batch, self.stages, self.blocks, item)
        inputs = batch['inputs'][0]
        words = shown_as(as_array(inputs))
        if words and words not in self._said:
            self._said.add(words)
            self.say(f'{item.path} reaches the model with {len(inputs)} channels; the pictures show {words}')
        image = as_picture(inputs, self.rgb)
        self.gallery.add(item.name, image, maps)
        # A dict of the keys has the last block of each stage.
        drawn = maps if self.blocks else {key: maps[key] for key in dict(maps.keys()).items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        plot_focal_maps(image, drawn, title=item.name).savefig(target, dpi=80)


def _one_view(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """A batch, or that of the first view where test-time augmentation gives several."""
    if isinstance(batch['inputs'][0], Tensor):
        return batch
    return {key: values[0] for key, values in batch.items()}


def _maps(model: nn.Module, batch: Mapping[str, Any], stages: Sequence[int] | None, blocks: Sequence[int] | None,
          item: Input) -> dict[tuple[int, int], FocalMaps]:
    try:
        return focal_maps(model, batch, stages, blocks)
    except Exception as error:
        shape = tuple(batch['inputs'][0].shape)
        raise ValueError(f'{item.path}: the model fails on its image, which reaches it as {shape} (channels, height, '
                         f'width): {first_line(error)}') from error
