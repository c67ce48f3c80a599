"""``predict`` with an exported file, in a process that has neither PyTorch nor mmengine nor mmcv."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from focalnet_mm.cli import run as command
from focalnet_mm.deploy import Runtime
from focalnet_mm.predict import ExportedPredictor
from focalnet_mm.predict import exported as exporteds
from focalnet_mm.predict.masks import encoded
from tests.helpers import exported
from tests.helpers.tools import ROOT

WITHOUT = '''
import sys
for name in ('torch', 'mmengine', 'mmcv', 'rich', 'onnx'):
    sys.modules[name] = None
from focalnet_mm.cli import main
main(sys.argv[1:])
'''


def test_masks_are_encoded_as_pycocotools_does():
    random = np.random.default_rng(0)
    masks = [random.random(random.integers(1, 90, 2)) < random.random() for _ in range(40)]
    masks += [np.zeros((3, 4), bool), np.ones((3, 4), bool), np.kron(masks[0], np.ones((9, 40))) > 0]
    for mask in masks:
        own, theirs = encoded(mask), coco.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert own['segmentation'] == dict(size=theirs['size'], counts=theirs['counts'].decode())
        assert own['area'] == coco.area(theirs)


def photos(folder, *sizes):
    folder.mkdir()
    for i, picture in enumerate(exported.pictures(*sizes)):
        cv2.imwrite(str(folder / f'{i}.png'), picture[..., ::-1])
    return folder


@pytest.mark.slow
def test_without_pytorch(tmp_path):
    file = exported.detector(tmp_path / 'x.onnx')
    folder = photos(tmp_path / 'in', (40, 60), (30, 20))
    (folder / 'broken.png').write_bytes(b'x')
    done = subprocess.run([sys.executable, '-c', WITHOUT, 'predict', file, folder, '--out', tmp_path / 'out'],
                          capture_output=True, text=True, cwd=ROOT, check=False)
    assert '1 of 3 inputs failed' in done.stderr
    assert done.stdout.startswith('2 images, 4 predictions')
    found = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert [(image['height'], image['width']) for image in found['images']] == [(40, 60), (30, 20)]
    assert [category['name'] for category in found['categories']] == exported.CLASSES
    first = found['annotations'][0]
    assert (first['category_id'], first['bbox'], round(first['score'], 5)) == (2, [0, 0, 30, 40], 0.9)
    assert coco.decode(first['segmentation'])[:, :30].all()
    assert sorted(path.name for path in (tmp_path / 'out' / 'pictures').iterdir()) == ['0.png', '1.png']


@pytest.mark.slow
def test_what_needs_pytorch_says_so():
    code = ("import sys; sys.modules['torch'] = None\nimport focalnet_mm\nfrom focalnet_mm.deploy import Runtime\n"
            'try:\n    focalnet_mm.FocalNet\nexcept ModuleNotFoundError as error:\n    print(error)')
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert out.startswith('focalnet_mm.FocalNet needs torch, which is not installed')


@pytest.mark.parametrize('name', ['x.onnx', 'x.ONNX', 'model', 'focalnet.v2'])
def test_command(name, tmp_path, capsys):
    """Of files of any name that export was told."""
    file = str(exported.classifier(tmp_path / name))
    folder = photos(tmp_path / 'in', (40, 60))
    command('predict', [file, str(folder), '--out', str(tmp_path / 'out')], 'predict')
    found = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    scores = exported.channel_scores(cv2.imread(str(folder / '0.png'))[..., ::-1])
    assert [entry['category_id'] for entry in found['annotations']] == np.argsort(-scores).tolist()
    np.testing.assert_allclose([entry['score'] for entry in found['annotations']], sorted(scores)[::-1], atol=1e-5)
    for words, message in (([file], 'no INPUT is named'), ([file, str(folder), '--cfg-options', 'a=1'], 'has none')):
        with pytest.raises(SystemExit):
            command('predict', [*words, '--out', str(tmp_path / 'other')], 'predict')
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(('kind', 'task', 'message'), [
    ('classifier', 'pose', "x.onnx is of the task 'pose', expected one of detection, panoptic"),
    ('classifier', 'detection', "x.onnx is of the task 'detection' and lacks boxes, labels: export it anew"),
    ('classifier', 'panoptic', "x.onnx is of the task 'panoptic' and lacks segments, num_things"),
    ('detector', 'segmentation', "x.onnx is of the task 'segmentation' and lacks label_map"),
    # Nothing says from which probability on a pixel belongs to a mask.
    ('masks', 'detection', 'lacks mask_threshold')])
def test_files_that_say_other_things_than_they_return(kind, task, message, tmp_path):
    file = tmp_path / 'x.onnx'
    written = exported.classifier(file) if kind == 'classifier' else exported.detector(file, roi=kind == 'masks')
    runtime = Runtime(written)
    runtime.task = task
    with pytest.raises(ValueError, match=message):
        ExportedPredictor(runtime)


def test_drawn(tmp_path):
    """What scores less than the threshold is not drawn, and masks have the classes' colours."""
    file = exported.detector(tmp_path / 'x.onnx', palette=[[250, 0, 0], [0, 250, 0], [0, 0, 250]])
    predictor = ExportedPredictor(Runtime(file))
    picture = np.zeros((40, 60, 3), np.uint8)
    found = predictor.predict(picture, score_threshold=0.0)
    drawn = predictor.draw(picture, found, 0.5)
    assert drawn[30, 10].tolist() == [125, 0, 0]
    # Below the words of the other object, which OpenCV 4 and 5 write in other fonts.
    assert not drawn[12:, 35:].any()
    assert not picture.any()
    assert predictor.draw(picture, found, 0.3)[30, 50].tolist() == [0, 0, 125]


def test_several_labels_are_drawn_where_they_hold(tmp_path, monkeypatch):
    drawn, predictor = [], ExportedPredictor(Runtime(exported.classifier(tmp_path / 'x.onnx')))
    monkeypatch.setattr(exporteds, 'draw_classes', lambda image, lines: drawn.append(lines))
    picture, scores = np.zeros((4, 4, 3), np.uint8), np.array([0.1, 0.9, 0.6])
    predictor.draw(picture, dict(scores=scores, classes=np.array([1, 0, 1])))
    predictor.draw(picture, dict(scores=scores, classes=np.int64(1)))
    predictor.draw(picture, dict(scores=scores))
    numbers = [[float(line.split()[-1]) for line in lines] for lines in drawn]
    assert numbers == [[0.6, 0.1], [0.9, 0.6, 0.1], [0.9, 0.6, 0.1]]


def test_masks_of_boxes_are_pasted(tmp_path):
    """A file with masks within the boxes alone loses none on the way to predictions.json."""
    predictor = ExportedPredictor(Runtime(exported.detector(tmp_path / 'x.onnx', roi=True, mask_threshold=0.5)))
    found = predictor.predict(np.zeros((40, 60, 3), np.uint8), score_threshold=0.0)
    half, whole = (coco.decode(entry['segmentation']) for entry in predictor.entries(found, 1))
    assert half.shape == whole.shape == (40, 60)
    assert half[:, :30].all()
    assert not half[:, 30:].any()
    assert whole.all()
