"""Folders of classes, below splits of any name and beside others."""

import pytest

from focalnet_mm.data.own import read_data
from tests.helpers.folders import quiet, save


def read(root, *folders, tell=quiet):
    """Classes, splits and how many pictures are read of two in each folder."""
    for seed, folder in enumerate(folders):
        for number in range(2):
            save(root / folder / f'{number}.jpg', 2 * seed + number)
    data = read_data(root, tell=tell)
    return data.classes, {picture.split for picture in data.pictures}, len(data.pictures)


def below(outer, inner):
    return [f'{first}/{second}' for first in outer for second in inner]


@pytest.mark.parametrize(('outer', 'splits'), [
    (('train', 'validate'), {'train', 'val'}),
    (('Training', 'Testing', 'eval'), {'train', 'test', 'val'}),
    (('train', 'holdout', 'evaluation'), {'train', 'test', 'val'}),
    (('seg_train/seg_train', 'seg_test/seg_test'), {'train', 'test'}),
    (('train/images', 'val/images'), {'train', 'val'})])
def test_words_for_splits(outer, splits, tmp_path):
    assert read(tmp_path, *below(outer, ('cat', 'dog'))) == (['cat', 'dog'], splits, 4 * len(outer))


def test_the_vehicle_beside_the_split(tmp_path):
    folders = [*below(('train', 'val'), ('bus', 'car', 'train')), 'test/train']
    assert read(tmp_path, *folders) == (['bus', 'car', 'train'], {'train', 'val', 'test'}, 14)


@pytest.mark.parametrize('outer', [('.',), ('images',), ('train', 'val')])
def test_a_class_called_photos(outer, tmp_path):
    classes, _, count = read(tmp_path, *below(outer, ('drawings', 'paintings', 'photos')))
    assert (classes, count) == (['drawings', 'paintings', 'photos'], 6 * len(outer))


def test_folders_that_hold_the_same_ones(tmp_path):
    """Those of PACS are sources, and others may be classes: the outer ones are taken, and that is said."""
    told = []
    classes, _, _ = read(tmp_path, *below(('photo', 'sketch', 'cartoon'), ('dog', 'horse')), tell=told.append)
    assert classes == ['cartoon', 'photo', 'sketch']
    assert 'cartoon, photo, sketch are taken for the classes, but each of them holds dog, horse' in ' '.join(told)


@pytest.mark.parametrize('inner', [('train', 'val'), ('images',), ('a',)])
def test_folders_below_a_class(inner, tmp_path):
    classes, _, _ = read(tmp_path, *below(('cat', 'dog'), inner))
    assert classes == ['cat', 'dog']
