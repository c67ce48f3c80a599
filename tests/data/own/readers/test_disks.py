"""Folders as archives, systems and competitions leave them."""

import errno
import json
import os
import unicodedata

import pytest

from focalnet_mm.data.own import read_data
from tests.helpers.folders import box_file, found, quiet, save


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_accents_of_either_form(form, tmp_path):
    """Archives of macOS have letter and accent apart; annotations need not."""
    other = dict(NFC='NFD', NFD='NFC')[form]
    name = unicodedata.normalize(form, 'zürich')
    for seed, folder in enumerate(('p', 'q')):
        save(tmp_path / folder / 'images' / f'{name}.jpg', seed)
        box_file(tmp_path / folder / 'labels' / f'{unicodedata.normalize(other, name)}.txt')
        (tmp_path / folder / 'a.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name=f'images/{unicodedata.normalize(other, name)}.jpg')],
            categories=[dict(id=1, name='x')], annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 9, 9])])))
    (tmp_path / 'data.yaml').write_text('names: [x]\n')
    for format in ('yolo', 'coco'):
        data = read_data(tmp_path, format, quiet)
        assert set(found(data).values()) == {1}
        assert (len(data.pictures), data.problems) == (2, [])


class TestFolders:

    @pytest.mark.parametrize('around', ['', 'pets/', 'pets/PetImages/', 'images/pets/'])
    @pytest.mark.parametrize('splits', [('',), ('train/', 'test/')])
    def test_folders_around_all(self, around, splits, tmp_path):
        for seed, name in enumerate(('cat/a', 'cat/b', 'dog/c')):
            for split in splits:
                save(tmp_path / f'{around}{split}{name}{len(split)}.jpg', seed + 9 * len(split))
        data = read_data(tmp_path, tell=quiet)
        assert data.classes == ['cat', 'dog']
        assert {picture.split for picture in data.pictures} == {split.strip('/') or None for split in splits}

    def test_pictures_beside_them(self, tmp_path):
        """Kaggle's test pictures, which nobody has sorted."""
        for seed, name in enumerate(('train/cat/a', 'train/dog/b', 'test/1')):
            save(tmp_path / f'{name}.jpg', seed)
        with pytest.raises(ValueError, match=r'\); test/1\.jpg lies in no folder of a class, as others do: name the'):
            read_data(tmp_path, tell=quiet)
        assert read_data(tmp_path / 'train', tell=quiet).classes == ['cat', 'dog']

    @pytest.mark.parametrize('folder', ['cat', 'train/cat'])
    def test_one_class(self, folder, tmp_path):
        for seed in range(2):
            save(tmp_path / folder / f'{seed}.jpg', seed)
        assert read_data(tmp_path, tell=quiet).classes == ['cat']


def test_what_is_to_be_handed_in_is_no_annotation(tmp_path, told):
    """Kaggle's sample_submission.csv gives each test picture the same class."""
    for seed, name in enumerate(('train/a', 'test/b')):
        save(tmp_path / f'{name}.jpg', seed)
    (tmp_path / 'train.csv').write_text('image_id,label\na.jpg,3\n')
    (tmp_path / 'sample_submission.csv').write_text('image_id,label\nb.jpg,4\n')
    data = read_data(tmp_path, tell=told.append)
    assert (data.classes, [picture.path.name for picture in data.pictures]) == (['3'], ['a.jpg'])
    assert any('sample_submission.csv is passed by' in line for line in told)


def test_pictures_without_annotation_are_said(tmp_path, told):
    for seed, name in enumerate(('a.jpg', 'b.jpg', 'c.jpg')):
        save(tmp_path / name, seed)
    (tmp_path / 'd.HEIC').touch()
    (tmp_path / 'a.csv').write_text('filename,class,xmin,ymin,xmax,ymax\na.jpg,x,1,1,9,9\n')
    read_data(tmp_path, tell=told.append)
    assert any('2 pictures are named by no annotation, b.jpg among them' in line for line in told)
    assert any('d.HEIC among them: convert pictures in .heic to JPEG' in line for line in told)


@pytest.mark.parametrize(('folders', 'splits'), [
    (('train_images', 'test_images'), ('train', 'test')), (('img_train', 'img_val'), ('train', 'val')),
    (('obj_train_data', 'obj_valid_data'), ('train', 'val')), (('Trainset', 'TestSet'), ('train', 'test')),
    (('train-2019', 'validation2019'), ('train', 'val')), (('latest', 'training_2'), (None, None)),
    (('devices', 'valley'), (None, None))])
def test_folders_of_splits(folders, splits, tmp_path):
    """Names of public data sets' folders."""
    for seed, folder in enumerate(folders):
        save(tmp_path / folder / f'{seed}.jpg', seed)
        box_file(tmp_path / folder / f'{seed}.txt')
    (tmp_path / 'obj.names').write_text('x\n')
    assert tuple(picture.split for picture in sorted(
        read_data(tmp_path, tell=quiet).pictures, key=lambda picture: picture.path.stem)) == splits


class TestTwoSplits:
    """Of a picture in two splits the first counts, and each of its objects once."""

    @staticmethod
    def check(folder):
        data = read_data(folder, tell=quiet)
        assert found(data) == {('images/a.jpg', 'train'): 1, ('images/b.jpg', 'val'): 1}
        assert {(problem.kind, problem.picture.name) for problem in data.problems} == {('two_splits', 'a.jpg')}

    @pytest.fixture
    def folder(self, tmp_path):
        for seed, name in enumerate('ab'):
            save(tmp_path / f'images/{name}.jpg', seed)
        return tmp_path

    def test_coco(self, folder):
        for split, names in (('train', 'a'), ('val', 'ab')):
            (folder / f'{split}.json').write_text(json.dumps(dict(
                images=[dict(id=name, file_name=f'images/{name}.jpg') for name in names],
                categories=[dict(id=1, name='x')], annotations=[
                    dict(id=name, image_id=name, category_id=1, bbox=[1, 1, 9, 9]) for name in names])))
        self.check(folder)

    @pytest.mark.parametrize('name', ['all', 'zoo'])
    def test_coco_of_all_in_another_folder(self, name, folder):
        """A file without split leaves the splits to the others, whichever is read first."""
        for file, names in ((f'{name}/annotations', 'ab'), ('splits/train', 'a'), ('splits/val', 'b')):
            path = folder / f'{file}.json'
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(dict(
                images=[dict(id=name, file_name=f'{name}.jpg') for name in names], categories=[dict(id=1, name='x')],
                annotations=[dict(id=name, image_id=name, category_id=1, bbox=[1, 1, 9, 9]) for name in names])))
        data = read_data(folder, tell=quiet)
        assert found(data) == {('images/a.jpg', 'train'): 1, ('images/b.jpg', 'val'): 1}

    @pytest.mark.parametrize('lists', [True, False])
    def test_yolo(self, lists, folder):
        for name in 'ab':
            box_file(folder / f'labels/{name}.txt')
        (folder / 'train.txt').write_text('images/a.jpg\nimages/a.jpg\n')
        (folder / 'val.txt').write_text('images/a.jpg\nimages/b.jpg\n')
        names = dict(train='train.txt', val='val.txt') if lists else dict(train='images/a.jpg', val='images')
        (folder / 'data.yaml').write_text(json.dumps(dict(names=['x'], **names)))
        self.check(folder)

    def test_csv(self, folder):
        for split, names in (('train', 'a'), ('val', 'ab')):
            (folder / f'{split}.csv').write_text('path,label,x1,y1,x2,y2\n' + ''.join(
                f'images/{name}.jpg,x,1,1,9,9\n' for name in names))
        self.check(folder)


def test_links_that_lead_nowhere_are_said(tmp_path, told):
    for seed, name in enumerate(('cat/a', 'dog/b')):
        save(tmp_path / f'{name}.jpg', seed)
    (tmp_path / 'cat/gone.jpg').symlink_to(tmp_path / 'disk/gone.jpg')
    data = read_data(tmp_path, tell=told.append)
    gone = [picture.path for picture in data.pictures if not picture.path.exists()]
    assert [(problem.kind, problem.picture) for problem in data.problems] == [('unreadable', path) for path in gone]
    assert [path.name for path in gone] == ['gone.jpg']
    assert any('cat/gone.jpg cannot be read' in line for line in told)


@pytest.mark.parametrize('name', ['__MACOSX/cat/._a.jpg', 'cat/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg',
                                  '$RECYCLE.BIN/S-1-5/a.jpg', '.ipynb_checkpoints/a.jpg', 'cat/._a.jpg'])
def test_what_systems_leave_behind(name, tmp_path):
    """Names that macOS, Synology, Windows and Jupyter give."""
    for seed, own in enumerate(('cat/a.jpg', 'dog/b.jpg')):
        save(tmp_path / own, seed)
    save(tmp_path / name, 3)
    (tmp_path / 'cat/Thumbs.db').touch()
    data = read_data(tmp_path, tell=quiet)
    assert {path for path, _ in found(data)} == {'cat/a.jpg', 'dog/b.jpg'}
    assert data.classes == ['cat', 'dog']


def test_folders_that_cannot_be_listed(tmp_path, monkeypatch):
    """Not passed by, as os.walk would."""
    for seed, name in enumerate(('cat/a', 'dog/b')):
        save(tmp_path / f'{name}.jpg', seed)
    scan = os.scandir

    def refuses(path):
        if os.fspath(path).endswith('dog'):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    # For root no folder is closed.
    monkeypatch.setattr(os, 'scandir', refuses)
    with pytest.raises(PermissionError, match=r'/dog cannot be listed \(Permission denied\): make it readable'):
        read_data(tmp_path, tell=quiet)
