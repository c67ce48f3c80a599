"""The whole of mmseg's segmenters, from images to label maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..part import TOLERANCE, Agreement, Part
from .known import check_known

__all__ = ['Segmenter', 'segmenter']


class Segmenter(nn.Module):
    """Labels and logits of the classes of every pixel.

    Args:
        model: An ``EncoderDecoder`` of mmseg.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, inside: Tensor | None = None,
                original: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Segment.

        Args:
            images: Images (N, C, H, W), normalised and padded.
            inside: Of the shape (height, width) of the images without padding; without it they have none.
            original: Of the shape (height, width) that the labels are for; without it that of ``inside``.

        Returns:
            Labels (N, height, width), and the logits (N, classes, height, width); of a single channel its scores.
        """
        model: Any = self.model
        logits = (self._windows if model.test_cfg.get('mode', 'whole') == 'slide' else self._decode)(images)
        if inside is not None:
            logits = logits[..., :inside.shape[0], :inside.shape[1]]
        if original is not None:
            logits = F.interpolate(logits, original.shape, mode='bilinear', align_corners=model.align_corners)
        if logits.shape[1] > 1:
            return logits.argmax(1), logits
        scores = logits.sigmoid()
        return (scores[:, 0] > model.decode_head.threshold).to(torch.int64), scores

    def _decode(self, images: Tensor) -> Tensor:
        """The logits of images (N, classes, H, W)."""
        model: Any = self.model
        size = images.shape[2:]
        if not _has_queries(model):
            return model.encode_decode(images, [dict(ori_shape=size, img_shape=size, pad_shape=size)])
        of_layers = model.decode_head(model.extract_feat(images), None)
        classes, masks = (predictions[-1] for predictions in of_layers)
        masks = F.interpolate(masks, size, mode='bilinear', align_corners=False).sigmoid()
        return torch.einsum('nqc,nqhw->nchw', classes.softmax(-1)[..., :-1], masks)

    def _windows(self, images: Tensor) -> Tensor:
        """The mean of the logits of all windows over a pixel, as ``slide_inference`` of mmseg has it, in one batch."""
        settings: Any = self.model.test_cfg
        rows, columns = (_Windows(length, crop, stride, images) for length, crop, stride in zip(
            images.shape[2:], settings['crop_size'], settings['stride']))
        count, channels = images.shape[:2]
        images = images[:, :, rows.pixels.flatten()][..., columns.pixels.flatten()]
        images = images.view(count, channels, *rows.pixels.shape, *columns.pixels.shape).permute(0, 2, 4, 1, 3, 5)
        logits = self._decode(images.flatten(0, 2))
        logits = logits.unflatten(0, (count, rows.pixels.shape[0], columns.pixels.shape[0]))
        logits = logits.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return columns.mean(rows.mean(logits, 2), 3)


class _Windows:
    """Windows along one side of an image.

    Args:
        length: Of the side.
        crop: Of a window; the whole side if that is shorter.
        stride: From a window to the next. The last one ends with the side.
        like: A tensor on the device.
    """

    def __init__(self, length: Any, crop: int, stride: int, like: Tensor) -> None:
        self.crop: Any = torch.sym_min(crop, length)
        number = torch.sym_max(length - crop + stride - 1, 0) // stride + 1
        self.starts = (torch.arange(number, device=like.device) * stride).clamp(max=length - self.crop)
        #: Which pixels each window shows (windows, crop).
        self.pixels = self.starts[:, None] + torch.arange(self.crop, device=like.device)
        self.places = torch.arange(length, device=like.device)
        # As the last may be moved, one more than fit without it can lie over a pixel.
        self.most = math.ceil(crop / stride) + 1

    def mean(self, values: Tensor, dim: int) -> Tensor:
        """For every pixel the mean of what the windows over it say, which stands in ``values`` window by window."""
        over = (self.places[:, None] >= self.starts) & (self.places[:, None] < self.starts + self.crop)
        share = over.to(values) / over.sum(1, keepdim=True)
        first = over.to(torch.int64).argmax(1)
        total: Any = 0
        for i in range(self.most):
            window = (first + i).clamp(max=self.starts.shape[0] - 1)
            # Beyond the last window its share would count again.
            weight = share.gather(1, window[:, None])[:, 0] * (first + i == window)
            place = window * self.crop + (self.places - self.starts[window]).clamp(0, self.crop - 1)
            total = total + values.index_select(dim, place) * weight.view(-1, *[1] * (values.dim() - dim - 1))
        return total


def segmenter(model: Any, masks: str) -> Part | None:
    """All of a segmenter, as a part to export.

    Args:
        model: An ``EncoderDecoder`` of mmseg in evaluation mode.
        masks: Of no consequence, since it has none.

    Returns:
        The part, or nothing where ONNX cannot hold what the model computes.

    Raises:
        ValueError: A part of it is not known.
    """
    heads = list(model.decode_head) if isinstance(model.decode_head, nn.ModuleList) else [model.decode_head]
    # The points that it refines are numbered modulo a size that is left open.
    if any(type(head).__name__ == 'PointHead' for head in heads):
        return None
    if _has_queries(model):
        check_known((heads[0], 'Mask2FormerHead'), (heads[0].pixel_decoder, 'MSDeformAttnPixelDecoder'))
    facts: dict[str, Any] = dict(task='segmentation')
    names, left = ('label_map', 'logits'), 'A pixel of label_map holds its class.'
    if model.out_channels == 1:
        facts['threshold'] = heads[-1].threshold
        names = 'label_map', 'scores'
        left = f'A pixel is of class 1 where its score is above {facts["threshold"]}, else of class 0.'
    return Part(Segmenter(model).eval(), names, left, partial(_predictions, model), facts, ('onnx',),
                carriers=('inside', 'original'), agree=_agreement, chooses=_has_queries(model))


def _has_queries(model: Any) -> bool:
    return hasattr(model.decode_head, 'transformer_decoder')


def _predictions(model: Any, images: Tensor, inside: Tensor | None = None,
                 original: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What the model itself predicts for images that are normalised already."""
    from mmseg.structures import SegDataSample
    whole = tuple(images.shape[2:])
    shown = whole if inside is None else tuple(inside.shape)
    sizes = dict(img_shape=shown, pad_shape=whole, ori_shape=shown if original is None else tuple(original.shape),
                 padding_size=[0, whole[1] - shown[1], 0, whole[0] - shown[0]])
    with torch.no_grad():
        samples = model.predict(images, [SegDataSample(metainfo=sizes) for _ in images])
    return (torch.cat([sample.pred_sem_seg.data for sample in samples]).to(torch.int64),
            torch.stack([sample.seg_logits.data for sample in samples]))


def _agreement(expected: Sequence[Tensor], found: Sequence[Tensor]) -> Agreement:
    """Compare label maps pixel by pixel, and logits."""
    (labels, logits), (other_labels, others) = expected, found
    if logits.shape != others.shape:
        return Agreement(float('nan'), f'the map has the shape {tuple(others.shape)} after the export, and '
                                       f'{tuple(logits.shape)} in PyTorch')
    scale = logits.abs().max().clamp(min=1e-12)
    largest = float((logits - others).abs().max() / scale)
    equal = labels == other_labels
    if logits.shape[1] > 1:
        # Of logits that are alike, as where no query has a mask, any may be the largest.
        chosen = logits.gather(1, other_labels[:, None])[:, 0]
        equal |= logits.amax(1) - chosen <= TOLERANCE * scale
    same = float(equal.float().mean())
    return Agreement(largest, f'{same:.2%} of the pixels of the same label, largest relative difference {largest:.1e}',
                     same, (TOLERANCE, 0.999))
