"""What becomes of an ONNX file of a whole model once it computes what PyTorch does: preprocessing and precision.

Both need the extra ``onnx``, which other formats do without: they are imported where such a file is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from torch import nn

from .part import Part
from .runtime import Runtime

__all__ = ['FINISH', 'PRECISIONS', 'RGB', 'Finish', 'carriers_of', 'finish', 'plan_of']

#: How the weights of layers may be kept.
PRECISIONS = ('fp32', 'fp16', 'int8')


class Finish(NamedTuple):
    """How an ONNX file of a whole model takes its images and keeps its weights."""

    #: Whether it takes RGB pictures of any size in uint8, and resizes and normalises them itself.
    preprocess: bool = True
    #: One of :data:`PRECISIONS`.
    precision: str = 'fp32'
    #: Pictures that ``'int8'`` finds the ranges of activations with.
    pictures: Sequence[Path] = ()


#: What a file with preprocessing takes.
RGB = 'images (N, H, W, 3), RGB in uint8, of any size'
#: With preprocessing, in float32.
FINISH = Finish()


def plan_of(model: nn.Module, part: Part, to: str, channels: int, cfg: Config | None,
            how: Finish) -> dict[str, Any] | None:
    """The preprocessing of a file; nothing where it takes normalised images.

    Args:
        model: The model with its ``data_preprocessor``.
        part: What is exported of it.
        to: The format.
        channels: The number of image channels.
        cfg: The model's config; without one there is no preprocessing.
        how: What was asked for.

    Raises:
        ValueError: The graph cannot do what the config does, there is no preprocessing to lower the precision with, or
            no picture for ``'int8'``.
    """
    whole = to == 'onnx' and (part.carriers or part.facts.get('task') == 'classification')
    if cfg is not None and whole and how.preprocess:
        from .precision import check_pictures
        from .preprocess import make_plan
        if how.precision == 'int8':
            check_pictures(how.pictures)
        return make_plan(model, channels, cfg)
    if how.precision != 'fp32':
        raise ValueError(f'The precision {how.precision} is for ONNX files of whole models with their preprocessing: '
                         'export --to onnx --part model, without --no-preprocess.')
    return None


def carriers_of(plan: dict[str, Any] | None, part: Part) -> list[str]:
    """What preprocessing tells a part besides the images; nothing where there is none.

    Args:
        plan: What :func:`plan_of` returned.
        part: What is exported.
    """
    if not plan:
        return []
    from .preprocess import carriers_behind
    return [name for name in carriers_behind(plan) if name in part.carriers]


def finish(file: Path, part: Part, plan: dict[str, Any], model: nn.Module, cfg: Config | None, how: Finish,
           tell: Callable[[str], None]) -> None:
    """Put preprocessing in front of a file, and lower its precision.

    Args:
        file: What was written, rewritten here.
        part: What it holds of the model.
        plan: What :func:`plan_of` returned.
        model: The model.
        cfg: Its config.
        how: What was asked for.
        tell: What to call with each line about the progress.

    Raises:
        ValueError: The graph prepares pictures otherwise than the config does, or the whole cannot be opened.
    """
    from .precision import lower_precision
    from .preprocess import compare_with_pipeline, prepend
    if cfg is not None:
        levels = compare_with_pipeline(plan, model, cfg, 'boxes' in part.names)
        tell(f'preprocessing: {levels:.2g} grey levels from what the pipeline of the config does')
    prepend(file, plan)
    if how.precision != 'fp32':
        before = file.stat().st_size
        lower_precision(file, how.precision, how.pictures, tell)
        tell(f'{how.precision}: {file.stat().st_size / 1e6:.1f} MB in place of {before / 1e6:.1f} MB; --check tells '
             'what that costs on the validation set')
    # What was compared were its two parts.
    Runtime(file)
