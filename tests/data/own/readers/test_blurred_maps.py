"""Label maps that were saved as JPEG or drawn with soft borders."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from focalnet_mm.data.own import find_problems, fix_data, read_data, read_label_map
from tests.helpers import own

SIDE = 64
COLOURS = {'sky': (0, 0, 0), 'road': (128, 64, 128), 'car': (0, 0, 142)}


def truth(number):
    """The class of each pixel: a road, and a car on it."""
    drawn = Image.new('L', (SIDE, SIDE))
    ImageDraw.Draw(drawn).rectangle((0, 30, SIDE, SIDE), fill=1)
    ImageDraw.Draw(drawn).ellipse((10 + number, 20, 40 + number, 50), fill=2)
    return np.asarray(drawn)


def write(folder, ending, colours=COLOURS, soft=False, **saving):
    for number in range(4):
        own.picture(folder / 'images' / f'{number}.jpg', SIDE, SIDE)
        drawn = Image.fromarray(np.array([*colours.values()], np.uint8)[truth(number)])
        if soft:
            drawn = drawn.resize((2 * SIDE, 2 * SIDE)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        (folder / 'masks').mkdir(exist_ok=True)
        drawn.save(folder / 'masks' / f'{number}{ending}', **saving)
    lines = [f'{name}:{",".join(map(str, colour))}::' for name, colour in colours.items()]
    (folder / 'labelmap.txt').write_text('\n'.join(lines))


def shares(data):
    """The shares of pixels of the right class, and of none."""
    labels = np.array([read_label_map(data, picture) for picture in data.pictures])
    expected = np.array([truth(int(picture.path.stem)) for picture in data.pictures])
    return (labels == expected).mean(), (labels < 0).mean()


@pytest.mark.parametrize(('ending', 'more'), [('.jpg', dict(quality=90)), ('.png', dict(soft=True))])
def test_colours_between_two_classes(ending, more, tmp_path):
    write(tmp_path, ending, **more)
    data = read_data(tmp_path, tell=lambda line: None)
    find_problems(data)
    assert (data.task, data.classes) == ('semantic', list(COLOURS))
    right, lost = shares(data)
    assert right + lost == pytest.approx(1, abs=0.002)
    told = [problem for problem in data.problems if problem.kind == 'map_values']
    counted = sum(int(problem.text.split(' has ')[1].split(' of ')[0]) for problem in told)
    assert counted == round(lost * 4 * SIDE**2) > 0
    fix_data(data, ['map_values'])
    assert {problem.done for problem in told} == {'mended'}
    right, lost = shares(data)
    assert right > 0.97
    assert lost < 0.005


def test_a_class_that_the_list_lacks_is_not_mended(tmp_path):
    write(tmp_path, '.png')
    lines = (tmp_path / 'labelmap.txt').read_text().splitlines()
    (tmp_path / 'labelmap.txt').write_text('\n'.join(lines[:2]))
    data = read_data(tmp_path, tell=lambda line: None)
    before = shares(data)
    fix_data(data, ['map_values'])
    assert shares(data) == before
    assert before[1] > 0.1
    assert [problem.done for problem in data.problems] == ['kept']


@pytest.mark.parametrize('mode', ['L', 'RGB'])
def test_black_and_white_as_jpeg(mode, tmp_path):
    for number in range(4):
        own.picture(tmp_path / 'images' / f'{number}.jpg', SIDE, SIDE)
        (tmp_path / 'masks').mkdir(exist_ok=True)
        Image.fromarray((truth(number) == 2).astype(np.uint8) * 255).convert(mode).save(
            tmp_path / 'masks' / f'{number}.jpg', quality=90)
    data = read_data(tmp_path, tell=lambda line: None)
    assert data.classes == ['background', 'object']
    fix_data(data, ['map_values'])
    labels = np.array([read_label_map(data, picture) for picture in data.pictures])
    expected = np.array([truth(int(picture.path.stem)) == 2 for picture in data.pictures])
    assert (labels == expected).mean() > 0.99


def test_nobody_can_tell_what_was_meant(tmp_path):
    write(tmp_path, '.jpg')
    (tmp_path / 'labelmap.txt').unlink()
    with pytest.raises(ValueError, match=r'hold \d+ values, as compressed or blurred maps and depths do: write a list'):
        read_data(tmp_path, tell=lambda line: None)


def test_folders_of_photos_are_no_maps(tmp_path):
    """A class may be called masks."""
    for name in ('faces', 'masks'):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f'{number}.jpg')
    data = read_data(tmp_path, tell=lambda line: None)
    assert (data.format, data.classes) == ('folders', ['faces', 'masks'])
