"""Whole models in one file: a table of the kinds of model, and one file a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..part import Part
from .dense import dense
from .dino import dino
from .mask2former import mask2former
from .segmenter import segmenter
from .sparse import sparse
from .two_stage import two_stage

__all__ = ['KINDS', 'MASKS', 'whole']

#: What a file returns of masks: pasted onto the images, those of the boxes alone, or none.
MASKS = ('paste', 'roi', 'none')
#: Class of a model → what makes the part that is exported of it and of one of :data:`MASKS`.
KINDS: dict[str, Callable[[Any, str], Part | None]] = dict(
    FasterRCNN=two_stage, MaskRCNN=two_stage, CascadeRCNN=two_stage, TwoStageDetector=two_stage, RetinaNet=dense,
    ATSS=dense, SingleStageDetector=dense, SparseRCNN=sparse,
    DINO=dino, Mask2Former=mask2former, EncoderDecoder=segmenter, CascadeEncoderDecoder=segmenter)


def whole(model: Any, masks: str = 'paste') -> Part | None:
    """All of a model, or nothing where its class is not known or ONNX cannot hold it.

    Args:
        model: A model in evaluation mode.
        masks: One of :data:`MASKS`.

    Raises:
        ValueError: The class is known, and some part of the model is not.
    """
    kind = KINDS.get(type(model).__name__)
    return kind and kind(model, masks)
