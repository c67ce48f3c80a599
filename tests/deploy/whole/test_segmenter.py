"""Segmenters in one file label what mmseg's label, in windows too."""

import pytest
import torch
from torch import nn

from focalnet_mm.deploy import exportable
from focalnet_mm.deploy.whole import whole
from focalnet_mm.deploy.whole.segmenter import _agreement, _Windows
from focalnet_mm.run.build import load_model
from tests.deploy.test_heads import SEGMENTERS, segmenter
from tests.helpers.detectors import Pyramid
from tests.helpers.queries import SIZES, blobs, carriers, run, written

# Smaller than a window of 64×64 in one direction, in both, and neither.
SMALL = [((1, 40, 97), (40, 97), (40, 97)), ((2, 32, 45), (32, 45), (50, 20))]


def thin(mode):
    model = segmenter(dict(SEGMENTERS['fcn'], in_channels=8), mode=mode)
    model.backbone, model.neck = Pyramid(), None
    for conv in model.backbone.convs:
        nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5)
    return model.eval()


@pytest.mark.parametrize('mode', ['whole', 'slide'])
@pytest.mark.parametrize(('images', 'inside', 'original'), SIZES + SMALL)
def test_labels(mode, images, inside, original):
    part, images = whole(thin(mode)), blobs(*images)
    expected = part.predict(images, **carriers(inside, original))
    found = run(part, images, **carriers(inside, original))
    assert part.agree(expected, found).holds
    assert torch.equal(found[0], found[1].argmax(1))
    assert found[0].shape == (len(images), *original)


@pytest.mark.parametrize('crop', [5, 8])
@pytest.mark.parametrize('stride', [2, 3, 5])
@pytest.mark.parametrize('length', [4, 5, 9, 11, 17])
def test_windows(length, crop, stride):
    """The mean over windows of what each says, counted pixel by pixel."""
    windows = _Windows(length, crop, stride, torch.empty(0))
    values = torch.rand(windows.pixels.shape, generator=torch.Generator().manual_seed(0))
    said = [[float(values[i, j]) for i, row in enumerate(windows.pixels.tolist()) for j, pixel in enumerate(row)
             if pixel == place] for place in range(length)]
    expected = torch.tensor([sum(one) / len(one) for one in said])
    assert torch.allclose(windows.mean(values.flatten(), 0), expected, atol=1e-6)
    assert windows.pixels.max() == length - 1


def test_labels_of_equal_logits():
    """Either of two labels with the same logit will do; a label with a lower one will not."""
    logits = torch.tensor([1.0, 1.0 - 1e-6, 0.5])[None, :, None, None].expand(1, 3, 8, 8)
    labels = logits.argmax(1)
    assert _agreement((labels, logits), (labels + 1, logits)).holds
    assert not _agreement((labels, logits), (labels + 2, logits)).holds
    assert not _agreement((labels, logits), (labels, logits + 1e-3)).holds
    one = logits[:, :1]
    assert not _agreement((labels, one), (labels + 1, one)).holds


@pytest.mark.slow
def test_file(tmp_path):
    part = whole(thin('slide'))
    exported = written(part, tmp_path / 'x.onnx')
    for images, inside, original in SIZES + SMALL:
        images, sizes = blobs(*images, seed=1), carriers(inside, original)
        assert part.agree(part.predict(images, **sizes), exported(images, **sizes)).holds


@pytest.mark.slow
def test_queries(thin_config):
    """mmseg's Mask2Former, whose head is mmdet's."""
    torch.manual_seed(0)
    model = load_model(thin_config('mmseg/mask2former_focalnet_l_160k.py')).eval()
    part = whole(model)
    for images, inside, original in SIZES[::2]:
        images, sizes = blobs(*images), carriers(inside, original)
        assert part.agree(part.predict(images, **sizes), run(part, images, **sizes)).holds
    assert exportable(model, 'model').names == part.names == ('label_map', 'logits')
    with pytest.raises(ValueError, match=r'Mask2FormerHead predicts by queries, .* pt2: export --part backbone'):
        exportable(model, 'model', 'pt2')
