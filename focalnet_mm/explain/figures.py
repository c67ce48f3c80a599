"""Maps and kernels as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.pictures import printable, to_bgr
from ..run.config import first_dataset
from .maps import FocalMaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['as_array', 'as_picture', 'pixels', 'plot_focal_maps', 'plot_kernels', 'reads_rgb']


def as_picture(inputs: Tensor, rgb: bool = False) -> np.ndarray:
    """An image of a batch, as it is drawn: see :func:`~focalnet_mm.data.pictures.to_bgr`.

    Args:
        inputs: One of the batch's ``inputs`` (C, H, W).
        rgb: Whether the channels are RGB, see :func:`reads_rgb`; mmcv loads images as BGR.

    Returns:
        RGB image (H, W, 3), uint8.
    """
    return to_bgr(as_array(inputs))[..., ::1 if rgb else -1].copy()


def as_array(inputs: Tensor) -> np.ndarray:
    """An image of a batch (C, H, W) as (H, W, C), of the same numbers."""
    image = inputs.detach().cpu()
    # NumPy has no bfloat16.
    return (image.float() if image.dtype == torch.bfloat16 else image).numpy().transpose(1, 2, 0)


def reads_rgb(cfg: Mapping[str, Any], split: str) -> bool:
    """Whether a config's images come to the model's data preprocessor as RGB.

    Args:
        cfg: The config.
        split: ``val`` or ``test``.

    Returns:
        True where the data preprocessor turns RGB to BGR, or the pipeline turns what mmcv loads, BGR, to RGB.
    """
    if any(_says(cfg.get(key), 'rgb_to_bgr') for key in ('model', 'data_preprocessor')):
        return True
    rgb = False
    for step in first_dataset(cfg, split).get('pipeline') or ():
        if isinstance(step, Mapping):
            rgb = (rgb or bool(step.get('to_rgb'))) and not step.get('to_bgr')
    return rgb


def _says(settings: Any, key: str) -> bool:
    """Whether a key is true anywhere in settings."""
    if isinstance(settings, Mapping):
        return bool(settings.get(key)) or any(_says(value, key) for value in settings.values())
    return isinstance(settings, (list, tuple)) and any(_says(value, key) for value in settings)


def plot_focal_maps(image: np.ndarray, maps: Mapping[tuple[int, int], FocalMaps], index: int = 0,
                    title: str | None = None) -> Figure:
    """A row a block as in figure 5 of the paper: image, the gate of each level, that of the global context, modulator.

    Args:
        image: RGB image (H, W, 3), uint8.
        maps: What :func:`focal_maps` returns for it; padding at the right and at the bottom is left out.
        index: Which image of the batch.
        title: Title of the figure.

    Returns:
        The figure, which belongs to no window. The gates of a block share one scale of colours.

    Raises:
        ValueError: There are no maps.
    """
    if not maps:
        raise ValueError('There are no maps to draw.')
    height, width = image.shape[:2]
    columns = max(block.gates.shape[1] for block in maps.values()) + 2
    tall = 2.6 * min(2, max(0.4, height / width))
    figure = _figure(2.6 * columns + 2, (tall + 0.45) * len(maps) + (0.4 if title else 0))
    grid = figure.subplots(len(maps), columns, squeeze=False)
    for (key, block), axes in zip(maps.items(), grid):
        block = block.upsampled(height, width)
        gates, norm = block.gates[index].cpu().numpy(), block.norm[index].cpu().numpy()
        names = [f'gate, level {level}' for level in range(1, len(gates))] + ['gate, global context']
        for axis in axes:
            axis.set_axis_off()
        axes[0].imshow(image)
        axes[0].set_title(f'stage {key[0]}, block {key[1]}')
        for axis, gate, name in zip(axes[1:], gates, names):
            drawn = axis.imshow(gate, vmin=gates.min(), vmax=gates.max(), cmap='viridis')
            axis.set_title(name)
        figure.colorbar(drawn, ax=axes[-2], fraction=0.05, label='gate (no unit)')
        axes[-1].imshow(image)
        drawn = axes[-1].imshow(norm, cmap='inferno', alpha=0.65)
        axes[-1].set_title('modulator')
        bar = figure.colorbar(drawn, ax=axes[-1], fraction=0.05, label='L2 norm (no unit)')
        if bar.solids is not None:
            bar.solids.set_alpha(1)
    if title:
        # A file's name may have dollars in it, and bytes that are no UTF-8.
        figure.suptitle(printable(title), parse_math=False)
    return figure


def plot_kernels(kernels: Mapping[tuple[int, int], Tensor]) -> Figure:
    """A grid as in figure 6 of the paper: the mean kernel of each level (rows) and stage (columns).

    Args:
        kernels: What :func:`mean_kernels` returns.

    Returns:
        The figure, which belongs to no window. All kernels share one scale of colours, with 0 in its middle.

    Raises:
        ValueError: There are no kernels, since the model has no focal levels.
    """
    if not kernels:
        raise ValueError('There is no kernel to draw: the model has no focal levels.')
    stages, levels = sorted({stage for stage, _ in kernels}), sorted({level for _, level in kernels})
    figure = _figure(2.4 * len(stages) + 1, 2.6 * len(levels))
    axes = figure.subplots(len(levels), len(stages), squeeze=False)
    limit = max(kernel.abs().max().item() for kernel in kernels.values())
    for axis in axes.flat:
        axis.set_axis_off()
    for (stage, level), kernel in kernels.items():
        axis = axes[levels.index(level), stages.index(stage)]
        axis.set_axis_on()
        drawn = axis.imshow(kernel.cpu(), vmin=-limit, vmax=limit, cmap='RdBu_r')
        axis.set_title(f'stage {stage}, level {level + 1}')
        half = len(kernel) // 2
        ticks = sorted({0, half, len(kernel) - 1})
        axis.set_xticks(ticks, [tick - half for tick in ticks])
        axis.set_yticks(ticks, [tick - half for tick in ticks])
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05)
    bar.set_label('mean weight (no unit)')
    figure.supxlabel('offset (pixels of the feature map)')
    return figure


def _figure(width: float, height: float) -> Figure:
    # Without pyplot a figure is freed with its last reference and needs no screen.
    from matplotlib.figure import Figure
    return Figure((width, height), layout='constrained')


def pixels(figure: Figure) -> np.ndarray:
    """A figure as RGB pixels (H, W, 3), uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
