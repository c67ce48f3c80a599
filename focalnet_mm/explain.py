"""What a FocalNet looks at: gates, modulators and kernels (arXiv 2203.11926v3, figures 5 and 6), without any training.

Arrays first: :func:`focal_maps`, :func:`mean_kernels` and :func:`receptive_fields` work on a bare backbone and on any
model of mmdet, mmseg or mmpretrain with one. :func:`plot_focal_maps` and :func:`plot_kernels` turn them into matplotlib
figures, and :class:`FocalMapsHook` shows them during training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

from .focalnet import FocalNet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['FocalMaps', 'FocalMapsHook', 'ReceptiveField', 'as_picture', 'find_backbone', 'focal_maps', 'mean_kernels',
           'norm_on_objects', 'plot_focal_maps', 'plot_kernels', 'receptive_fields']


class FocalMaps(NamedTuple):
    """What one block computed of its images; h and w are those of its feature map, or of the images."""

    #: ``G``: the gate of each level and, last, of the global context (N, L+1, h, w), without a unit and of either sign.
    gates: Tensor
    #: ``h(Zᵒᵘᵗ)``, what the query is multiplied with (N, C, h, w), always of the size of the feature map.
    modulator: Tensor
    #: The modulator's L2 norm over its channels (N, h, w).
    norm: Tensor
    #: Pixels of the image a pixel of the feature map.
    stride: int

    def upsampled(self, height: int, width: int) -> FocalMaps:
        """Gates and norm resized bilinearly, so that each pixel lies on the pixels of the image that it comes from.

        Args:
            height: Height of the image, without what it was padded with at the bottom.
            width: Its width, likewise.

        Returns:
            Maps of h = ``height`` and w = ``width``; those that have this size already stay as they are.
        """
        if self.norm.shape[1:] == (height, width):
            return self
        gates, norm = (_upsample(maps, self.stride, height, width) for maps in (self.gates, self.norm[:, None]))
        return self._replace(gates=gates, norm=norm[:, 0])


class ReceptiveField(NamedTuple):
    """How far a focal level sees, as the side of a square in pixels of the block's feature map."""

    stage: int
    block: int
    #: 1…L.
    level: int
    #: ``rˡ = 1 + Σ (kⁱ - 1)`` over the levels ``i ≤ l``, for kernels ``kⁱ`` (paper, section 3.2).
    theoretical: int
    #: Side of the smallest square around a position that holds the share of its gradient that was asked for; ``None``
    #: without images.
    measured: int | None
    #: Pixels of the image a pixel of the feature map.
    stride: int


def find_backbone(model: nn.Module) -> FocalNet:
    """The FocalNet of a model.

    Args:
        model: A FocalNet, or any module that has one, wrapped for distributed training or not.

    Returns:
        The backbone.

    Raises:
        ValueError: The model has no FocalNet, or several.
    """
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, FocalNet)]
    if len(found) != 1:
        names = ' has none' if not found else f' has {len(found)}, {", ".join(name for name, _ in found)}'
        raise ValueError(f'One FocalNet was expected in the model, but the {type(model).__name__}{names}: pass the '
                         'backbone itself.')
    return found[0][1]


def focal_maps(model: nn.Module, images: Tensor | Mapping[str, Any], stages: Sequence[int] | int | None = None,
               blocks: Sequence[int] | int | None = None, upsample: bool = False) -> dict[tuple[int, int], FocalMaps]:
    """Gates and modulators of chosen blocks, computed in evaluation mode.

    The model is left as it was: hooks that read the blocks are removed, errors or not, and training mode is restored.

    Args:
        model: A FocalNet or a model of any library with one.
        images: What the backbone takes, (N, 3, H, W); or, for a model with a ``data_preprocessor``, a batch as its data
            loader gives it, with ``inputs`` and ``data_samples``. The maps cover the padding of such a batch.
        stages: Stages from 0 on, negative ones from the last; ``None`` means all.
        blocks: Blocks of each of these stages, likewise. A stage leaves out those that it does not have.
        upsample: Whether to resize gates and norm to H × W, see :meth:`FocalMaps.upsampled`.

    Returns:
        The maps of each (stage, block), detached and in float32 at least, on the device of the images.

    Raises:
        ValueError: The model has no FocalNet or several, or no block was chosen.
        IndexError: A stage or block does not exist.
        TypeError: A batch was passed, and the model has no ``data_preprocessor``.
    """
    backbone = find_backbone(model)
    images = _images(model, images)
    chosen = _choose_blocks(backbone, stages, blocks)
    found = {}
    for key, (projected, modulator) in _outputs(backbone, images, chosen, 'f', 'h').items():
        gates = projected[:, 2 * modulator.shape[1]:]
        gates, modulator = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (gates, modulator))
        found[key] = FocalMaps(gates, modulator, modulator.norm(dim=1), _stride(backbone, key[0]))
        if upsample:
            found[key] = found[key].upsampled(*images.shape[2:])
    return found


def mean_kernels(model: nn.Module) -> dict[tuple[int, int], Tensor]:
    """The depthwise kernels, averaged over the channels and blocks of each stage (paper, figure 6).

    Args:
        model: A FocalNet or a model of any library with one.

    Returns:
        A kernel (k, k) for each (stage, level), both from 0 on, in float32.

    Raises:
        ValueError: The model has no FocalNet or several.
    """
    kernels = {}
    for i, stage in enumerate(find_backbone(model).layers):
        for level in range(stage.blocks[0].modulation.focal_level):
            weights = [block.modulation.focal_layers[level][0].weight.detach() for block in stage.blocks]
            kernels[i, level] = torch.stack(weights).float().mean((0, 1, 2))
    return kernels


def receptive_fields(model: nn.Module, images: Tensor | Mapping[str, Any] | None = None,
                     stages: Sequence[int] | int | None = None, blocks: Sequence[int] | int | None = None,
                     share: float = 0.95) -> list[ReceptiveField]:
    """How far each focal level sees: as the kernels allow, and as the weights do it.

    The measured field is that of the level's value in the middle of the map: the absolute gradient with respect to the
    block's ``Z⁰``, summed over channels and images. A map smaller than the field cuts it.

    Args:
        model: A FocalNet or a model of any library with one.
        images: As for :func:`focal_maps`; without them nothing is measured.
        stages: As for :func:`focal_maps`.
        blocks: As for :func:`focal_maps`.
        share: How much of the gradient the measured square holds, in (0, 1].

    Returns:
        One field a level of each block.

    Raises:
        ValueError: ``share`` is out of range, the model has no FocalNet or several, or no block was chosen.
        IndexError: A stage or block does not exist.
        TypeError: A batch was passed, and the model has no ``data_preprocessor``.
    """
    if not 0 < share <= 1:
        raise ValueError(f'share must be in (0, 1], got {share}.')
    backbone = find_backbone(model)
    chosen = _choose_blocks(backbone, stages, blocks)
    projected = {} if images is None else _outputs(backbone, _images(model, images), chosen, 'f')
    fields = []
    for stage, block in chosen:
        modulation = backbone.layers[stage].blocks[block].modulation
        theoretical = 1
        context = None
        if projected:
            channels = modulation.embed_dims
            context = projected[stage, block][0][:, channels:2 * channels].requires_grad_()
        with torch.enable_grad():
            current = context
            for i, layer in enumerate(modulation.focal_layers):
                theoretical += layer[0].kernel_size[0] - 1
                measured = None
                if context is not None:
                    current = layer(current)
                    middle = current.shape[2] // 2, current.shape[3] // 2
                    gradient, = torch.autograd.grad(
                        current[:, :, middle[0], middle[1]].sum(), context, retain_graph=True)
                    measured = _side(gradient.abs().sum((0, 1)), middle, share)
                fields.append(ReceptiveField(stage, block, i + 1, theoretical, measured, _stride(backbone, stage)))
    return fields


def norm_on_objects(model: nn.Module, batches: Iterable[Mapping[str, Any]], stages: Sequence[int] | int | None = None,
                    blocks: Sequence[int] | int | None = None) -> dict[tuple[int, int], float]:
    """How much larger the modulator is on annotated objects than elsewhere.

    Args:
        model: A model of mmdet.
        batches: Batches of its data loader for validation, whose samples have masks as ``gt_instances``.
        stages: As for :func:`focal_maps`.
        blocks: As for :func:`focal_maps`.

    Returns:
        For each (stage, block) the mean L2 norm of the modulator over all pixels of objects, by that over all others.

    Raises:
        ValueError: The samples have no masks, the model has no FocalNet or several, or no block was chosen.
        IndexError: A stage or block does not exist.
    """
    sums: dict[tuple[int, int], np.ndarray] = {}
    for batch in batches:
        found = focal_maps(model, batch, stages, blocks)
        for i, sample in enumerate(batch['data_samples']):
            if 'masks' not in sample.get('gt_instances', ()):
                raise ValueError('The samples have no masks in gt_instances: use a data set of instances whose '
                                 'pipeline loads them.')
            masks = sample.gt_instances.masks
            objects = masks.to_tensor(torch.bool, 'cpu').any(0) if len(masks) else torch.zeros(
                masks.height, masks.width, dtype=torch.bool)
            for key, maps in found.items():
                norm = _upsample(maps.norm[i:i + 1, None], maps.stride, *sample.img_shape)
                # Annotations may be of the image before it was resized.
                norm = F.interpolate(norm, objects.shape, mode='bilinear')[0, 0].double().cpu()
                sums.setdefault(key, np.zeros(4))[:] += [
                    norm[objects].sum(), objects.sum(), norm[~objects].sum(), (~objects).sum()]
    return {key: float(inside / count / (outside / other)) for key, (inside, count, outside, other) in sums.items()}


def as_picture(inputs: Tensor) -> np.ndarray:
    """An image of a batch, as it is drawn.

    Args:
        inputs: One of the batch's ``inputs`` (3, H, W), BGR from 0 to 255, as mmcv loads images.

    Returns:
        RGB image (H, W, 3), uint8.
    """
    return inputs.cpu().numpy().transpose(1, 2, 0)[..., ::-1].astype(np.uint8)


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
        bar.solids.set_alpha(1)
    if title:
        figure.suptitle(title)
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
            runner.visualizer.add_image(f'focal_maps_{name}', _pixels(figure), runner.iter)


def _images(model: nn.Module, images: Tensor | Mapping[str, Any]) -> Tensor:
    if isinstance(images, Tensor):
        return images
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is None:
        raise TypeError(f'A batch was passed, but the {type(model).__name__} has no data_preprocessor: pass images of '
                        'shape (N, 3, H, W).')
    return preprocessor(images, False)['inputs']


def _choose_blocks(backbone: FocalNet, stages: Sequence[int] | int | None,
                   blocks: Sequence[int] | int | None) -> list[tuple[int, int]]:
    stages = _indices('stage', stages, len(backbone.layers))
    most = max(backbone.depths[stage] for stage in stages)
    wanted = range(most) if blocks is None else [blocks] if isinstance(blocks, int) else blocks
    for block in wanted:
        if not -most <= block < most:
            raise IndexError(f'There is no block {block}: the chosen stages have at most {most}, 0 to {most - 1}.')
    chosen = []
    for stage in stages:
        depth = backbone.depths[stage]
        chosen += dict.fromkeys((stage, block % depth) for block in wanted if -depth <= block < depth)
    if not chosen:
        raise ValueError('No block was chosen: blocks is empty.')
    return chosen


def _indices(name: str, values: Sequence[int] | int | None, count: int) -> list[int]:
    """Positions from 0 on, each once."""
    values = range(count) if values is None else [values] if isinstance(values, int) else values
    for value in values:
        if not -count <= value < count:
            raise IndexError(f'There is no {name} {value}: the backbone has {count}, 0 to {count - 1}.')
    if not len(values):
        raise ValueError(f'No {name} was chosen.')
    return list(dict.fromkeys(value % count for value in values))


def _outputs(backbone: FocalNet, images: Tensor, chosen: Sequence[tuple[int, int]],
             *parts: str) -> dict[tuple[int, int], list[Tensor]]:
    """What the named layers of the chosen blocks' modulations return for images, in evaluation mode."""
    modulations = {key: backbone.layers[key[0]].blocks[key[1]].modulation for key in chosen}
    layers = [getattr(modulation, part) for modulation in modulations.values() for part in parts]
    outputs: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[layer] = output

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with _evaluating(backbone), torch.no_grad():
            backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return {key: [outputs[getattr(modulation, part)] for part in parts] for key, modulation in modulations.items()}


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each part is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


def _upsample(maps: Tensor, stride: int, height: int, width: int) -> Tensor:
    """(N, C, h, w) → (N, C, height, width), without the multiple of the stride that the image was padded to."""
    return F.interpolate(maps, scale_factor=stride, mode='bilinear')[..., :height, :width]


def _stride(backbone: FocalNet, stage: int) -> int:
    return backbone.patch_embed.stride * 2**stage


def _side(gradient: Tensor, middle: tuple[int, int], share: float) -> int:
    """Side of the smallest square around the middle that holds the share of a map (h, w)."""
    y, x = (torch.arange(length, device=gradient.device) for length in gradient.shape)
    distance = torch.maximum((y - middle[0]).abs()[:, None], (x - middle[1]).abs()[None])
    held = torch.zeros(int(distance.max()) + 1, dtype=torch.float64, device=gradient.device)
    held.index_add_(0, distance.flatten(), gradient.flatten().double())
    held = held.cumsum(0)
    return 2 * int((held < share * held[-1] * (1 - 1e-9)).sum()) + 1


def _figure(width: float, height: float) -> Figure:
    # Without pyplot a figure is freed with its last reference and needs no screen.
    from matplotlib.figure import Figure
    return Figure((width, height), layout='constrained')


def _pixels(figure: Figure) -> np.ndarray:
    """A figure as RGB pixels (H, W, 3), uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
