"""Each odd folder ends in a data set or in one sentence."""

import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from focalnet_mm.data.own import FORMATS, find_formats, find_problems, read_data, split_data, write_annotations
from focalnet_mm.data.shapes import THING_CLASSES
from tests.helpers import formats
from tests.helpers.folders import quiet


def save(path, size=(8, 8), mode='RGB'):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


# What readers say that know what is lacking.
OWN_WORDS = dict(labelmaps='holds no pictures with label maps', yolo=r'holds no data\.yaml with names',
                 folders='does not hold a folder of pictures for each class', csv='No CSV file in .* has headings')


class TestNoFormat:

    @pytest.mark.parametrize(('files', 'message'), [
        ([], r'holds no picture, and no folder below it does'), (['a.txt', 'b/c.pdf'], 'holds no picture'),
        (['a.jpg', 'b.jpg'], r'holds 2 pictures, but no annotations in a form that is read \(coco: a JSON with'),
        (['images/a.jpg', 'train/b.jpg'], 'holds 2 pictures, but no annotations')])
    def test_none(self, files, message, tmp_path):
        for name in files:
            save(tmp_path / name) if name.endswith('.jpg') else (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        with pytest.raises(ValueError, match=message) as error:
            read_data(tmp_path, tell=quiet)
        assert len(str(error.value).splitlines()) == 1

    def test_no_folder(self, tmp_path):
        with pytest.raises(NotADirectoryError, match='none is no folder: name the folder that holds the pictures'):
            read_data(tmp_path / 'none')

    def test_two(self, sources, tmp_path):
        formats.write_coco(sources, tmp_path)
        formats.write_voc(sources, tmp_path)
        assert find_formats(tmp_path) == ['coco', 'voc']
        with pytest.raises(ValueError, match=r'in several formats: name one of them with --format coco\|voc, or'):
            read_data(tmp_path, tell=quiet)
        assert read_data(tmp_path, 'coco', quiet).task == 'instances'

    @pytest.mark.parametrize('format', FORMATS)
    def test_another_than_named(self, format, tmp_path):
        save(tmp_path / 'a.jpg')
        with pytest.raises(ValueError, match=f'not in the format {format}|{OWN_WORDS.get(format)}'):
            read_data(tmp_path, format, quiet)
        with pytest.raises(ValueError, match="There is no format 'cocoa': choose one of coco, voc"):
            read_data(tmp_path, 'cocoa', quiet)

    def test_panoptic_pngs_are_no_label_maps(self, shapes):
        assert find_formats(shapes / 'coco') == ['coco']
        assert find_formats(shapes) == ['coco', 'labelmaps']


class TestWherePicturesLie:

    @pytest.mark.parametrize(('written', 'kept'), [
        ('C:\\Users\\me\\data\\images\\{}', True), ('/home/you/set/images/{}', True),
        ('..\\images\\{}', False), ('file:///mnt/images/{}', True)])
    def test_paths_of_other_machines(self, written, kept, sources, tmp_path, told):
        """Found by the name, and said; backslashes alone are no reason to say anything."""
        formats.write_coco(sources, tmp_path)
        content = json.loads((tmp_path / 'train.json').read_text())
        for image in content['images']:
            image['file_name'] = written.format(os.path.basename(image['file_name']))
        (tmp_path / 'train.json').write_text(json.dumps(content))
        data = read_data(tmp_path, tell=told.append)
        assert all(picture.path.is_file() for picture in data.pictures)
        assert {problem.kind for problem in data.problems} == ({'moved'} if kept else set())
        assert any('is not there: images/' in line and '(6 such)' in line for line in told) is kept

    def test_which_of_two(self, sources, tmp_path):
        """Pictures of one name in two folders: the path decides, else the split, else neither."""
        formats.write_coco(sources[:1], tmp_path)
        content = json.loads((tmp_path / 'train.json').read_text())
        name = sources[0].path.name
        for folder in ('train', 'val'):
            save(tmp_path / folder / name, (96, 96))
        (tmp_path / 'images' / name).unlink()
        for written, expected in ((f'/a/val/{name}', 'val'), (name, 'train')):
            content['images'][0]['file_name'] = written
            (tmp_path / 'train.json').write_text(json.dumps(content))
            assert read_data(tmp_path, tell=quiet).pictures[0].path == tmp_path / expected / name
        (tmp_path / 'all.json').write_text(json.dumps(content))
        (tmp_path / 'train.json').unlink()
        data = read_data(tmp_path, tell=quiet)
        assert [problem.kind for problem in data.problems] == ['missing']
        assert data.pictures[0].height == 0

    def test_one_name_in_each_split(self, tmp_path):
        """Files of one folder about pictures of equal names are not about the same pictures."""
        for number, split in enumerate(formats.SPLITS):
            save(tmp_path / 'images' / split / '1.png', (16 + number, 16))
            (tmp_path / f'{split}.json').write_text(json.dumps(dict(
                images=[dict(id=1, file_name='1.png')], categories=[dict(id=1, name='a')],
                annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5])])))
        data = read_data(tmp_path, tell=quiet)
        assert sorted((picture.split, picture.width) for picture in data.pictures) == [('train', 16), ('val', 17)]

    def test_a_file_of_all_and_one_of_each_split(self, sources, tmp_path, told):
        formats.write_coco(sources, tmp_path)
        both = [json.loads((tmp_path / f'{split}.json').read_text()) for split in formats.SPLITS]
        both[0]['images'] += both[1]['images']
        (tmp_path / 'all.json').write_text(json.dumps(both[0]))
        data = read_data(tmp_path, tell=told.append)
        assert any('all.json is passed by' in line for line in told)
        assert sum(len(picture.annotations) for picture in data.pictures) == sum(
            len(source.objects) for source in sources)

    def test_a_picture_in_two_splits(self, sources, tmp_path, told):
        formats.write_coco(sources[:1], tmp_path)
        (tmp_path / 'val.json').write_text((tmp_path / 'train.json').read_text())
        data = read_data(tmp_path, tell=told.append)
        assert [(picture.split, len(data.pictures)) for picture in data.pictures] == [('train', 1)]
        assert {problem.kind for problem in data.problems} == {'two_splits'}

    def test_names(self, sources, tmp_path, told):
        """Blanks, commas, letters of any script, capitals in endings, nested folders, links, bytes of no encoding."""
        names = ['a b.JPG', 'a,b;c.jpeg', 'größe/日本 ж.Jpg', "o'neil & <co>.jpg", os.fsdecode(b'caf\xe9.jpg')]
        formats.write_voc(sources[:5], tmp_path)
        for source, name in zip(sources, names):
            old = tmp_path / 'JPEGImages' / source.path.name
            (tmp_path / 'JPEGImages' / name).parent.mkdir(exist_ok=True)
            old.rename(tmp_path / 'JPEGImages' / name)
            xml = tmp_path / 'Annotations' / f'{source.path.stem}.xml'
            xml.rename(xml.with_stem(os.path.splitext(os.path.basename(name))[0]))
        # The annotations name pictures that are gone; their own names tell which are meant.
        (tmp_path / 'link').symlink_to(tmp_path / 'JPEGImages')
        (tmp_path / 'JPEGImages' / 'loop').symlink_to(tmp_path)
        data = read_data(tmp_path, tell=told.append)
        assert sorted(picture.path.name for picture in data.pictures) == sorted(map(os.path.basename, names))
        assert all(picture.height == 96 and picture.annotations for picture in data.pictures)
        split_data(data)
        written = write_annotations(data, tmp_path.parent / f'{tmp_path.name}-out')
        for entry in written.values():
            for image in json.loads(entry.ann_file.read_text())['images']:
                assert (entry.data_root / image['file_name']).is_file()

    def test_read_only(self, sources, tmp_path):
        folder = tmp_path / 'data'
        folder.mkdir()
        formats.write_yolo(sources, folder)
        everything = [folder, *folder.rglob('*')]
        before = {path: path.stat().st_mtime_ns for path in everything}
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            data = read_data(folder, tell=quiet)
            find_problems(data)
            write_annotations(data, tmp_path / 'out')
        finally:
            for path in everything:
                path.chmod(0o755 if path.is_dir() else 0o644)
        assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob('*')]} == before


class TestClasses:

    @pytest.mark.parametrize('names', [['ship'], ['a b', 'c,d', 'e:f', 'größe', '船', '"quoted"'],
                                       [f'class {number}' for number in range(2000)]])
    def test_any_names_and_numbers(self, names, tmp_path):
        for number, split in enumerate(('train', 'val')):
            save(tmp_path / 'images' / split / f'{number}.png', (16 + number, 16))
            (tmp_path / 'labels' / split).mkdir(parents=True)
            (tmp_path / 'labels' / split / f'{number}.txt').write_text(''.join(
                f'{label} 0.5 0.5 0.5 0.5\n' for label in range(len(names))))
        (tmp_path / 'data.yaml').write_text(json.dumps(dict(names=names, train='images/train', val='images/val')))
        data = read_data(tmp_path, tell=quiet)
        started = time.perf_counter()
        find_problems(data)
        written = write_annotations(data, tmp_path.parent / f'{tmp_path.name}-out')
        assert time.perf_counter() - started < 3
        content = json.loads(written['train'].ann_file.read_text())
        assert [category['name'] for category in content['categories']] == names
        assert len(content['annotations']) == len(names)

    def test_equal_names(self, sources, tmp_path):
        formats.write_yolo(sources, tmp_path)
        yaml = (tmp_path / 'data.yaml').read_text().replace('square', 'circle')
        (tmp_path / 'data.yaml').write_text(yaml)
        data = read_data(tmp_path, tell=quiet)
        assert data.classes == ['circle', 'circle', *THING_CLASSES[2:]]
        find_problems(data)
        assert [problem.text for problem in data.problems if problem.kind == 'equal_names'] == [
            "the classes 0 and 1 are both called 'circle'"]

    def test_equal_names_in_two_files(self, sources, tmp_path):
        """They stay the same classes from file to file."""
        formats.write_coco(sources, tmp_path)
        before = read_data(tmp_path, tell=quiet)
        for split in formats.SPLITS:
            file = tmp_path / f'{split}.json'
            content = json.loads(file.read_text())
            for category in content['categories'][:3]:
                category['name'] = 'ship'
            file.write_text(json.dumps(content))
        data = read_data(tmp_path, tell=quiet)
        assert data.classes == ['ship'] * 3 + before.classes[3:]
        assert [[item.label for item in picture.annotations] for picture in data.pictures] == [
            [item.label for item in picture.annotations] for picture in before.pictures]

    def test_names_of_yolo_with_a_gap(self, sources, tmp_path):
        formats.write_yolo(sources, tmp_path)
        (tmp_path / 'data.yaml').write_text('names: {1: a, 2: b}\ntrain: images/train\n')
        with pytest.raises(ValueError, match=r'data\.yaml must number the classes 0, 1, …; it has 1, 2\.'):
            read_data(tmp_path, tell=quiet)

    def test_no_object_in_a_split(self, sources, tmp_path):
        formats.write_coco([source if source.split == 'train' else source._replace(objects=[]) for source in sources],
                           tmp_path)
        data = read_data(tmp_path, tell=quiet)
        find_problems(data)
        assert {problem.kind for problem in data.problems} == {'no_objects', 'one_split'}
        written = write_annotations(data, tmp_path.parent / f'{tmp_path.name}-out')
        assert (written['val'].pictures, json.loads(written['val'].ann_file.read_text())['annotations']) == (4, [])

    def test_nothing_annotated(self, sources, tmp_path):
        formats.write_voc([source._replace(objects=[]) for source in sources], tmp_path)
        with pytest.raises(ValueError, match=r'holds no class: nothing in its annotations \(voc\) has a name'):
            read_data(tmp_path, tell=quiet)


class TestSizes:

    def test_one_pixel_and_100_megapixels(self, tmp_path):
        """The size is read from the header; the look decodes JPEG at an eighth of its size."""
        save(tmp_path / 'a' / 'dot.png', (1, 1))
        save(tmp_path / 'b' / 'huge.jpg', (12500, 8000))
        started = time.perf_counter()
        data = read_data(tmp_path, tell=quiet)
        assert time.perf_counter() - started < 1
        assert {(picture.height, picture.width) for picture in data.pictures} == {(1, 1), (8000, 12500)}
        find_problems(data)
        assert not {problem.kind for problem in data.problems} & {'unreadable', 'damaged'}
        assert Image.MAX_IMAGE_PIXELS is not None

    def test_depths_and_modes(self, tmp_path):
        for mode in ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16', 'I', 'F', 'CMYK'):
            name = f'{mode.replace(";", "")}.{"tif" if mode in ("I", "F", "CMYK") else "png"}'
            save(tmp_path / 'a' / name, (20, 10), mode)
        data = read_data(tmp_path, tell=quiet)
        find_problems(data)
        assert not {problem.kind for problem in data.problems} & {'unreadable', 'damaged'}


class TestDamagedFiles:

    @pytest.mark.parametrize('name', ['labelme', 'voc'])
    def test_one_of_many(self, name, sources, tmp_path, told):
        """A damaged file costs its own picture, and is said."""
        write = dict(labelme=formats.write_labelme, voc=formats.write_voc)[name]
        write(sources, tmp_path)
        path = sorted(tmp_path.rglob('*.json' if name == 'labelme' else '*.xml'))[3]
        path.write_bytes(path.read_bytes()[:-20])
        data = read_data(tmp_path, tell=told.append)
        assert len(data.pictures) == 9
        assert any(path.name in line and 'left out' in line for line in told)

    def test_forged_xml(self, sources, tmp_path):
        """Entities that would fill the memory."""
        formats.write_cvat(sources, tmp_path)
        lines = ''.join(f'<!ENTITY e{number + 1} "{f"&e{number};" * 10}">' for number in range(12))
        (tmp_path / 'annotations.xml').write_text(
            f'<!DOCTYPE a [<!ENTITY e0 "aaaaaaaaaa">{lines}]><annotations><meta/>&e12;</annotations>')
        with pytest.raises(ValueError, match=r'no annotations in a form that is read|is no XML that can be read'):
            read_data(tmp_path, tell=quiet)

    @pytest.mark.parametrize('lines', ['0 0.5 0.5', '0 a b c d', '1e9 0.5 0.5 0.5 0.5', '0.5 0.5 0.5 0.5 0.5',
                                       '-1 0.5 0.5 0.5 0.5', '0 0.1 0.1 0.2 0.2 0.3 0.3 0.4'])
    def test_lines_of_yolo(self, lines, sources, tmp_path):
        formats.write_yolo(sources, tmp_path)
        path = next((tmp_path / 'labels' / 'train').iterdir())
        path.write_text(f'{path.read_text()}{lines}\n')
        data = read_data(tmp_path, tell=quiet)
        problem, = data.problems
        assert problem.kind in ('malformed', 'unknown_class')
        assert problem.done == 'left out'
        assert f'line {len(path.read_text().splitlines())} of labels/train/{path.name}' in problem.text

    def test_text_that_is_not_utf8(self, sources, tmp_path):
        formats.write_csv(sources, tmp_path)
        (tmp_path / 'train.csv').write_bytes('path,label\nimages/a.jpg,größe\n'.encode('latin-1'))
        (tmp_path / 'val.csv').unlink()
        with pytest.raises(ValueError, match=r'train\.csv is not in UTF-8 \(byte \d+\): save it in UTF-8'):
            read_data(tmp_path, 'csv', quiet)

    def test_video_of_cvat(self, sources, tmp_path):
        formats.write_cvat(sources, tmp_path)
        (tmp_path / 'annotations.xml').write_text('<annotations><track id="0" label="a"/></annotations>')
        with pytest.raises(ValueError, match=r'"CVAT for video": export the task as "CVAT for images 1\.1"'):
            read_data(tmp_path, tell=quiet)


def test_needs_are_named(monkeypatch):
    """Without the extra, the first import says what to install."""
    import importlib
    import importlib.util

    from focalnet_mm.data.own import needed
    from focalnet_mm.installed import MissingExtraError
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'imagehash' else real(name))
    with pytest.raises(MissingExtraError, match=r"imagehash is not installed: .* run pip install 'focalnet-mm\[own\]'"):
        importlib.reload(needed)


def test_three_pictures(sources, tmp_path):
    formats.write_folders(sources[:3], tmp_path, with_splits=False)
    data = read_data(tmp_path, tell=quiet)
    split_data(data)
    assert sorted(picture.split for picture in data.pictures) == ['train', 'train', 'val']
    find_problems(data)
    assert np.isin([problem.kind for problem in data.problems], ['one_split']).all()
