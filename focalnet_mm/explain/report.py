"""Figures and gallery of a model and some pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from torch import nn

from ..data.pictures import Input, read_image
from .fields import receptive_fields
from .figures import as_picture, plot_focal_maps, plot_kernels
from .gallery import Gallery
from .maps import focal_maps, mean_kernels

__all__ = ['Explained', 'explain_inputs']


class Explained(NamedTuple):
    """What :func:`explain_inputs` wrote."""

    #: The page.
    file: Path
    #: What could not be read.
    failed: list[Input]


def explain_inputs(model: nn.Module, prepare: Callable[[np.ndarray, str], dict[str, Any]], inputs: Sequence[Input],
                   out: Path, stages: Sequence[int] | None, blocks: Sequence[int] | None, facts: Mapping[str, str],
                   name: str = 'explain') -> Explained:
    """Draw figures of pictures and kernels, and write a gallery of all blocks, with a progress bar.

    Args:
        model: A model of mmdet, mmseg or mmpretrain with a FocalNet.
        prepare: Its test pipeline, see :func:`focalnet_mm.run.build.prepare_image`.
        inputs: The pictures.
        out: Where to: ``figures``, ``kernels.png`` and ``index.html`` with what it needs.
        stages: As :func:`~focalnet_mm.explain.focal_maps` takes them.
        blocks: The same; without them the figures show the last block of each stage, the gallery all.
        facts: Lines below the gallery's title.
        name: What begins the line about a picture that can't be read.

    Returns:
        Where the page is, and what could not be read.

    Raises:
        ValueError: None of the pictures could be read.
    """
    gallery = Gallery(out, 'What the FocalNet looks at', facts)
    failed = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task('', total=len(inputs))
        for item in inputs:
            progress.update(task, description=escape(item.name))
            try:
                batch = prepare(read_image(item.path), str(item.path))
            except (ValueError, OSError) as error:
                failed.append(item)
                progress.console.print(f'{name}: {error}', markup=False, soft_wrap=True)
                continue
            finally:
                progress.advance(task)
            image = as_picture(batch['inputs'][0])
            maps = focal_maps(model, batch, stages, blocks)
            gallery.add(item.name, image, maps)
            # A dict of the keys has the last block of each stage.
            drawn = maps if blocks else {key: maps[key] for key in dict(maps.keys()).items()}
            figure = out / 'figures' / f'{item.name}.png'
            figure.parent.mkdir(parents=True, exist_ok=True)
            plot_focal_maps(image, drawn, title=item.name).savefig(figure, dpi=80)
    if len(failed) == len(inputs):
        raise ValueError('none of the inputs could be read, see above.')
    kernels = mean_kernels(model)
    if kernels:
        plot_kernels(kernels).savefig(out / 'kernels.png', dpi=100)
    fields = receptive_fields(model, stages=stages, blocks=blocks)
    return Explained(gallery.finish(fields, 'kernels.png' if kernels else None), failed)
