"""DINO's query positions in the finer encoding of the forks."""

import pytest
import torch

from focalnet_mm.weights.encodings import fit_encoding

NAME = 'decoder.ref_point_head.layers.0.weight'


@pytest.mark.parametrize('count', [8, 128])
def test_the_layer_computes_the_same(count):
    """mmdet's own encoding, of ``count`` and of twice as many numbers a coordinate."""
    coordinate_to_encoding = pytest.importorskip(
        'mmdet.models.layers.transformer.utils').coordinate_to_encoding
    boxes = torch.rand(2, 3, 4, dtype=torch.float64)
    coarse, fine = (coordinate_to_encoding(boxes, num_feats) for num_feats in (count, 2 * count))
    weight = torch.randn(16, 4 * count, dtype=torch.float64)
    fitted = fit_encoding(NAME, weight, torch.Size([16, 8 * count]))
    torch.testing.assert_close(fine @ fitted.T, coarse @ weight.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(('name', 'shape'), [
    ('decoder.ref_point_head.layers.1.weight', (16, 64)), (NAME, (16, 16)), (NAME, (8, 64)), (NAME, (16, 48))])
def test_nothing_else_is_fitted(name, shape):
    with pytest.raises(ValueError, match=r'ref_point_head.* does not fit'):
        fit_encoding(name, torch.zeros(16, 32), torch.Size(shape))
