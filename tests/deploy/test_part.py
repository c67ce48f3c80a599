"""What counts as the same: objects that a model itself loses to rounding are no fault of a file."""

import pytest
import torch
from torch import nn

from focalnet_mm.deploy.part import Part, compare
from focalnet_mm.deploy.whole.matching import agreement

NAMES = 'boxes', 'scores', 'labels'
COUNT = 100


def objects(moved):
    """100 boxes in a row, of which those that ``moved`` (100,) names are elsewhere."""
    left = 20.0 * torch.arange(COUNT) + 5000 * moved
    boxes = torch.stack([left, torch.zeros(COUNT), left + 10, torch.full((COUNT,), 10.0)], 1)
    return boxes[None], torch.linspace(0.9, 0.5, COUNT)[None], torch.zeros(1, COUNT, dtype=torch.long)


def unstable(count):
    """A model of whose objects the last ones lie where the last bits of the image say."""
    def predict(images):
        odd = (images.flatten()[:COUNT].view(torch.int32) % 2).bool()
        return objects(odd & (torch.arange(COUNT) >= COUNT - count))
    return Part(nn.Identity(), NAMES, '', predict, {}, agree=lambda *both: agreement(NAMES, *both), chooses=True)


@pytest.mark.parametrize(('own', 'by_the_file', 'holds'), [
    (0, 0, True), (0, 1, True), (0, 6, False), (12, 0, True), (12, 6, True), (12, 30, False), (60, 30, False)])
def test_objects_that_hang_on_rounding(own, by_the_file, holds):
    part = unstable(own)
    images = torch.ones(1, 1, 10, 10)
    found = objects(torch.arange(COUNT) >= COUNT - by_the_file)
    agreed = compare(part, images, {}, found)
    assert agreed.holds == holds, agreed.words
    assert f'{COUNT - by_the_file} of {COUNT} objects' in agreed.words
    assert ('PyTorch itself' in agreed.words) == (by_the_file > 1 and own < 60)


@pytest.mark.parametrize(('turn', 'own', 'by_the_file', 'holds'), [
    (2, 5, 5, True), (16, 5, 5, True), (17, 5, 5, False), (16, 5, 30, False), (9, 60, 60, True), (9, 60, 30, False),
    (2, 8, 12, True)])
def test_objects_that_seldom_hang_on_rounding(turn, own, by_the_file, holds):
    """A model that chooses otherwise at one of the changed images alone, as where two scores are as good as equal."""
    calls = []

    def predict(images):
        calls.append(images)
        return objects((torch.arange(COUNT) >= COUNT - own) & (len(calls) == 1 + turn))

    part = unstable(0)._replace(predict=predict)
    found = objects(torch.arange(COUNT) >= COUNT - by_the_file)
    agreed = compare(part, torch.ones(1, 1, 10, 10), {}, found)
    assert agreed.holds == holds, agreed.words
    # No more is asked than it takes; what the model itself comes to counts after three.
    enough = turn if own == by_the_file else max(turn, 3)
    assert len(calls) == 1 + (enough if holds else 16)


def test_values_are_compared_as_they_are():
    part = Part(nn.Identity(), ('x',), '', lambda images: [images * 2], {})
    images = torch.ones(1, 1, 4, 4)
    assert compare(part, images, {}, [images * (2 + 1e-5)]).holds
    assert not compare(part, images, {}, [images * 2.001]).holds
    assert not compare(part, images, {}, [torch.ones(1, 1, 4, 5)]).holds
