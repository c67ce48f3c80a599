"""Pictures and videos of one's own: found, named and shown."""

import itertools
import unicodedata

import numpy as np
import pytest

from focalnet_mm.data.pictures import find_inputs, join_pictures, shown_as, to_bgr, unique_names


class TestInputs:

    def test_same_names_of_two_folders(self, tmp_path):
        for folder in ('a', 'b', 'c'):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / 'x.png').write_bytes(b'')
        found, _ = find_inputs([tmp_path / 'a', tmp_path / 'b', tmp_path / 'c' / 'x.png'])
        assert [item.name for item in found] == ['x.png', 'x_2.png', 'x_3.png']

    def test_own_output_is_no_input(self, tmp_path):
        for folder in ('', 'out/pictures'):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / 'x.png').write_bytes(b'')
        found, _ = find_inputs([tmp_path], leave_out=tmp_path / 'out')
        assert [item.path for item in found] == [tmp_path / 'x.png']

    def test_nothing_to_find(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='There is no picture or video in'):
            find_inputs([tmp_path])
        with pytest.raises(FileNotFoundError, match='nowhere does not exist: name pictures, videos'):
            find_inputs(['nowhere'])


    def test_channels_of_folders(self, tmp_path):
        for folder in ('a/one', 'a/two'):
            (tmp_path / folder).mkdir(parents=True)
            for name in ('b10.png', 'b9.png', 'notes.txt'):
                (tmp_path / folder / name).write_bytes(b'')
        found, other = find_inputs([tmp_path / 'a'], channels_apart=True)
        assert [(item.name, [path.name for path in item.channels]) for item in found] == [
            ('one', ['b9.png', 'b10.png']), ('two', ['b9.png', 'b10.png'])]
        assert len(other) == 2
        named = [tmp_path / 'a' / 'one', *sorted((tmp_path / 'a' / 'two').glob('*.png'))]
        assert [item.name for item in find_inputs(named, channels_apart=True)[0]] == ['one', 'two']

    def test_more_endings(self, tmp_path):
        (tmp_path / 'x.NPY').write_bytes(b'')
        assert [item.name for item in find_inputs([tmp_path], endings=('.npy',))[0]] == ['x.NPY']


@pytest.mark.parametrize('names', [
    ['a.png', 'A.png', 'a.PNG'], ['a.png', 'a_2.png', 'a.png'], ['a.png', 'a.png/x.png'], ['a/x.png', 'a', 'A/X.png'],
    ['e\u0301.png', '\xe9.png'], ['x'] * 12, ['a.png/x', 'a_2.png', 'a.png']])
def test_unique_names(names, tmp_path):
    """As many files, even where upper and lower case are one, and no folder is a file."""
    for order in itertools.islice(itertools.permutations(names), 24):
        unique = unique_names(order)
        on_disk = [unicodedata.normalize('NFC', name).casefold() for name in unique]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in on_disk:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open('x'):
                pass


class TestShown:

    @pytest.mark.parametrize(('shape', 'dtype', 'words'), [
        ((4, 5), np.uint8, ''), ((4, 5, 1), np.uint8, ''), ((4, 5, 3), np.uint8, ''), ((4, 5, 3), np.float32, ''),
        ((4, 5), bool, ''), ((4, 5, 2), np.uint8, 'channel 1 of 2'), ((4, 5, 4), np.uint8, 'channels 1 to 3 of 4'),
        ((4, 5, 3), np.uint16, 'each image scaled from its own range (uint16) to 8 bits'),
        ((4, 5), np.int16, 'each image scaled from its own range (int16) to 8 bits'),
        ((4, 5, 6), np.float64, 'channels 1 to 3 of 6')])
    def test_every_kind(self, shape, dtype, words):
        image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        shown = to_bgr(image)
        assert (shown.shape, shown.dtype) == ((4, 5, 3), np.uint8)
        assert shown_as(image) == words
        # Greater stays greater in the channels that are shown.
        first = image if image.ndim == 2 else image[..., 0]
        assert (np.diff(shown[..., 0].astype(int).flatten()[np.argsort(first, axis=None)]) >= 0).all()

    def test_range(self):
        image = np.array([[100, 300], [200, 4095]], np.uint16)
        assert to_bgr(image)[..., 0].tolist() == [[0, 13], [6, 255]]
        image = np.array([[np.nan, 0.0], [0.5, np.inf]], np.float32)
        assert to_bgr(image)[..., 0].tolist() == [[0, 0], [255, 255]]
        assert to_bgr(np.full((2, 2), np.nan)).tolist() == np.zeros((2, 2, 3)).tolist()
        assert (to_bgr(np.full((2, 2), 500, np.uint16)) == to_bgr(np.zeros((2, 2), np.uint16))).all()

    def test_colour_of_8_bits_stays(self):
        image = np.random.default_rng(0).integers(256, size=(4, 5, 3), dtype=np.uint8)
        np.testing.assert_array_equal(to_bgr(image), image)
        np.testing.assert_array_equal(to_bgr(image.astype(np.float32)), image)
        np.testing.assert_array_equal(to_bgr(np.dstack([image, image])), image)


class TestJoin:

    @pytest.mark.parametrize(('settings', 'message'), [
        (dict(columns=0), 'columns must be 1 or more, got 0'), (dict(most=-1), 'most must be 1 or more, got -1'),
        (dict(out='g.txt'), r'g\.txt must end in \.png or \.jpg')])
    def test_bad_arguments(self, settings, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            join_pictures([tmp_path], **{'out': tmp_path / 'g.png', **settings})
