"""Files that are written whole or not at all."""

import errno
import fcntl
import os

import pytest

from focalnet_mm.run.drafts import remove_drafts, whole_file, write_whole


class KilledError(BaseException):
    pass


@pytest.mark.parametrize('step', ['open', 'write', 'fsync', 'replace'])
@pytest.mark.parametrize('error', [OSError, KilledError])
def test_the_old_one_stays(step, error, tmp_path, monkeypatch):
    """Whatever fails before the new one is whole."""
    path = tmp_path / 'x.pth'
    write_whole(path, 'old')

    def fail(*_):
        raise error

    if step in ('fsync', 'replace'):
        monkeypatch.setattr(os, step, fail)
    def write():
        with whole_file(path) as draft:
            if step != 'open':
                draft.write_text('new, and longer')
            if step in ('open', 'write'):
                fail()

    with pytest.raises(error):
        write()
    assert [each.name for each in tmp_path.iterdir()] == ['x.pth']
    assert path.read_text() == 'old'


def test_it_is_on_the_disk_before_it_is_there(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda *args: (calls.append('fsync'), fsync(*args)))
    monkeypatch.setattr(os, 'replace', lambda *args: (calls.append('replace'), replace(*args)))
    write_whole(tmp_path / 'x', 'new')
    assert (tmp_path / 'x').read_text() == 'new'
    # The file, its place, and the folder that names it.
    assert calls == ['fsync', 'replace', 'fsync']


def test_on_windows(tmp_path, monkeypatch):
    """Which flushes only what is open for writing, as the page of its `_commit` says, and opens no folder."""
    fsync, opened = os.fsync, os.open

    def commit(number):
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, 'Bad file descriptor')
        fsync(number)

    def open_file(path, *args, **kwargs):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, 'Permission denied')
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, 'fsync', commit)
    monkeypatch.setattr(os, 'open', open_file)
    write_whole(tmp_path / 'x', 'new')
    assert (tmp_path / 'x').read_text() == 'new'


def test_what_was_left_is_removed(tmp_path):
    """And nothing else that looks like it."""
    with whole_file(tmp_path / 'x.pth') as draft:
        draft.touch()
    draft.touch()
    for name in ('.x.pth.draft', 'x.pth', '.hidden'):
        (tmp_path / name).touch()
    remove_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.hidden', '.x.pth.draft', 'x.pth']
