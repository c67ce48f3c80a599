"""Splits: seeded, by group, by class, and never with one picture on both sides."""

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from focalnet_mm.data.own import (
    Annotation,
    OwnData,
    Picture,
    find_problems,
    read_data,
    read_split,
    split_data,
    write_split,
)
from focalnet_mm.data.own.looking.looks import equal_pictures, look_at
from tests.helpers import formats
from tests.helpers.folders import quiet


@pytest.fixture(scope='module')
def many(tmp_path_factory):
    """Paths of pictures that are all different."""
    folder = tmp_path_factory.mktemp('many')
    rng = np.random.default_rng(0)
    paths = []
    for number in range(100):
        paths.append(folder / f'{rng.integers(10**9)}{number}.png')
        noise = Image.fromarray(rng.integers(256, size=(6, 6), dtype=np.uint8))
        noise.resize((24, 24), Image.Resampling.NEAREST).save(paths[-1])
    return sorted(paths)


def data_of(paths, labels, task='classes', classes=3):
    pictures = [Picture(path, 24, 24, labels=tuple(label)) for path, label in zip(paths, labels)]
    return OwnData(paths[0].parent, 'folders', task, [f'class {label}' for label in range(classes)], pictures)


def splits(data):
    return {picture.path: picture.split for picture in data.pictures}


class TestStratified:

    def test_share_of_each_class(self, many):
        """Rare and frequent classes alike; each share is as near as whole pictures allow."""
        labels = [[0]] * 70 + [[1]] * 25 + [[2]] * 5
        data = data_of(many, labels)
        split_data(data, val=0.2, test=0.1, seed=3)
        for label, count in ((0, 70), (1, 25), (2, 5)):
            found = Counter(picture.split for picture in data.pictures if picture.labels == (label,))
            for split, share in (('train', 0.7), ('val', 0.2), ('test', 0.1)):
                assert abs(found[split] - share * count) <= 1, (label, split, found)

    def test_several_labels(self, many):
        rng = np.random.default_rng(1)
        labels = [np.flatnonzero(rng.random(4) < (0.9, 0.5, 0.2, 0.1)).tolist() for _ in many]
        data = data_of(many, labels, 'labels', 4)
        split_data(data, val=0.25)
        for label in range(4):
            found = Counter(picture.split for picture in data.pictures if label in picture.labels)
            assert found['val'] == pytest.approx(0.25 * sum(found.values()), abs=2)

    def test_seed(self, many):
        one, same, other = (data_of(many, [[number % 3] for number in range(100)]) for _ in range(3))
        same.pictures.reverse()
        for data, seed in ((one, 0), (same, 0), (other, 1)):
            split_data(data, seed=seed)
        assert splits(one) == splits(same) != splits(other)


class TestGroups:

    @pytest.mark.parametrize('pattern', ['patient{group:02}/{number}.png', 'video{group}_{number:04}.png',
                                         'clip-{group}x frame {number}.png', '{group}/images/{number:03}.png'])
    def test_one_side(self, pattern, many, tmp_path):
        paths = []
        for number, path in enumerate(many):
            paths.append(tmp_path / pattern.format(group=number // 5, number=number))
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            paths[-1].symlink_to(path)
        data = data_of(paths, [[number % 3] for number in range(100)])
        data.root = tmp_path
        split_data(data, val=0.2)
        for group in range(20):
            assert len({picture.split for picture in data.pictures[5 * group:5 * group + 5]}) == 1
        assert Counter(splits(data).values()) == dict(train=80, val=20)
        assert len({picture.group for picture in data.pictures}) == 20

    @pytest.mark.parametrize('pattern', ['{label}/{number}.png', '{label}_{number}.png', 'IMG_{number}.png',
                                         '{number:012}.png'])
    def test_classes_and_one_name_for_all_are_no_groups(self, pattern, many, tmp_path):
        paths = []
        for number, path in enumerate(many):
            paths.append(tmp_path / pattern.format(label='abc'[number % 3], number=number))
            paths[-1].parent.mkdir(exist_ok=True)
            paths[-1].symlink_to(path)
        data = data_of(paths, [[number % 3] for number in range(100)])
        data.root = tmp_path
        split_data(data, val=0.3)
        assert Counter((picture.split, picture.labels) for picture in data.pictures) == {
            (split, (label,)): count for label, train, val in ((0, 24, 10), (1, 23, 10), (2, 23, 10))
            for split, count in (('train', train), ('val', val))}
        assert not any(picture.group for picture in data.pictures)

    def test_too_few(self, many, tmp_path):
        paths = [tmp_path / f'video1_{number}.png' for number in range(4)]
        paths += [tmp_path / f'video2_{number}.png' for number in range(4)]
        for path, other in zip(paths, many):
            path.symlink_to(other)
        data = data_of(paths, [[0]] * 8, classes=1)
        split_data(data, val=0.25, test=0.25)
        assert set(splits(data).values()) == {'train', 'val', 'test'}
        assert [problem.text for problem in data.problems] == [
            "2 groups, of which 'video1' is one, are too few to give each to one side of the split"]


class TestEqualPictures:

    def test_one_side(self, sources, tmp_path):
        """Copies, and the same pictures smaller, darker and compressed again."""
        for number, source in enumerate(sources):
            image = Image.open(source.path)
            names = [f'{chr(97 + number)}{end}' for end in ('a.jpg', 'b.jpg', 'c.png', 'd.jpg')]
            (tmp_path / names[0]).write_bytes(source.path.read_bytes())
            image.save(tmp_path / names[1], quality=40)
            image.resize((48, 48)).save(tmp_path / names[2])
            image.convert('L').save(tmp_path / names[3], quality=90)
        paths = sorted(tmp_path.iterdir())
        data = data_of(paths, [[0]] * 40, classes=1)
        split_data(data, val=0.3)
        sides = {}
        for path, split in splits(data).items():
            sides.setdefault(path.name[0], set()).add(split)
        assert all(len(found) == 1 for found in sides.values())
        assert Counter(splits(data).values()) == dict(train=28, val=12)
        # The look at the problems agrees, until somebody moves a picture.
        find_problems(data)
        assert not {problem.kind for problem in data.problems} & {'leak', 'near_leak'}
        moved = next(picture for picture in data.pictures if picture.split == 'val')
        moved.split = 'train'
        find_problems(data)
        assert moved.path in {problem.picture for problem in data.problems if problem.kind in ('leak', 'near_leak')}

    def test_one_hash_is_not_one_picture(self, tmp_path):
        """Waves of the same signs, which are what the hash sees, and of other heights."""
        rng = np.random.default_rng(0)
        signs = rng.permutation([-1.0, 1.0] * 32).reshape(8, 8)
        for name in 'ab':
            waves = np.zeros((32, 32))
            waves[:8, :8] = signs * (20 + rng.exponential(60, (8, 8)))
            waves[0, 0] = 128 * 32
            Image.fromarray(np.clip(cv2.idct(waves), 0, 255).astype(np.uint8)).save(tmp_path / f'{name}.png')
        one, other = looks = look_at([tmp_path / 'a.png', tmp_path / 'b.png']).values()
        assert (one.hash ^ other.hash).bit_count() <= 6
        assert list(equal_pictures(dict(zip('ab', looks)))) == []

    def test_where_nearly_all_look_alike(self, many, tmp_path):
        """Sections of one thing, say: they are split all the same, and it is said."""
        base = np.asarray(Image.open(many[0]).convert('L').resize((64, 64)), np.int16)
        rng = np.random.default_rng(0)
        paths = [tmp_path / f'{chr(97 + number)}.png' for number in range(12)]
        for path in paths:
            noisy = base + rng.integers(-3, 4, base.shape)
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path)
        data = data_of(paths, [[0]] * 12, classes=1)
        split_data(data, val=0.25)
        assert Counter(splits(data).values()) == dict(train=9, val=3)
        assert 'look so alike' in data.problems[0].text


class TestWhatIsThere:

    def test_whole_splits_stay(self, sources, tmp_path):
        (tmp_path / 'data').mkdir()
        formats.write_coco(sources, tmp_path / 'data')
        data = read_data(tmp_path / 'data', tell=quiet)
        before = splits(data)
        split_data(data, val=0.5)
        assert splits(data) == before

    @pytest.mark.parametrize('given', ['train', 'val', 'test'])
    def test_one_split_alone(self, given, many):
        """Training pictures alone are split; of a split that is none, all are."""
        data = data_of(many[:10], [[0]] * 10, classes=1)
        for picture in data.pictures:
            picture.split = given
        split_data(data, val=0.2)
        assert Counter(splits(data).values()) == dict(train=8, val=2)
        assert [problem.kind for problem in data.problems] == ([] if given == 'train' else ['one_part'])

    def test_test_pictures_stay_apart(self, many):
        data = data_of(many[:20], [[0]] * 20, classes=1)
        for number, picture in enumerate(data.pictures):
            picture.split = 'test' if number < 5 else 'train'
        split_data(data, val=0.2, test=0.5)
        assert [picture.split for picture in data.pictures[:5]] == ['test'] * 5
        assert Counter(picture.split for picture in data.pictures[5:]) == dict(train=12, val=3)

    @pytest.mark.parametrize('count', [2, 3])
    def test_few(self, count, many):
        data = data_of(many[:count], [[0]] * count, classes=1)
        split_data(data)
        assert Counter(splits(data).values()) == dict(train=count - 1, val=1)

    def test_refusals(self, many):
        with pytest.raises(ValueError, match='1 pictures, of which 1 differ, cannot be split into train and val'):
            split_data(data_of(many[:1], [[0]], classes=1))
        with pytest.raises(ValueError, match=r'must be shares of 0 to 1 .*, got 0\.7 and 0\.3'):
            split_data(data_of(many[:3], [[0]] * 3, classes=1), val=0.7, test=0.3)


class TestFile:

    @pytest.fixture
    def data(self, many):
        data = data_of(many[:10], [[0]] * 10, classes=1)
        data.pictures[0].path = Path(f'{data.root}/a, "b"\udce9 ö.png')
        for number, picture in enumerate(data.pictures):
            picture.split = 'train' if number else 'val'
            picture.group = f'group {number}'
        return data

    def test_there_and_back(self, data, tmp_path):
        write_split(data, tmp_path / 'new' / 'split.csv')
        before = [(picture.split, picture.group) for picture in data.pictures]
        for picture in data.pictures:
            picture.split = picture.group = None
        read_split(data, tmp_path / 'new' / 'split.csv')
        assert [(picture.split, picture.group) for picture in data.pictures] == before
        assert [path.name for path in (tmp_path / 'new').iterdir()] == ['split.csv']

    def test_edited(self, data, tmp_path):
        """As spreadsheets save it: a mark of the byte order, semicolons, capitals."""
        path = tmp_path / 'split.csv'
        write_split(data, path)
        data.pictures[1].split = 'test'
        with pytest.raises(FileExistsError, match='there with another split: read it with read_split'):
            write_split(data, path)
        lines = path.read_bytes().replace(b',train,', b';Test;').replace(b'picture,split,group', b'picture;split;group')
        lines = b'\n'.join(line for line in lines.split(b'\n') if b'"' not in line and b'group 4' not in line)
        path.write_bytes(b'\xef\xbb\xbf' + lines.replace(b'\n', b'\r\n'))
        read_split(data, path)
        assert Counter(splits(data).values()) == {'test': 8, None: 2}
        assert 'and 1 other pictures' in data.problems[-1].text

    @pytest.mark.parametrize('sign', [',', ';', '\t'])
    def test_empty_rows_and_signs_between(self, sign, data, tmp_path):
        path = tmp_path / 'split.csv'
        names = [picture.path.relative_to(data.root).as_posix() for picture in data.pictures]
        rows = [('picture', 'split', 'group'), *((name, 'val', 'a') for name in names), ('', '', '')]
        with path.open('w', newline='', errors='surrogateescape') as file:
            csv.writer(file, delimiter=sign).writerows(rows)
        read_split(data, path)
        assert {(picture.split, picture.group) for picture in data.pictures} == {('val', 'a')}

    @pytest.mark.parametrize(('content', 'message'), [
        ('', 'must begin with the line picture,split,group'), ('a,b\n1,2\n', 'must begin with the line'),
        ('picture,split\nnone.png,train\n', r'line 2: none\.png is no picture of'),
        ('picture,split\n{0},training\n', "line 2: the split 'training' is none of train, val, test"),
        ('picture,split\n{0},val\n{0},train\n', 'line 3: .* stands in two splits')])
    def test_refusals(self, content, message, data, tmp_path):
        before = splits(data)
        (tmp_path / 'split.csv').write_text(content.format(data.pictures[1].path.name))
        with pytest.raises(ValueError, match=message):
            read_split(data, tmp_path / 'split.csv')
        assert splits(data) == before


def test_objects_count_as_classes(many):
    data = data_of(many, [[]] * 100, 'boxes')
    for number, picture in enumerate(data.pictures):
        picture.annotations = [Annotation(number % 3, (0, 0, 5, 5))] * 2
    split_data(data, val=0.3)
    found = Counter((picture.split, picture.annotations[0].label) for picture in data.pictures)
    assert [found['val', label] for label in range(3)] == [10, 10, 10]
