"""tools/explain.py, and its page in a real browser."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from focalnet_mm.data.shapes import write_dataset
from focalnet_mm.explain import focal_maps
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from focalnet_mm.run.images import ImagePipeline
from tests.helpers.tools import ROOT

CONFIG = ROOT / 'configs/mmdet/maskrcnn_focalnet_t_shapes.py'
OPTIONS = ['model.backbone.embed_dims=8', 'model.neck.in_channels=[8,16,32,64]']

SOFT_TEACHER = """
_base_ = '{base}'
detector = _base_.model
detector.backbone.update(depths=(1, 1, 1, 1), embed_dims=8)
detector.neck.in_channels = [8, 16, 32, 64]
preprocessor = dict(type='MultiBranchDataPreprocessor', data_preprocessor=detector.data_preprocessor)
model = dict(_delete_=True, type='SoftTeacher', detector=detector, data_preprocessor=preprocessor,
             semi_train_cfg=dict(), semi_test_cfg=dict(predict_on='teacher'))
"""


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, save_weights):
    cfg = load_config(str(CONFIG), {'model.backbone.embed_dims': 8, 'model.neck.in_channels': [8, 16, 32, 64]})
    return cfg, save_weights(cfg, tmp_path_factory.mktemp('weights') / 'thin.pth')


@pytest.fixture(scope='module')
def gallery(checkpoint, tmp_path_factory, tool):
    folder = tmp_path_factory.mktemp('explain')
    # The name of the second picture, with its folder, would end a script.
    (folder / 'my photos' / '<').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (('a.png', (40, 60)), ('</script>ü.png', (50, 30))):
        cv2.imwrite(str(folder / 'my photos' / name), cv2.resize(
            rng.integers(256, size=(5, 5, 3), dtype=np.uint8), size[::-1]))
    (folder / 'my photos' / 'broken.jpg').write_text('no picture')
    out = tool('explain.py', CONFIG, folder / 'my photos', '--checkpoint', checkpoint[1], '--out', folder / 'out',
               '--cfg-options', *OPTIONS, expect=1)
    return folder, out


def test_tool(gallery):
    folder, out = gallery
    assert re.search(r'explain.py: \S+/my photos/broken.jpg \(10 bytes\) is damaged or no image', out)
    assert out.endswith('explain.py: 1 of 3 inputs could not be read, see above.\n')
    figure = cv2.imread(str(folder / 'out' / 'figures' / 'a.png.png'))
    assert figure.shape[1] > figure.shape[0] > 600
    assert cv2.imread(str(folder / 'out' / 'kernels.png')).std() > 10


def test_page(gallery, checkpoint, page_of):
    """The values that the page shows are those of the maps, and the sliders change its pictures."""
    folder, _ = gallery
    cfg, path = checkpoint
    with page_of(folder / 'out' / 'index.html', viewport=dict(width=1200, height=800)) as (page, errors):
        page.wait_for_selector('canvas')

        def pictures():
            return page.eval_on_selector_all('canvas', 'all => all.map(one => one.toDataURL())')

        def values():
            return [float(text) for text in page.eval_on_selector_all(
                '.value', 'all => all.map(one => one.textContent)')]

        assert page.locator('#image option').all_text_contents() == ['</script>ü.png', 'a.png']
        page.select_option('#image', label='a.png')
        page.wait_for_function("document.querySelector('img').alt === 'a.png'")
        model = load_model(cfg, path)
        image = folder / 'my photos' / 'a.png'
        maps = focal_maps(model, ImagePipeline(cfg)(image).batch)
        seen = [pictures()]
        for stage, block in ((0, 0), (0, 1), (3, 0)):
            for name, value in (('stage', stage), ('block', block)):
                page.locator(f'#{name}').fill(str(value))
            assert page.text_content('#stage-now') == str(stage)
            assert page.text_content('#block-now') == str(block)
            seen.append(pictures())
            # The middle of the image lies in the middle cell of each map.
            found = maps[stage, block]
            row = column = 80 // found.stride
            expected = [*found.gates[0, :, row, column].tolist(), found.norm[0, row, column].item()]
            np.testing.assert_allclose(values(), expected, rtol=1e-3, atol=1e-3)
        assert len({str(part) for part in seen}) == 4

        before = values()
        page.locator('#panels').focus()
        page.keyboard.press('ArrowLeft')
        assert page.text_content('#state').startswith('Values at x 76, y 80 of 160 × 160 pixels')
        page.locator('#stage').focus()
        page.keyboard.press('ArrowLeft')
        assert page.text_content('#stage-now') == '2'
        assert values() != before
        box = page.locator('.picture').nth(1).bounding_box()
        page.mouse.move(box['x'] + 2, box['y'] + 2)
        assert page.text_content('#state').startswith('Values at x 0, y 0 ') or 'x 1, y 1 ' in page.text_content(
            '#state')
        assert errors == []


NAMES = ['<!--<script>.jpg', '</script>.png', 'a"b\'c&amp;.png', '{{data}}{% raw %}{# x #}.png', 'line\u2028end.png',
         os.fsdecode(b'caf\xe9.png'), '$\\frac$ `${1}`.png']
SHOWN = [*NAMES[:5], 'caf\\xe9.png', NAMES[6]]


@pytest.fixture(scope='module')
def strange_page(tmp_path_factory):
    """A gallery whose every text is strange."""
    from focalnet_mm import FocalNet
    from focalnet_mm.explain import plot_focal_maps, receptive_fields
    from focalnet_mm.explain.figures import pixels
    from focalnet_mm.explain.gallery import Gallery
    net = FocalNet(arch=dict(embed_dims=8, depths=(1, 1), focal_levels=1, focal_windows=3)).eval()
    gallery = Gallery(tmp_path_factory.mktemp('strange'), NAMES[0], dict(zip(NAMES, reversed(NAMES))))
    picture = np.zeros((16, 16, 3), np.uint8)
    for name in NAMES:
        maps = focal_maps(net, torch.rand(1, 3, 16, 16))
        gallery.add(name, picture, maps)
        assert pixels(plot_focal_maps(picture, maps, title=name)).std() > 10
    return gallery.finish(receptive_fields(net), None)


def test_texts_are_texts(strange_page):
    """Read by Python's parser of HTML: every text as it is, and no element that a name has made."""
    tags, texts, data = [], {'dt': [], 'dd': [], 'h1': [], 'title': []}, []

    class Reader(HTMLParser):

        def handle_starttag(self, tag, attributes):
            tags.append(tag)
            if tag in texts:
                texts[tag].append('')

        def handle_data(self, text):
            if not tags:
                return
            if tags[-1] in texts and text.strip():
                texts[tags[-1]][-1] += text
            elif tags[-1] == 'script':
                data.append(text)

        def handle_comment(self, text):
            raise AssertionError(text)

    Reader().feed(strange_page.read_text(encoding='utf-8'))
    assert texts == dict(dt=SHOWN, dd=SHOWN[::-1], h1=SHOWN[:1], title=SHOWN[:1])
    assert tags.count('script') == 2
    assert [image['name'] for image in json.loads(data[0])['images']] == SHOWN


def test_texts_in_a_browser(strange_page, page_of):
    with page_of(strange_page) as (page, errors):
        page.wait_for_selector('canvas')
        assert page.locator('#image option').all_text_contents() == SHOWN
        assert page.locator('dd').all_text_contents() == SHOWN[::-1]
        assert errors == []


def test_a_model_with_two_backbones(tmp_path, tool, gallery):
    """A semi-supervised detector: the backbone has to be named, by its name or by that of its part."""
    (tmp_path / 'soft.py').write_text(SOFT_TEACHER.format(base=CONFIG))
    image = gallery[0] / 'my photos' / 'a.png'
    out = tool('explain.py', tmp_path / 'soft.py', image, '--out', tmp_path / 'out', expect=1)
    assert out.endswith('explain.py: One FocalNet was expected in the model, but the SoftTeacher has 2: '
                        'student.backbone, teacher.backbone. Name one of them as the backbone, or pass the part that '
                        'has it.\n')
    assert not (tmp_path / 'out').exists()
    tool('explain.py', tmp_path / 'soft.py', image, '--out', tmp_path / 'out', '--backbone', 'teacher')
    assert cv2.imread(str(tmp_path / 'out' / 'figures' / 'a.png.png')).std() > 10


def test_modulator_on_objects(checkpoint, tmp_path, tool):
    write_dataset(tmp_path / 'shapes', train=4, val=4, size=96)
    out = tool('explain.py', CONFIG, '--objects', '--checkpoint', checkpoint[1], '--stage', 0, '--cfg-options',
               f'data_root={tmp_path}/shapes/coco', 'val_dataloader.num_workers=0',
               'val_dataloader.persistent_workers=False', *OPTIONS)
    assert re.search(r'stage  block  modulator norm on objects / elsewhere\n +0 +0 +\d\.\d\d\n +0 +1 +\d\.\d\d\n$', out)


def test_page_on_a_phone(gallery, page_of):
    with page_of(gallery[0] / 'out' / 'index.html', viewport=dict(width=360, height=700), has_touch=True,
                 is_mobile=True) as (page, errors):
        page.wait_for_selector('canvas')
        assert page.evaluate('document.documentElement.scrollWidth') <= 360
        box = page.locator('.picture').nth(0).bounding_box()
        page.touchscreen.tap(box['x'] + box['width'] - 3, box['y'] + 3)
        assert not page.text_content('#state').startswith('Values at x 80')
        assert errors == []


def test_missing_maps_are_reported(gallery, tmp_path, page_of):
    page_file = tmp_path / 'index.html'
    page_file.write_text((gallery[0] / 'out' / 'index.html').read_text())
    with page_of(page_file) as (page, _):
        page.wait_for_function("document.getElementById('state').textContent.includes('missing')")
        assert page.text_content('#state') == 'maps/0000.js is missing: keep it beside this page.'


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'name pictures, or add --objects'),
    (['x.png'], 'name a folder for the pictures with --out'),
    (['x.png', '--out', '{tmp}/new'], 'explain.py: x.png does not exist: name pictures, videos or folders of them.'),
    (['{here}', '--out', '{here}'], 'is not empty: name another folder, or add --force to replace files in it.'),
    (['{here}/test_gallery.py', '--out', '{tmp}/new', '--stage', '4'], 'explain.py: There is no stage 4: the backbone '
     'has 4, 0 to 3.'),
    (['{here}/test_gallery.py', '--out', '{tmp}/new'], 'none of the inputs could be read'),
])
def test_bad_arguments(arguments, message, tmp_path, tool):
    arguments = [part.format(tmp=tmp_path, here=Path(__file__).parent) for part in arguments]
    out = tool('explain.py', CONFIG, *arguments, '--cfg-options', *OPTIONS, expect=1)
    assert message in out
    assert 'Traceback' not in out
