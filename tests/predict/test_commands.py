"""`predict` and `explain` on images of any channels and depth, beside `test`."""

import json
import pickle

import cv2
import numpy as np
import pytest

from focalnet_mm.cli import run as command
from tests.predict.test_as_tested import KINDS, LIBRARIES, UNCHANGED, assert_same, image_of, write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(('kind', 'scope', 'words'), [
    ('colour, 16 bits', 'mmdet', 'the pictures show each image scaled from its own range (uint16) to 8 bits'),
    ('four channels, 8 bits', 'mmseg', 'has 4 channels in uint8; the pictures show channels 1 to 3 of 4\n'),
    ('six files, 16 bits', 'mmpretrain', 'the pictures show channels 1 to 3 of 6, each image scaled from its own')])
def test_files_and_folders(kind, scope, words, config_for, save_weights, tested, tmp_path, capfd):
    """Predictions of files and folders, pictures of them, and maps."""
    channels, dtype, loader = KINDS[kind]
    cfg = config_for(scope, channels, loader)
    checkpoint = save_weights(cfg, tmp_path / 'x.pth')
    cfg.dump(tmp_path / 'config.py')
    (tmp_path / 'in').mkdir()
    files, named = zip(*[write(tmp_path / 'in', image_of(channels, dtype, seed), loader, seed) for seed in range(2)])
    expected = tested(cfg, checkpoint, list(files), tmp_path)
    for path in tmp_path.rglob('*.labels.png'):
        path.unlink()
    inputs = [str(path) for path in named] if loader['type'] == 'LoadArray' else [str(tmp_path / 'in')]
    capfd.readouterr()
    command('predict', [str(tmp_path / 'config.py'), checkpoint, *inputs, '--out', str(tmp_path / 'out'),
                        '--device', 'cpu'], 'predict')
    assert words in capfd.readouterr().err
    found = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    for image, of_test in zip(found['images'], expected, strict=True):
        assert_same([entry for entry in found['annotations'] if entry['image_id'] == image['id']], of_test, scope)
        assert (image['height'], image['width']) == (60, 90)
        assert image.get('channels') == ([f'band{i}.png' for i in range(5, 11)] if 'files' in kind else None)
    pictures = sorted((tmp_path / 'out' / 'pictures').iterdir())
    assert [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in pictures] == [(60, 90, 3)] * 2
    command('explain', [str(tmp_path / 'config.py'), *inputs, '--checkpoint', checkpoint, '--out',
                        str(tmp_path / 'maps'), '--device', 'cpu', '--stage', '3'], 'explain')
    assert words.partition('the pictures')[2].strip() in capfd.readouterr().err
    assert len(list((tmp_path / 'maps' / 'figures').iterdir())) == 2


@pytest.mark.parametrize('scope', LIBRARIES)
def test_wrong_channels_are_told_and_the_rest_goes_on(scope, config_for, save_weights, tmp_path, capfd):
    cfg = config_for(scope, 3, UNCHANGED)
    checkpoint = save_weights(cfg, tmp_path / 'x.pth')
    cfg.dump(tmp_path / 'config.py')
    (tmp_path / 'in').mkdir()
    for channels in (1, 3, 4):
        cv2.imwrite(str(tmp_path / 'in' / f'{channels}.png'), image_of(channels, np.uint8, 0))
    config, folder = str(tmp_path / 'config.py'), str(tmp_path / 'in')
    for name, arguments in (('predict', [config, checkpoint, folder]),
                            ('explain', [config, folder, '--checkpoint', checkpoint])):
        with pytest.raises(SystemExit, match='2 of 3 inputs'):
            command(name, [*arguments, '--out', str(tmp_path / name), '--device', 'cpu'], name)
        told = capfd.readouterr().err
        for path in ('1.png', '4.png'):
            assert [line for line in told.splitlines() if path in line and line.startswith(f'{name}: ')]
    found = json.loads((tmp_path / 'predict' / 'predictions.json').read_text())
    assert [image['file_name'].rsplit('/', 1)[1] for image in found['images']] == ['3.png']


@pytest.mark.parametrize('scope', LIBRARIES)
@pytest.mark.parametrize('kind', ['grey, 16 bits', 'four channels, 16 bits'])
def test_predict_agrees_with_test(kind, scope, config_for, save_weights, for_test, tmp_path):
    """The same weights and files through both commands."""
    channels, dtype, loader = KINDS[kind]
    cfg = config_for(scope, channels, loader)
    checkpoint = save_weights(cfg, tmp_path / 'x.pth')
    cfg.dump(tmp_path / 'config.py')
    files = [write(tmp_path, image_of(channels, dtype, seed), loader, seed)[0] for seed in range(2)]
    for_test(cfg, files, tmp_path / 'tested.pkl').dump(tmp_path / 'test.py')
    command('test', [str(tmp_path / 'test.py'), checkpoint, '--work-dir', str(tmp_path / 'work')], 'test')
    command('predict', [str(tmp_path / 'config.py'), checkpoint, *files, '--out', str(tmp_path / 'out'),
                        '--device', 'cpu'], 'predict')
    found = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    expected = pickle.loads((tmp_path / 'tested.pkl').read_bytes())
    for image, of_test in zip(found['images'], expected, strict=True):
        assert_same([entry for entry in found['annotations'] if entry['image_id'] == image['id']], of_test, scope)


@pytest.mark.parametrize('key', ['bgr_to_rgb', 'rgb_to_bgr'])
def test_explain_shows_the_colours(key, config_for, save_weights, tmp_path):
    """A red picture is red, whichever order the config's loader gives the channels in."""
    cfg = config_for('mmdet', 3, dict(type='LoadArray'))
    cfg.model.data_preprocessor.update(bgr_to_rgb=False)
    cfg.model.data_preprocessor[key] = True
    checkpoint = save_weights(cfg, tmp_path / 'x.pth')
    cfg.dump(tmp_path / 'config.py')
    red = np.full((60, 90, 3), (190, 10, 20), np.uint8)
    np.save(tmp_path / 'x.npy', red if key == 'rgb_to_bgr' else red[..., ::-1])
    command('explain', [str(tmp_path / 'config.py'), str(tmp_path / 'x.npy'), '--checkpoint', checkpoint, '--out',
                        str(tmp_path / 'out'), '--device', 'cpu', '--stage', '3'], 'explain')
    figure = cv2.imread(str(tmp_path / 'out' / 'figures' / 'x.npy.png'))[..., ::-1]
    assert (figure == red[0, 0]).all(axis=2).sum() > 1000
