"""Folders that are made anew."""

import os
import tempfile
from pathlib import Path

import pytest

from focalnet_mm.data.made import changed_files, files_below, read_marker, replace_made, write_marker


def fill(folder, content):
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_marker(folder / 'marker.json', dict(version=1, content=content), content)
    return folder


def edited(folder):
    return list(changed_files(folder, read_marker(folder / 'marker.json'), 'content', Path.read_text))


@pytest.mark.parametrize('after', range(12))
def test_nothing_is_lost_where_it_is_interrupted(after, tmp_path, monkeypatch):
    """Whatever step Ctrl-C comes at, each file of both times is there, old or new; a second run ends the first."""
    kept, new = ['split.csv', 'maps/a.png'], {'split.csv': 'new', 'maps/a.png': 'new', 'maps/b/c.png': 'new'}
    folder = fill(tmp_path / 'project', {'split.csv': 'old', 'maps/a.png': 'old', 'gone/d.png': 'old'})
    (folder / 'mine.txt').write_text('mine')
    steps = 0

    def stops(does):
        def step(*args, **settings):
            nonlocal steps
            steps += 1
            if steps > after:
                raise KeyboardInterrupt
            return does(*args, **settings)
        return step

    with monkeypatch.context() as patched:
        for holder, name in ((os, 'replace'), (Path, 'unlink'), (Path, 'replace')):
            patched.setattr(holder, name, stops(getattr(holder, name)))
        try:
            replace_made(folder, fill(tmp_path / 'first', new), 'marker.json')
        except KeyboardInterrupt:
            assert all((folder / name).read_text() in ('old', 'new') for name in kept)
            # What is edited in between is seen, and neither what was made before nor what was made anew is.
            assert edited(folder) == []
            (folder / kept[0]).write_text('mine')
            assert edited(folder) == kept[:1]
            (folder / kept[0]).write_text('old')
        else:
            assert after > 5
    replace_made(folder, fill(tmp_path / 'second', new), 'marker.json')
    assert files_below(folder) == {*new, 'mine.txt', 'marker.json'}
    assert all((folder / name).read_text() == text for name, text in new.items())
    assert not (folder / 'gone').exists()


@pytest.mark.parametrize(('before', 'after'), [('a', 'a/b'), ('a/b', 'a/c'), ('a/b/c', 'a/d')])
def test_files_and_folders_of_one_name(before, after, tmp_path):
    folder = fill(tmp_path / 'project', {before: 'old'})
    replace_made(folder, fill(tmp_path / 'new', {after: 'new'}), 'marker.json')
    assert files_below(folder) == {after, 'marker.json'}


def test_between_file_systems(tmp_path):
    memory = Path('/dev/shm')
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip('needs two file systems')
    folder = fill(tmp_path / 'project', {'a': 'old'})
    with tempfile.TemporaryDirectory(dir=memory) as other:
        replace_made(folder, fill(Path(other, 'new'), {'a': 'new', 'b/c': 'new'}), 'marker.json')
    assert files_below(folder) == {'a', 'b/c', 'marker.json'}
    assert (folder / 'a').read_text() == 'new'
