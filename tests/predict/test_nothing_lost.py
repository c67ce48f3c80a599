"""What was found stays, whatever happens: signals, full disks, odd names, films that end early."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from focalnet_mm.cli import run as command
from focalnet_mm.data.pictures import find_inputs, read_video
from focalnet_mm.predict import Predictor
from focalnet_mm.predict.records import PredictionsFile
from tests.helpers.tools import ROOT

LOADER = dict(type='LoadImageFromFile')


def photo(seed=0, size=(90, 60)):
    small = np.random.default_rng(seed).integers(256, size=(5, 6, 3), dtype=np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def write_film(path, frames, size=(90, 60)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5, size)
    for seed in range(frames):
        writer.write(photo(seed % 10, size))
    writer.release()


@pytest.fixture(scope='module')
def model(config_for, save_weights, tmp_path_factory):
    """A config and a checkpoint of a small classifier, as files."""
    folder = tmp_path_factory.mktemp('model')
    cfg = config_for('mmpretrain', 3, LOADER)
    cfg.dump(folder / 'config.py')
    return str(folder / 'config.py'), save_weights(cfg, folder / 'x.pth')


@pytest.fixture
def predict(model, capfd):
    """The command in this process: (inputs, out) → exit status or message, and what was printed."""
    def run(*arguments):
        capfd.readouterr()
        status = 0
        try:
            command('predict', [*model, *map(str, arguments), '--device', 'cpu'], 'predict')
        except SystemExit as stopped:
            status = stopped.code
        printed = capfd.readouterr()
        return status, printed.out + printed.err
    return run


def found_in(out):
    assert not list(Path(out).glob('predictions.json.*'))
    return json.loads((Path(out) / 'predictions.json').read_text(encoding='utf-8'))


class TestNames:

    def test_no_picture_replaces_another(self, predict, tmp_path):
        folder = tmp_path / 'in'
        names = ['a.bmp', 'a.bmp.png', 'A.BMP.PNG', 'b.jpg', 'B.jpg', 'c.avi.mp4.png', '\xe9.png', 'e\u0301.png',
                 'd.tif', 'd.tif.png/x.png', 'e/f.png', 'E/F.png']
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / name), photo())
        write_film(folder / 'a.avi', 2)
        write_film(folder / 'c.avi', 2)
        os.rename(folder / 'b.jpg', folder / 'a.avi.mp4')
        cv2.imwrite(str(folder / 'b.jpg'), photo())
        os.rename(folder / 'a.avi.mp4', folder / 'a.avi.mp4.jpg')
        status, printed = predict(folder, '--out', tmp_path / 'out')
        assert status == 0, printed
        pictures = [path for path in (tmp_path / 'out' / 'pictures').rglob('*') if path.is_file()]
        assert len({str(path).casefold() for path in pictures}) == len(pictures) == len(names) + 3
        assert len(found_in(tmp_path / 'out')['images']) == len(names) + 1 + 4

    @pytest.mark.skipif(sys.platform == 'darwin', reason='its file systems take UTF-8 alone')
    def test_names_that_are_not_utf8(self, predict, tmp_path):
        folder = os.fsencode(tmp_path / 'in')
        os.mkdir(folder)
        (tmp_path / 'x.png').write_bytes(cv2.imencode('.png', photo())[1].tobytes())
        write_film(tmp_path / 'x.avi', 3)
        for name in (b'caf\xe9.png', b'caf\xe9.avi', b'text\xe9.txt', b'broken\xe9.png'):
            source = tmp_path / f'x{os.path.splitext(name)[1].decode()}'
            Path(os.fsdecode(os.path.join(folder, name))).write_bytes(
                source.read_bytes() if source.exists() and b'caf' in name else b'no picture')
        status, printed = predict(tmp_path / 'in', '--out', tmp_path / 'out')
        assert status == 'predict: 1 of 3 inputs failed, see above.', printed
        assert r'broken\xe9.png (10 bytes) is damaged' in printed
        assert r'left out, since their endings are of no picture or video: 1 (text\xe9.txt)' in printed
        names = [os.fsencode(image['file_name']).rpartition(b'/')[2] for image in found_in(tmp_path / 'out')['images']]
        assert sorted(names) == [b'caf\xe9.avi'] * 3 + [b'caf\xe9.png']
        film = tmp_path / 'out' / 'pictures' / os.fsdecode(b'caf\xe9.avi.mp4')
        assert len(list(read_video(film)[2])) == 3


class TestInputs:

    def test_pipe(self, predict, tmp_path):
        os.mkfifo(tmp_path / 'pipe.png')
        status, _ = predict(tmp_path / 'pipe.png', '--out', tmp_path / 'out')
        assert re.search(r'predict: \S+/pipe\.png is a pipe or a device, which may never end: save', status)
        status, _ = predict('/dev/zero', '--out', tmp_path / 'out')
        assert '/dev/zero is a pipe or a device' in status

    def test_pipe_in_a_folder(self, tmp_path):
        os.mkfifo(tmp_path / 'pipe.png')
        (tmp_path / 'x.png').write_bytes(b'')
        found, other = find_inputs([tmp_path])
        assert ([item.name for item in found], [path.name for path in other]) == (['x.png'], ['pipe.png'])

    def test_links(self, tmp_path):
        for folder in ('data', 'named'):
            (tmp_path / folder).mkdir()
        (tmp_path / 'data' / 'x.png').write_bytes(b'')
        (tmp_path / 'named' / 'link').symlink_to(tmp_path / 'data')
        (tmp_path / 'data' / 'circle').symlink_to(tmp_path / 'named')
        found, _ = find_inputs([tmp_path / 'named'])
        assert [item.name for item in found] == ['link/x.png']


class TestFilms:

    def test_no_writer(self, predict, tmp_path):
        write_film(tmp_path / 'x.avi', 3)
        cv2.imwrite(str(tmp_path / 'x.png'), photo())
        (tmp_path / 'out' / 'pictures' / 'x.avi.mp4').mkdir(parents=True)
        status, printed = predict(tmp_path / 'x.avi', tmp_path / 'x.png', '--out', tmp_path / 'out', '--force')
        assert status == 'predict: 1 of 2 inputs failed, see above.'
        assert 'x.avi.mp4 could not be opened for a film of 90 × 60 pixels with 5 frames a second' in printed
        assert [image['file_name'][-4:] for image in found_in(tmp_path / 'out')['images']] == ['.png']

    def test_film_that_could_not_be_written(self, predict, tmp_path, monkeypatch):
        write_film(tmp_path / 'x.avi', 3)

        class Nothing:
            fourcc = cv2.VideoWriter.fourcc

            def __init__(self, *_):
                pass

            def isOpened(self):  # noqa: N802
                return True

            def write(self, _):
                pass

            release = isOpened

        monkeypatch.setattr(cv2, 'VideoWriter', Nothing)
        status, printed = predict(tmp_path / 'x.avi', '--out', tmp_path / 'out')
        assert status == 'predict: 1 of 1 inputs failed, see above.'
        assert 'x.avi.mp4 holds 0 of 3 frames' in printed
        assert len(found_in(tmp_path / 'out')['images']) == 3

    def test_film_that_ends_early(self, predict, tmp_path):
        write_film(tmp_path / 'whole.avi', 40)
        data = (tmp_path / 'whole.avi').read_bytes()
        count = int(cv2.VideoCapture(str(tmp_path / 'whole.avi')).get(cv2.CAP_PROP_FRAME_COUNT))
        (tmp_path / 'cut.avi').write_bytes(data[:len(data) // 2])
        status, printed = predict(tmp_path / 'cut.avi', '--out', tmp_path / 'out')
        frames = len(found_in(tmp_path / 'out')['images'])
        assert status == 0
        assert 5 < frames < count == 40
        assert f'cut.avi ends after {frames} of the 40 frames that it says it has: it may be damaged there' in printed

    def test_frames_reach_the_model_as_the_config_loads_pictures(self, config_for, save_weights, tmp_path):
        """A grey model sees grey frames."""
        cfg = config_for('mmpretrain', 1, dict(type='LoadImageFromFile', color_type='grayscale'))
        cfg.dump(tmp_path / 'config.py')
        checkpoint = save_weights(cfg, tmp_path / 'x.pth')
        write_film(tmp_path / 'x.avi', 2)
        command('predict', [str(tmp_path / 'config.py'), checkpoint, str(tmp_path / 'x.avi'), '--out',
                            str(tmp_path / 'out'), '--device', 'cpu'])
        found = found_in(tmp_path / 'out')
        predictor = Predictor(cfg, checkpoint, 'cpu')
        for i, frame in enumerate(read_video(tmp_path / 'x.avi')[2]):
            cv2.imwrite(str(tmp_path / 'frame.png'), frame)
            expected = predictor.entries(predictor.predict(tmp_path / 'frame.png'), i + 1)
            assert [entry for entry in found['annotations'] if entry['image_id'] == i + 1] == expected


@pytest.mark.parametrize(('number', 'kind'), [(signal.SIGINT, 'film'), (signal.SIGTERM, 'film'),
                                              (signal.SIGINT, 'pictures')])
@pytest.mark.slow
def test_signals(number, kind, model, tmp_path):
    """Ctrl-C and SIGTERM in the middle: all that was found until then is there, and a line says how much that is."""
    if kind == 'film':
        write_film(tmp_path / 'in.avi', 3000)
    else:
        (tmp_path / 'in').mkdir()
        for i in range(600):
            cv2.imwrite(str(tmp_path / 'in' / f'{i:04d}.png'), photo(i % 10))
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/predict.py', *model, tmp_path / ('in.avi' if kind == 'film' else 'in'),
         '--out', tmp_path / 'out', '--device', 'cpu'], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)})
    part = tmp_path / 'out' / 'predictions.json.part'
    deadline = time.time() + 120
    while time.time() < deadline and not (part.is_file() and part.read_text().count('\n') > 5):
        time.sleep(0.05)
    process.send_signal(number)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number, printed
    found = found_in(tmp_path / 'out')
    images = len(found['images'])
    assert 5 < images < (3000 if kind == 'film' else 600)
    assert len(found['annotations']) == 5 * images
    total, done = (1, 0) if kind == 'film' else (600, images)
    assert f'stopped by {number.name}: {done} of {total} inputs are done' in printed
    assert f'{images} images, {5 * images} predictions' in printed
    assert 'Traceback' not in printed
    if kind == 'film':
        assert len(list(read_video(tmp_path / 'out' / 'pictures' / 'in.avi.mp4')[2])) == images
    else:
        assert len(list((tmp_path / 'out' / 'pictures').iterdir())) == images


class TestRecords:

    def test_every_type_of_number(self, tmp_path):
        file = PredictionsFile(tmp_path)
        file.add(dict(id=np.int64(1), file_name='x'), [dict(
            score=torch.tensor(0.5, dtype=torch.bfloat16), bbox=np.arange(4, dtype=np.float32), area=np.uint8(7),
            category_id=torch.tensor(3), flag=np.bool_(True), points=[torch.tensor([1.0]), (np.float16(2),)])])
        file.add(dict(id=2), [dict(score=float('nan'), bbox=[np.inf, 1.0])])
        entries = json.loads(file.finish({}, ['a']).read_text(), parse_constant=pytest.fail)['annotations']
        assert entries == [dict(score=0.5, bbox=[0, 1, 2, 3], area=7, category_id=3, flag=True, points=[[1], [2]]),
                           dict(score=None, bbox=[None, 1])]

    def test_nothing_stays_in_memory(self, tmp_path):
        import tracemalloc
        file, mask = PredictionsFile(tmp_path), 'x' * 100_000
        tracemalloc.start()
        for i in range(200):
            file.add(dict(id=i), [dict(image_id=i, segmentation=mask)])
        file.finish({}, [])
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()
        assert len(found_in(tmp_path)['annotations']) == 200

    @pytest.mark.skipif(not Path('/dev/full').exists(), reason='no device that is full')
    def test_full_disk(self, predict, tmp_path):
        cv2.imwrite(str(tmp_path / 'x.png'), photo())
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out' / 'predictions.json.part').symlink_to('/dev/full')
        status, _ = predict(tmp_path / 'x.png', '--out', tmp_path / 'out', '--force')
        assert re.fullmatch(r'predict: \S+/predictions\.json\.part could not be written: No space left on device\.',
                            status)

    def test_no_folder_can_be_made(self, predict, tmp_path):
        cv2.imwrite(str(tmp_path / 'x.png'), photo())
        (tmp_path / 'file').write_text('')
        status, _ = predict(tmp_path / 'x.png', '--out', tmp_path / 'file' / 'out')
        assert status.startswith('predict: ')
        assert 'Not a directory' in status

    def test_picture_that_cannot_be_written(self, predict, tmp_path):
        for name in ('x.png', 'y.png'):
            cv2.imwrite(str(tmp_path / name), photo())
        (tmp_path / 'out' / 'pictures' / 'x.png').mkdir(parents=True)
        status, printed = predict(tmp_path / 'x.png', tmp_path / 'y.png', '--out', tmp_path / 'out', '--force')
        assert status == 'predict: 1 of 2 inputs failed, see above.'
        assert re.search(r'pictures/x\.png could not be written: Is a directory', printed)
        assert len(found_in(tmp_path / 'out')['images']) == 2

    def test_an_error_in_the_middle(self, model, tmp_path, monkeypatch):
        """What nobody thought of ends the run, and what was found is there."""
        from focalnet_mm.predict import predict_inputs
        from focalnet_mm.run.config import load_config
        for i in range(4):
            cv2.imwrite(str(tmp_path / f'{i}.png'), photo(i))
        predictor = Predictor(load_config(model[0]), model[1], 'cpu')
        entries, calls = predictor.entries, []

        def fails(*arguments):
            calls.append(arguments)
            if len(calls) == 3:
                raise RuntimeError('nobody thought of it')
            return entries(*arguments)

        monkeypatch.setattr(predictor, 'entries', fails)
        with contextlib.suppress(RuntimeError):
            predict_inputs(predictor, find_inputs([tmp_path])[0], tmp_path / 'out', 0.3, {})
        assert len(found_in(tmp_path / 'out')['images']) == 2


def test_a_model_without_classes_is_drawn(config_for, save_weights, tmp_path):
    """mmseg's own visualizer wants names and colours of all classes, mmdet's names."""
    for scope in ('mmseg', 'mmdet', 'mmpretrain'):
        cfg = config_for(scope, 3, LOADER)
        cfg.test_dataloader.dataset.pop('metainfo', None)
        cfg.test_dataloader.dataset.type = 'FilesDataset'
        predictor = Predictor(cfg, save_weights(cfg, tmp_path / f'{scope}.pth'), 'cpu')
        assert predictor.classes == ()
        sample = predictor.predict(photo())
        if scope == 'mmdet':
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[1.0, 2, 30, 40]]), scores=torch.tensor([0.9]), labels=torch.tensor([70]),
                masks=torch.ones(1, 60, 90, dtype=torch.bool))
        drawn = predictor.draw(photo(), sample)
        assert (drawn != photo()).any(), scope
