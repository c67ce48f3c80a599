"""Images of any channels and depth: the predictions are those of the library's own test on the same files."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from PIL import Image
from pycocotools import mask as coco

from focalnet_mm.predict import Predictor
from focalnet_mm.run.images import ImagePipeline

pytestmark = pytest.mark.slow

LIBRARIES = ['mmdet', 'mmseg', 'mmpretrain']
UNCHANGED = dict(type='LoadImageFromFile', color_type='unchanged')
KINDS = {
    'grey, 8 bits': (1, np.uint8, dict(type='LoadImageFromFile', color_type='grayscale')),
    'grey, 16 bits': (1, np.uint16, UNCHANGED),
    'colour, 8 bits': (3, np.uint8, dict(type='LoadImageFromFile')),
    'colour, 16 bits': (3, np.uint16, UNCHANGED),
    'four channels, 8 bits': (4, np.uint8, UNCHANGED),
    'four channels, 16 bits': (4, np.uint16, UNCHANGED),
    'six channels, 16 bits': (6, np.uint16, dict(type='LoadArray')),
    'six files, 16 bits': (6, np.uint16, dict(type='mmdet.LoadMultiChannelImageFromFiles')),
}


def image_of(channels, dtype, seed):
    image = np.random.default_rng(seed).integers(np.iinfo(dtype).max // 8, size=(5, 6, channels)).astype(dtype)
    image = np.dstack([cv2.resize(image[..., i], (90, 60)) for i in range(channels)])
    return image[..., 0] if channels == 1 else image


def write(folder, image, loader, seed):
    """A picture as the loader takes it: what the data set gives it, and what a user names."""
    if loader['type'] == 'LoadArray':
        np.save(folder / f'{seed}.npy', image)
        return str(folder / f'{seed}.npy'), folder / f'{seed}.npy'
    if loader['type'].endswith('FromFiles'):
        (folder / str(seed)).mkdir()
        # Their order is that of the numbers.
        files = [str(folder / str(seed) / f'band{i + 5}.png') for i in range(image.shape[2])]
        for i, file in enumerate(files):
            cv2.imwrite(file, image[..., i])
        return files, folder / str(seed)
    cv2.imwrite(str(folder / f'{seed}.png'), image)
    return str(folder / f'{seed}.png'), folder / f'{seed}.png'


def assert_same(entries, expected, scope):
    if scope == 'mmdet':
        expected = expected['pred_instances']
        assert len(entries) == len(expected['scores']) > 5
        np.testing.assert_allclose([entry['score'] for entry in entries], expected['scores'], rtol=1e-5)
        assert [entry['category_id'] for entry in entries] == expected['labels'].tolist()
        boxes = np.array([entry['bbox'] for entry in entries])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected['bboxes'], rtol=1e-4, atol=1e-3)
        assert [entry['segmentation']['counts'].encode() for entry in entries] == [
            mask['counts'] for mask in expected['masks']]
    elif scope == 'mmseg':
        labels = expected['pred_sem_seg']['data'][0].numpy()
        assert len(np.unique(labels)) == len(entries) > 1
        for entry in entries:
            np.testing.assert_array_equal(coco.decode(entry['segmentation']), labels == entry['category_id'])
    else:
        best = expected['pred_score'].topk(5)
        np.testing.assert_allclose([entry['score'] for entry in entries], best.values, rtol=1e-5)
        assert [entry['category_id'] for entry in entries] == best.indices.tolist()


@pytest.mark.parametrize('scope', LIBRARIES)
@pytest.mark.parametrize('kind', KINDS)
def test_predictions_are_those_of_the_test(kind, scope, config_for, save_weights, tested, tmp_path):
    channels, dtype, loader = KINDS[kind]
    cfg = config_for(scope, channels, loader)
    checkpoint = save_weights(cfg, tmp_path / 'x.pth')
    images = [image_of(channels, dtype, seed) for seed in range(2)]
    files = [write(tmp_path, image, loader, seed)[0] for seed, image in enumerate(images)]
    expected = tested(cfg, checkpoint, files, tmp_path)
    predictor = Predictor(cfg, checkpoint, 'cpu')
    for file, image, of_test in zip(files, images, expected):
        loaded = predictor.load(file)
        np.testing.assert_array_equal(loaded.image.squeeze(), image)
        sample = predictor.predict(loaded)
        assert_same(predictor.entries(sample, 1), of_test, scope)
        drawn = predictor.draw(loaded.image, sample)
        assert (drawn.shape, drawn.dtype) == ((60, 90, 3), np.uint8)
        # What was loaded in another way is taken as it is.
        assert_same(predictor.entries(predictor.predict(image), 1), of_test, scope)


@pytest.fixture(scope='module')
def odd_files(tmp_path_factory):
    """What people have, all of it colour to an ordinary loader."""
    folder = tmp_path_factory.mktemp('odd')
    colour = image_of(3, np.uint8, 3)
    picture = Image.fromarray(colour[..., ::-1] * 7)
    picture.convert('L').save(folder / 'grey.png')
    picture.convert('1').save(folder / 'bits.png')
    picture.convert('P').save(folder / 'palette.png')
    picture.convert('CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(np.dstack([colour * 7, colour[..., :1]])).save(folder / 'clear.png')
    picture.convert('LA').save(folder / 'grey and clear.png')
    picture.save(folder / 'picture.gif')
    picture.save(folder / 'picture.webp')
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(folder / 'turned.jpg', exif=turned)
    cv2.imwrite(str(folder / 'deep.tif'), image_of(3, np.uint16, 3))
    cv2.imwrite(str(folder / 'deep grey.tif'), image_of(1, np.uint16, 3))
    cv2.imwrite(str(folder / 'one.png'), colour[:1, :1])
    cv2.imwrite(str(folder / 'long.png'), cv2.resize(colour, (5000, 10)))
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize(('scope', 'loader'), [
    ('mmseg', dict(type='LoadImageFromFile')), ('mmdet', dict(type='LoadImageFromFile', imdecode_backend='pillow')),
    ('mmpretrain', dict(type='LoadImageFromFile', color_type='color_ignore_orientation', to_float32=True)),
    ('mmpretrain', UNCHANGED)], ids=str)
def test_odd_files(loader, scope, odd_files, config_for, save_weights, tested, tmp_path):
    """Turned or not, of whatever depth: as the test of the library has it."""
    cfg = config_for(scope, 3, loader)
    checkpoint = save_weights(cfg, tmp_path / 'x.pth')
    predictor = Predictor(cfg, checkpoint, 'cpu')
    pipeline = Compose([cfg.test_dataloader.dataset.pipeline[0]])
    files = []
    for file in odd_files:
        try:
            image = pipeline(dict(img_path=file))['img']
        except Exception:
            with pytest.raises(ValueError, match='is damaged or no image that LoadImageFromFile'):
                predictor.load(file)
            continue
        np.testing.assert_array_equal(predictor.load(file).image, image)
        if image.shape[2:] == (3,):
            files.append(file)
    assert len(files) >= 5
    shape = predictor.load(next(file for file in files if file.endswith('turned.jpg'))).image.shape[:2]
    stays = loader.get('color_type') in ('unchanged', 'color_ignore_orientation')
    assert shape == ((60, 90) if stays else (90, 60))
    for file, of_test in zip(files, tested(cfg, checkpoint, files, tmp_path), strict=True):
        sample = predictor.predict(file)
        entries = predictor.entries(sample, 1)
        if file.endswith('one.png'):
            continue
        assert_same(entries, of_test, scope)
        loaded = predictor.load(file)
        assert predictor.draw(loaded.image, sample).shape == (*loaded.image.shape[:2], 3)


@pytest.mark.parametrize('loader', [dict(type='LoadImageFromNDArray'), dict(type='LoadImageFromFile')])
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_arrays_of_a_loader_that_takes_no_files(scope, loader, config_for, tmp_path):
    cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
    loaded = ImagePipeline(config_for(scope, 3, loader))(tmp_path / 'x.png')
    np.testing.assert_array_equal(loaded.image, image_of(3, np.uint8, 0))


class TestSteps:

    def test_storage_is_that_of_the_named_file(self, config_for, tmp_path):
        """A local file is no entry of the data base that the config's data set lies in; a URL is read as it says."""
        cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
        loader = dict(type='LoadImageFromFile', backend_args=dict(backend='lmdb', db_path=str(tmp_path / 'nowhere')))
        pipeline = ImagePipeline(config_for('mmdet', 3, loader))
        np.testing.assert_array_equal(pipeline(tmp_path / 'x.png').image, image_of(3, np.uint8, 0))
        with pytest.raises(ValueError, match=r's3://bucket/x\.png is damaged or no image that LoadImageFromFile'):
            pipeline('s3://bucket/x.png')

    def test_url(self, config_for, serve, tmp_path):
        cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
        with serve() as served:
            served.files['/x.png'] = (tmp_path / 'x.png').read_bytes()
            image = ImagePipeline(config_for('mmseg', 3, dict(type='LoadImageFromFile')))(f'{served.url}/x.png').image
        np.testing.assert_array_equal(image, image_of(3, np.uint8, 0))

    def test_a_step_that_fails(self, config_for, tmp_path):
        """Without a picture that could be loaded it is no error of the picture."""
        cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
        cfg = config_for('mmdet', 3, dict(type='LoadImageFromFile'))
        cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='Normalize', mean=[0.0] * 7, std=[1.0] * 7))
        with pytest.raises(ValueError, match=r'x\.png was read as 90 × 60 pixels of 3 channels in uint8, and the step '
                                             r'Normalize of the config.s test pipeline fails on it: '):
            ImagePipeline(cfg)(tmp_path / 'x.png')

    def test_own_annotations_are_left_out_and_told(self, config_for, tmp_path, log):
        cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
        cfg = config_for('mmdet', 3, dict(type='LoadImageFromFile'))
        cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='LoadTruth'))
        pipeline = ImagePipeline(cfg)
        for _ in range(2):
            np.testing.assert_array_equal(pipeline(tmp_path / 'x.png').image, image_of(3, np.uint8, 0))
        assert [line for line in log if 'left out' in line] == [
            "The step LoadTruth of the test pipeline is left out: it needs 'truth', which only a data set has."]

    def test_what_only_a_data_set_gives(self, config_for, tmp_path):
        """A pair of pictures, for example, is no damage of one of them."""
        cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
        pipeline = ImagePipeline(config_for('mmseg', 6, dict(type='LoadPair')))
        with pytest.raises(ValueError, match=r"x\.png cannot be loaded by itself: LoadPair of the config's test "
                                             r"pipeline needs 'img_path2' too, which only its data set gives;"):
            pipeline(tmp_path / 'x.png')

    def test_annotations_within_augmentation(self, config_for, tmp_path):
        """As mmseg's pipelines for test-time augmentation have them."""
        cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
        cfg = config_for('mmseg', 3, dict(type='LoadImageFromFile'))
        load, *_, pack = cfg.test_dataloader.dataset.pipeline
        cfg.test_dataloader.dataset.pipeline = [load, dict(type='TestTimeAug', transforms=[
            [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)], [dict(type='LoadAnnotations')], [pack]])]
        views = ImagePipeline(cfg)(tmp_path / 'x.png').batch['inputs']
        assert len(views) == 2
        assert torch.equal(views[0][0], views[1][0].flip(2))

    @pytest.mark.parametrize('several', [False, True])
    def test_scope_of_the_data_set(self, several, config_for, tmp_path):
        """Also of the first of several data loaders."""
        cv2.imwrite(str(tmp_path / 'x.png'), image_of(3, np.uint8, 0))
        cfg = config_for('mmdet', 3, dict(type='LoadImageFromFile'))
        cfg.default_scope = 'mmengine'
        cfg.test_dataloader.dataset._scope_ = 'mmdet'
        if several:
            cfg.test_dataloader = [cfg.test_dataloader, dict(dataset=dict(pipeline=[]))]
        assert ImagePipeline(cfg)(tmp_path / 'x.png').image.shape == (60, 90, 3)

    def test_endings_of_the_data_set(self, config_for):
        cfg = config_for('mmseg', 3, dict(type='LoadArray'))
        cfg.test_dataloader.dataset.img_suffix = '.npy'
        assert ImagePipeline(cfg).endings == ('.npy',)

    def test_no_pipeline(self, config_for):
        cfg = config_for('mmdet', 3, dict(type='LoadImageFromFile'))
        cfg.test_dataloader = None
        with pytest.raises(ValueError, match='The config has no pipeline in its test_dataloader'):
            ImagePipeline(cfg)
