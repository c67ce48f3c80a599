"""Which picture an annotation means."""

import pytest

from focalnet_mm.data.own.readers.folder import Folder
from tests.helpers.folders import save


@pytest.mark.parametrize(('near', 'expected'), [('task1', 'task1'), ('task2/annotations', 'task2'), ('.', None)])
def test_two_tasks_that_number_alike(near, expected, tmp_path):
    for task in ('task1', 'task2'):
        save(tmp_path / task / 'images/0.jpg')
    folder = Folder(tmp_path)
    match = folder.find('0.jpg', tmp_path / near)
    path = folder.find_stem('0', tmp_path / near)
    wanted = expected and tmp_path / expected / 'images/0.jpg'
    assert (match and match.path, path) == (wanted, wanted)


def test_folders_called_alike_come_first(tmp_path):
    for place in ('a/cat', 'b/dog'):
        save(tmp_path / place / '0.jpg')
    assert Folder(tmp_path).find('0.jpg', tmp_path / 'a/dog').path == tmp_path / 'b/dog/0.jpg'
