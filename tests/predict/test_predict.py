"""tools/predict.py on every kind of model and input, beside the libraries' own functions."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image
from pycocotools import mask as coco

from focalnet_mm.data.pictures import read_image, read_video
from focalnet_mm.predict import Predictor
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from tests.helpers.tools import ROOT

RCNN = ROOT / 'configs/mmdet/maskrcnn_focalnet_t_shapes.py'
NARROW = {'model.backbone.embed_dims': 8, 'model.neck.in_channels': [8, 16, 32, 64],
          'model.test_cfg.rcnn.score_thr': 0.0}


def photo(size=(60, 90), seed=0):
    small = np.random.default_rng(seed).integers(256, size=(5, 6, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def weights(tmp_path_factory, save_weights):
    return save_weights(load_config(str(RCNN), NARROW), tmp_path_factory.mktemp('weights') / 'rcnn.pth',
                        dataset_meta=dict(CLASSES=('one', 'two', 'three', 'four', 'five')))


@pytest.fixture(scope='module')
def predict(tool):
    """The command, with a narrow model."""
    options = [f'{key}={str(value).replace(" ", "")}' for key, value in NARROW.items()]
    return lambda *arguments, **kwargs: tool('predict.py', *arguments, '--cfg-options', *options, **kwargs)


@pytest.fixture(scope='module')
def odd_folder(tmp_path_factory):
    """What lies about in folders."""
    folder = tmp_path_factory.mktemp('in') / 'meine Fotos – été'
    (folder / 'below').mkdir(parents=True)
    cv2.imwrite(str(folder / 'plain.jpg'), photo())
    # What a progress bar could take for markup.
    (folder / 'a[').mkdir()
    cv2.imwrite(str(folder / 'a[' / 'b].png'), photo())
    (folder / 'text.jpg').write_text('no picture')
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'notes.txt').write_text('no picture')
    cv2.imwrite(str(folder / 'one pixel.png'), np.full((1, 1, 3), 7, np.uint8))
    cv2.imwrite(str(folder / 'deep.png'), photo().astype(np.uint16) * 257)
    Image.fromarray(photo()[..., ::-1]).convert('CMYK').save(folder / 'below' / 'cmyk.JPG', quality=95)
    frames = [Image.fromarray(photo(seed=seed)[..., ::-1]) for seed in range(3)]
    frames[0].save(folder / 'below' / 'moving.gif', save_all=True, append_images=frames[1:], duration=50)
    Image.fromarray(photo()[..., 0]).save(folder / 'grey.png')
    Image.fromarray(np.dstack([photo(), photo()[..., :1]])).save(folder / 'clear.png')
    return folder


def test_odd_folder(odd_folder, weights, tmp_path, predict):
    out = predict(RCNN, weights, odd_folder, '--out', tmp_path / 'out', expect=1)
    assert 'left out, since their endings are of no picture or video: 1 (notes.txt)' in out
    assert re.search(r'predict.py: \S.*/text.jpg \(10 bytes\) is damaged or no image that LoadImageFromFile', out)
    assert re.search(r'/empty.png \(0 bytes\) is damaged', out)
    assert out.endswith('predict.py: 2 of 10 inputs failed, see above.\n')
    assert 'Traceback' not in out
    found = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    sizes = {image['file_name'].rsplit('/', 1)[1]: (image['height'], image['width']) for image in found['images']}
    assert sizes == {'cmyk.JPG': (60, 90), 'moving.gif': (60, 90), 'clear.png': (60, 90), 'deep.png': (60, 90),
                     'grey.png': (60, 90), 'one pixel.png': (1, 1), 'plain.jpg': (60, 90), 'b].png': (60, 90)}
    pictures = {str(path.relative_to(tmp_path / 'out' / 'pictures')): cv2.imread(str(path)).shape[:2]
                for path in (tmp_path / 'out' / 'pictures').rglob('*') if path.is_file()}
    assert {name: size for name, size in pictures.items() if name != 'one pixel.png'} == dict.fromkeys(
        ('a[/b].png', 'below/cmyk.JPG', 'below/moving.gif.png', 'clear.png', 'deep.png', 'grey.png', 'plain.jpg'),
        (60, 90))
    assert 'one pixel.png' in pictures
    assert [category['name'] for category in found['categories']] == ['one', 'two', 'three', 'four', 'five']
    assert {entry['image_id'] for entry in found['annotations']} <= {image['id'] for image in found['images']}


@pytest.mark.parametrize(('name', 'tolerance'), [('below/cmyk.JPG', 12), ('deep.png', 0), ('below/moving.gif', 40)])
def test_colours_are_kept(odd_folder, name, tolerance):
    """A GIF has 256 colours, JPEG loses some."""
    if name.endswith('.gif') and cv2.__version__ < '4.12':
        pytest.skip('OpenCV reads no GIF before 4.12')
    difference = np.abs(read_image(odd_folder / name).astype(int) - photo().astype(int))
    assert difference.mean() <= tolerance / 2


def test_boxes_and_masks_are_those_of_the_library(weights, tmp_path):
    from mmdet.apis import inference_detector, init_detector
    cfg = load_config(str(RCNN), NARROW)
    image = photo((96, 120))
    predictor = Predictor(cfg, weights, 'cpu')
    entries = predictor.entries(predictor.predict(image), 3)
    expected = inference_detector(init_detector(load_config(str(RCNN), NARROW), weights, device='cpu'),
                                  image).pred_instances
    assert len(entries) == len(expected) > 5
    for i, entry in enumerate(entries):
        assert entry['image_id'] == 3
        assert entry['category_id'] == expected.labels[i]
        assert entry['score'] == pytest.approx(expected.scores[i].item())
        left, top, width, height = entry['bbox']
        np.testing.assert_allclose([left, top, left + width, top + height], expected.bboxes[i], rtol=1e-5, atol=1e-4)
        mask = coco.decode(entry['segmentation'])
        np.testing.assert_array_equal(mask, np.asarray(expected.masks[i]))
        assert entry['area'] == mask.sum()
    json.dumps(entries)


def test_panoptic(tmp_path, save_weights, thin_config):
    cfg = thin_config('mmdet/mask2former_focalnet_t_shapes_panoptic.py')
    path = save_weights(cfg, tmp_path / 'x.pth')
    predictor = Predictor(cfg, path, 'cpu')
    image = photo((64, 96))
    sample = predictor.predict(image)
    segments = torch.zeros(1, 64, 96, dtype=torch.int64)
    # A circle, another one, a background of stuff, and a part that belongs to nothing.
    things, classes = 5, len(predictor.classes)
    segments[:, :10, :10], segments[:, 20:30, :10] = 1000, 2000
    segments[:, 40:], segments[:, 40:50, 50:] = things, classes
    sample.pred_panoptic_seg.sem_seg = segments
    entries = predictor.entries(sample, 1)
    assert [(entry['category_id'], entry['isthing'], entry['area']) for entry in entries] == [
        (0, 1, 40 * 96 - 200), (things, 0, 24 * 96 - 10 * 46), (0, 1, 100), (0, 1, 100)]
    assert predictor.draw(image, sample).shape == image.shape
    sample.pred_panoptic_seg.sem_seg = torch.full_like(segments, classes)
    assert predictor.entries(sample, 1) == []
    np.testing.assert_array_equal(predictor.draw(image, sample), image)


@pytest.mark.slow
def test_label_maps_are_those_of_the_library(tmp_path, save_weights, thin_config):
    from mmseg.apis import inference_model
    cfg = thin_config('mmseg/upernet_focalnet_t_160k.py')
    cfg.test_dataloader.dataset.pipeline[1].scale = (128, 96)
    cfg.model.decode_head.num_classes = cfg.model.auxiliary_head.num_classes = 4
    path = save_weights(cfg, tmp_path / 'x.pth', dataset_meta=dict(classes=list('abcd'), palette=[[i] * 3 for i in (
        0, 80, 160, 240)]))
    predictor = Predictor(cfg, path, 'cpu')
    assert predictor.classes == tuple('abcd')
    image = photo()
    sample = predictor.predict(image)
    found = np.full(image.shape[:2], -1)
    for entry in predictor.entries(sample, 1):
        mask = coco.decode(entry['segmentation']).astype(bool)
        assert (found[mask] == -1).all()
        found[mask] = entry['category_id']
    cfg = thin_config('mmseg/upernet_focalnet_t_160k.py')
    cfg.test_dataloader.dataset.pipeline[1].scale = (128, 96)
    cfg.model.decode_head.num_classes = cfg.model.auxiliary_head.num_classes = 4
    model = load_model(cfg, path)
    model.cfg = cfg
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    expected = inference_model(model, image).pred_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(found, expected)
    assert predictor.draw(image, sample).shape == image.shape
    pixel = image[:1, :1]
    np.testing.assert_array_equal(predictor.draw(pixel, predictor.predict(pixel)), pixel)


def test_classes_are_those_of_the_library(tmp_path, save_weights, thin_config):
    cfg = thin_config('mmpretrain/focalnet_t_in1k.py')
    path = save_weights(cfg, tmp_path / 'x.pth')
    predictor = Predictor(cfg, path, 'cpu')
    assert len(predictor.classes) == 1000
    image = photo((300, 240))
    sample = predictor.predict(image)
    entries = predictor.entries(sample, 1)
    cv2.imwrite(str(tmp_path / 'photo.png'), image)
    load = Compose(cfg.test_dataloader.dataset.pipeline)
    data = load(dict(img_path=str(tmp_path / 'photo.png')))
    with torch.no_grad():
        expected = load_model(cfg, path).test_step(pseudo_collate([data]))[0]
    assert len(entries) == 5
    assert entries[0]['category_id'] == expected.pred_label.item()
    assert entries[0]['score'] == pytest.approx(expected.pred_score.max().item(), rel=1e-4)
    assert sorted((entry['score'] for entry in entries), reverse=True) == [entry['score'] for entry in entries]
    assert predictor.draw(image, sample).shape[2] == 3


@pytest.mark.parametrize('folder', ['coco', 'ade'])
def test_real_photos(folder, weights, tmp_path, request, predict):
    samples = request.getfixturevalue(f'{folder}_samples')
    photos = sorted(samples.rglob('*.jpg'))[:2]
    predict(RCNN, weights, *photos, '--out', tmp_path / 'out')
    found = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert [(image['height'], image['width']) for image in found['images']] == [
        cv2.imread(str(path)).shape[:2] for path in photos]


class TestVideo:

    @pytest.fixture(scope='class')
    def video(self, tmp_path_factory):
        path = tmp_path_factory.mktemp('video') / 'a film.avi'
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (90, 60))
        for seed in range(4):
            writer.write(photo(seed=seed))
        writer.release()
        return path

    def test_frames(self, video):
        count, rate, frames = read_video(video)
        assert (count, rate) == (4, 5)
        for seed, frame in enumerate(frames):
            assert np.abs(frame.astype(int) - photo(seed=seed).astype(int)).mean() < 6
        assert seed == 3

    def test_tool(self, video, weights, tmp_path, predict):
        predict(RCNN, weights, video, '--out', tmp_path / 'out')
        found = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
        assert [image['frame'] for image in found['images']] == [0, 1, 2, 3]
        count, rate, frames = read_video(tmp_path / 'out' / 'pictures' / 'a film.avi.mp4')
        assert (count, rate, next(frames).shape) == (4, 5, (60, 90, 3))

    def test_no_video(self, tmp_path):
        (tmp_path / 'x.mp4').write_text('no film')
        with pytest.raises(ValueError, match=r'x.mp4 is damaged or no video that OpenCV can read: convert it to MP4'):
            read_video(tmp_path / 'x.mp4')




class TestRefusals:

    def test_nothing_is_overwritten(self, weights, tmp_path, predict):
        (tmp_path / 'x.png').write_bytes(cv2.imencode('.png', photo())[1].tobytes())
        out = predict(RCNN, weights, tmp_path / 'x.png', '--out', tmp_path, expect=1)
        assert re.search(r'^predict.py: \S+ is not empty: name another folder, or add --force', out, re.M)
        predict(RCNN, weights, tmp_path / 'x.png', '--out', tmp_path, '--force')
        assert (tmp_path / 'pictures' / 'x.png').is_file()

    def test_checkpoint_of_another_config(self, weights, tmp_path):
        cfg = load_config(str(RCNN), {**NARROW, 'model.backbone.depths': (1, 1, 1, 2)})
        with pytest.raises(ValueError, match=r"is not of this config: it lacks \d+ of the model's"):
            Predictor(cfg, weights, 'cpu')

    def test_another_library(self, weights):
        cfg = load_config(str(RCNN), {**NARROW, 'default_scope': 'mmpose', 'model._scope_': 'mmpose'})
        with pytest.raises(ValueError, match="The model is of 'mmpose', expected mmdet, mmseg or mmpretrain"):
            Predictor(cfg, weights, 'cpu')
