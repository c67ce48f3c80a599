"""A spread of the damaged annotations: `python -m tests.helpers.wrong_annotations` looks at all of them."""

import pytest

from tests.helpers import wrong_annotations

SPREAD = (('coco', 'unknown category'), ('coco', 'polygon of two points'), ('coco', 'all crowd'), ('coco', 'no box'),
          ('coco', 'cut'), ('coco', 'two categories of a name'), ('panoptic', 'a segment that the map lacks'),
          ('voc', 'cut'), ('voc', 'unknown class'),
          ('maps', 'another size'), ('maps', 'cut'),
          ('list', 'negative label'))


LIBRARIES = dict(maps='mmseg', list='mmpretrain')


@pytest.mark.parametrize(('form', 'damage'), SPREAD)
def test_is_told(form, damage, tmp_path):
    pytest.importorskip(LIBRARIES.get(form, 'mmdet'))
    told = wrong_annotations.told_of(form, damage, tmp_path)
    assert wrong_annotations.telling(form, damage, told), told


@pytest.mark.parametrize('form', ['coco', 'panoptic', 'voc', 'maps', 'list'])
def test_whole_ones_are_not_accused(form, tmp_path, monkeypatch):
    """Of none of what is told of a damage."""
    pytest.importorskip(LIBRARIES.get(form, 'mmdet'))
    monkeypatch.setitem(wrong_annotations.DAMAGES, (form, 'none'), (lambda root: None, ''))
    told = wrong_annotations.told_of(form, 'none', tmp_path)
    assert not [damage for kind, damage in SPREAD if kind == form and wrong_annotations.telling(kind, damage, told)]
