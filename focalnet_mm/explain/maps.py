"""Gates, modulators and kernels as arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseTTAModel
from torch import Tensor, nn

from ..backbone.focalnet import FocalNet, find_backbone
from ..releases import forced_eager

__all__ = ['FocalMaps', 'choose_blocks', 'focal_maps', 'inputs_of', 'maps_of', 'mean_kernels', 'norm_on_objects',
           'only_backbone', 'outputs_of', 'recorded', 'stride_of']


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


def focal_maps(model: nn.Module, images: Tensor | Mapping[str, Any], stages: Sequence[int] | int | None = None,
               blocks: Sequence[int] | int | None = None, upsample: bool = False) -> dict[tuple[int, int], FocalMaps]:
    """Gates and modulators of chosen blocks, computed in evaluation mode.

    The model is left as it was: hooks that read the blocks are removed, errors or not, and training mode is restored.

    Args:
        model: A FocalNet or a model of any library with one, however it is wrapped. Of a model with several, such as
            student and teacher, pass a part with one.
        images: What the backbone takes, (N, in_channels, H, W); or, for a model with a ``data_preprocessor``, a batch
            as its data loader gives it, with ``inputs`` and ``data_samples``. The maps cover the padding of such a
            batch.
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
    images = inputs_of(model, images)
    chosen = choose_blocks(backbone, stages, blocks)
    found = maps_of(backbone, outputs_of(backbone, images, chosen, 'f', 'h'))
    if upsample:
        found = {key: maps.upsampled(*images.shape[2:]) for key, maps in found.items()}
    return found


def maps_of(backbone: FocalNet,
            outputs: Mapping[tuple[int, int], Sequence[Tensor]]) -> dict[tuple[int, int], FocalMaps]:
    """The maps of blocks of which the outputs of ``f`` and ``h`` are known, as :func:`outputs_of` returns them."""
    found = {}
    for key, (projected, modulator) in outputs.items():
        gates = projected.permute(0, 3, 1, 2)[:, 2 * modulator.shape[1]:]
        gates, modulator = (part.detach().to(torch.promote_types(part.dtype, torch.float32))
                            for part in (gates, modulator))
        found[key] = FocalMaps(gates, modulator, modulator.norm(dim=1), stride_of(backbone, key[0]))
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
    backbone = find_backbone(model)
    kernels = {}
    for stage, depth in enumerate(backbone.depths):
        weights = [backbone.block(stage, block).modulation.kernels() for block in range(depth)]
        for level, of_blocks in enumerate(zip(*weights, strict=True)):
            kernels[stage, level] = torch.stack(of_blocks).detach().float().mean((0, 1, 2))
    return kernels


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


def inputs_of(model: nn.Module, images: Tensor | Mapping[str, Any]) -> Tensor:
    """What the backbone gets of images or of a batch."""
    if isinstance(images, Tensor):
        return images
    preprocessor = _preprocessor(model)
    if preprocessor is None:
        raise TypeError(f'A batch was passed, but the {type(model).__name__} has no data_preprocessor: pass images of '
                        'shape (N, 3, H, W).')
    found = preprocessor(images, False)['inputs']
    if isinstance(found, Tensor):
        return found
    # Of models that put their images together themselves, or that get several views of each.
    return found[0] if found[0].dim() == 4 else torch.stack(list(found)).float()


def only_backbone(model: nn.Module, name: str | None) -> nn.Module:
    """A model with one of its backbones alone, for the functions of this package.

    Args:
        model: Any model.
        name: As :func:`~focalnet_mm.explain.find_backbone` takes it.

    Returns:
        What holds the backbone and the model's ``data_preprocessor``, both themselves and not copies.

    Raises:
        ValueError: As :func:`~focalnet_mm.explain.find_backbone` does.
    """
    part = nn.Module()
    part.add_module('backbone', find_backbone(model, name))
    part.add_module('data_preprocessor', _preprocessor(model))
    return part


def _preprocessor(model: nn.Module) -> nn.Module | None:
    """The data preprocessor of the model itself; that of test-time augmentation does nothing."""
    for module in model.modules():
        found = getattr(module, 'data_preprocessor', None)
        if found is not None and not isinstance(module, BaseTTAModel):
            return found
    return None


def choose_blocks(backbone: FocalNet, stages: Sequence[int] | int | None,
                  blocks: Sequence[int] | int | None) -> list[tuple[int, int]]:
    """The (stage, block) that are meant, as :func:`focal_maps` takes them."""
    stages = _indices('stage', stages, len(backbone.layers))
    most = max(backbone.depths[stage] for stage in stages)
    wanted = range(most) if blocks is None else [blocks] if isinstance(blocks, int) else blocks
    for block in wanted:
        if not -most <= block < most:
            raise IndexError(f'There is no block {block}: the chosen stages have at most {most}, 0 to {most - 1}.')
    chosen: list[tuple[int, int]] = []
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


def outputs_of(backbone: FocalNet, images: Tensor, chosen: Sequence[tuple[int, int]],
               *parts: str) -> dict[tuple[int, int], list[Tensor]]:
    """What the named layers of the chosen blocks' modulations return for images, in evaluation mode."""
    with recorded(backbone, chosen, *parts) as outputs:
        with _evaluating(backbone), torch.no_grad(), forced_eager(backbone):
            backbone(images)
        return outputs()


@contextlib.contextmanager
def recorded(backbone: FocalNet, chosen: Sequence[tuple[int, int]],
             *parts: str) -> Iterator[Callable[[], dict[tuple[int, int], list[Tensor]]]]:
    """Keep what the named layers of the chosen blocks' modulations return as long as the context lasts.

    Args:
        backbone: The backbone.
        chosen: The (stage, block).
        *parts: Names of layers of a modulation.

    Yields:
        A function that tells the outputs of each (stage, block), and raises RuntimeError where the blocks did not run
        just once.

    Raises:
        ValueError: The backbone has another modulation, without these layers.
    """
    modulations = {(stage, block): backbone.block(stage, block).modulation for stage, block in chosen}
    if not all(hasattr(modulation, part) for modulation in modulations.values() for part in parts):
        raise ValueError(f"The blocks have the modulation {backbone.modulation!r}, and gates and modulators can be "
                         "shown of 'focal' only: choose a model with that.")
    layers = [getattr(modulation, part) for modulation in modulations.values() for part in parts]
    outputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}

    def keep(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[layer].append(output)

    def tell() -> dict[tuple[int, int], list[Tensor]]:
        runs = len(outputs[layers[0]])
        if runs != 1:
            raise RuntimeError(f'the backbone ran {runs} times for one batch, and its maps can be shown of one run '
                               'only.')
        return {key: [outputs[getattr(modulation, part)][0] for part in parts]
                for key, modulation in modulations.items()}

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield tell
    finally:
        for handle in handles:
            handle.remove()


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


def stride_of(backbone: FocalNet, stage: int) -> int:
    """Pixels of the image a pixel of a stage's feature map."""
    return backbone.patch_embed.stride * 2**stage
