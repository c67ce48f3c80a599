"""Damaged annotations and what is told of each: ``python -m tests.helpers.wrong_annotations`` prints the table.

Each is looked at by what ``focalnet-mm check --no-train`` does. It must be told, by an error or by what it calls
suspicious; what the libraries leave out or take as it is must be told so too.
"""

import contextlib
import io
import json
import re
import sys
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np

from focalnet_mm.new.check import check_config
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import mmdet, mmdet_more, mmpretrain, mmseg


def boxes(root):
    """Boxes and polygons in COCO's format."""
    return mmdet.config(*mmdet.coco_sets(root), mmdet.coco_metric(root), with_mask=True)


FORMS = dict(coco=boxes, panoptic=mmdet_more.panoptic, voc=mmdet.voc, maps=mmseg.plain_folders, list=mmpretrain.lists)


def entry(change, table='annotations', index=0):
    """Change one entry of a table of COCO's file for training."""
    def damage(root):
        content = json.loads((root / 'train.json').read_text())
        row = content[table][index]
        new = change(row) if callable(change) else change
        if isinstance(new, dict):
            row.update(new)
        (root / 'train.json').write_text(json.dumps(content))
    return damage


def content(change):
    """Change the whole of it."""
    def damage(root):
        found = json.loads((root / 'train.json').read_text())
        (root / 'train.json').write_text(json.dumps(change(found)))
    return damage


def raw(change, name='train.json'):
    """Change the bytes of a file."""
    def damage(root):
        (root / name).write_bytes(change((root / name).read_bytes()))
    return damage


def lacks(key, table='annotations'):
    return entry(lambda row: row.pop(key) and None, table)


def label_map(change, name='ann/train/0.png'):
    def damage(root):
        pixels = cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(root / name), change(pixels))
    return damage


def pixel(value, dtype=np.uint8):
    """One pixel of another number."""
    def change(pixels):
        pixels = pixels.astype(dtype)
        pixels[0, 0] = value
        return pixels
    return change


def segment(change):
    def damage(root):
        found = json.loads((root / 'train.json').read_text())
        change(found['annotations'][0]['segments_info'])
        (root / 'train.json').write_text(json.dumps(found))
    return damage


def line(text):
    """Put a line in the place of the first of a classifier's list."""
    return raw(lambda old: text + b'\n' + old.partition(b'\n')[2], 'train.txt')


def removed(name):
    return lambda root: (root / name).unlink()


XML = 'VOC2007/Annotations/train0.xml'
#: Form and damage → what is told, or ``None`` where the library takes it as it is and nothing is told: pictures that
#: stand there twice are one, and pixels of a segment that the file lacks are void.
DAMAGES = {
    ('coco', 'NaN'): (entry(dict(bbox=[float('nan'), 6, 24, 20])), 'leaves out 1 of the 4'),
    ('coco', 'infinite'): (entry(dict(bbox=[4, 6, float('inf'), 20])), '4, 6, inf'),
    ('coco', 'outside'): (entry(dict(bbox=[400, 600, 24, 20])), 'leaves out 1 of the 4'),
    ('coco', 'reaching out'): (entry(dict(bbox=[40, 40, 60, 60])), 'outside|reach'),
    ('coco', 'negative width'): (entry(dict(bbox=[30, 30, -24, -20])), 'leaves out 1 of the 4'),
    ('coco', 'no width'): (entry(dict(bbox=[4, 6, 0, 20])), 'leaves out 1 of the 4'),
    ('coco', 'below a pixel'): (entry(dict(bbox=[4, 6, 0.5, 0.5])), 'leaves out 1 of the 4'),
    ('coco', 'corners in place of sizes'): (content(lambda c: {**c, 'annotations': [
        {**a, 'bbox': [40, 40, 60, 62]} for a in c['annotations']]}), 'corners|outside|reach'),
    ('coco', 'three numbers'): (entry(dict(bbox=[4, 6, 24])), r'train\.json, which train_dataloader.dataset reads'),
    ('coco', 'text for numbers'): (entry(dict(bbox=['4', '6', '24', '20'])), r'train\.json, which'),
    ('coco', 'a box of null'): (entry(dict(bbox=None)), r'train\.json, which'),
    ('coco', 'unknown category'): (entry(dict(category_id=77)), r'category_id is not in its categories \(77\)'),
    ('coco', 'unknown picture'): (entry(dict(image_id=77)), r'image_id is not in its images \(77\)'),
    ('coco', 'category of text'): (entry(dict(category_id='1')), 'category_id is not in its categories'),
    ('coco', 'no category'): (lacks('category_id'), 'category_id'),
    ('coco', 'no box'): (lacks('bbox'), 'bbox'),
    ('coco', 'no area'): (lacks('area'), 'area'),
    ('coco', 'no iscrowd'): (lacks('iscrowd'), None),
    ('coco', 'no picture'): (lacks('image_id'), 'image_id'),
    ('coco', 'no id'): (lacks('id'), 'id'),
    ('coco', 'repeated id'): (entry(dict(id=2)), 'id'),
    ('coco', 'stands there twice'): (content(lambda c: {**c, 'annotations': [
        *c['annotations'], {**c['annotations'][0], 'id': 99}]}), 'repeated'),
    ('coco', 'area of zero'): (entry(dict(area=0)), 'leaves out 1 of the 4'),
    ('coco', 'all crowd'): (content(lambda c: {**c, 'annotations': [
        {**a, 'iscrowd': 1} for a in c['annotations']]}), 'is a crowd'),
    ('coco', 'polygon of two points'): (entry(dict(segmentation=[[4, 6, 28, 6]])), 'of fewer than three points'),
    ('coco', 'polygon of odd length'): (entry(dict(segmentation=[[4, 6, 28, 6, 28, 26, 4]])), 'of half a point'),
    ('coco', 'polygon outside'): (entry(dict(segmentation=[[400, 600, 428, 600, 428, 626]])), 'outside|outline'),
    ('coco', 'RLE of another size'): (entry(dict(segmentation=dict(size=[10, 10], counts=[0, 100]))), 'size|mask'),
    ('coco', 'RLE that is cut'): (entry(dict(segmentation=dict(size=[64, 64], counts='\x01'))), 'mask|RLE|segm'),
    ('coco', 'segmentation of text'): (entry(dict(segmentation='polygon')), r'0\.jpg or its annotations'),
    ('coco', 'no segmentation'): (lacks('segmentation'), 'mask|segm'),
    ('coco', 'no file name'): (lacks('file_name', 'images'), 'file_name'),
    ('coco', 'no width of a picture'): (lacks('width', 'images'), 'width'),
    ('coco', 'another width of a picture'): (entry(dict(width=640), 'images'), 'size|640|width'),
    ('coco', 'a picture that is not there'): (entry(dict(file_name='train/nowhere.jpg'), 'images'), 'nowhere'),
    ('coco', 'repeated picture'): (content(lambda c: {**c, 'images': [*c['images'], c['images'][0]]}),
                                   None),
    ('coco', 'two categories of a name'): (entry(dict(name='ball'), 'categories'), "ball"),
    ('coco', 'no categories'): (content(lambda c: {**c, 'categories': []}), 'categor|class'),
    ('coco', 'no table of categories'): (content(lambda c: {k: v for k, v in c.items() if k != 'categories'}),
                                         'categor'),
    ('coco', 'no table of annotations'): (content(lambda c: {k: v for k, v in c.items() if k != 'annotations'}),
                                         'no_objects'),
    ('coco', 'no table of images'): (content(lambda c: {k: v for k, v in c.items() if k != 'images'}), 'has no items'),
    ('coco', 'no annotations'): (content(lambda c: {**c, 'annotations': []}), 'no item|no object|none'),
    ('coco', 'a list'): (content(lambda c: [c]), r'train\.json'),
    ('coco', 'cut'): (raw(lambda data: data[:len(data) // 2]), r'train\.json'),
    ('coco', 'empty'): (raw(lambda data: b''), r'train\.json'),
    ('coco', 'UTF-16'): (raw(lambda data: data.decode().encode('utf-16')), r'train\.json'),
    ('coco', 'Latin-1'): (raw(lambda data: data.replace(b'box', b'b\xf6x')), r'train\.json'),
    ('coco', 'not there'): (removed('train.json'), r'train\.json.*does not exist'),
    ('panoptic', 'unknown category'): (segment(lambda s: s[0].update(category_id=99)), '99|category'),
    ('panoptic', 'a segment that the map lacks'): (segment(lambda s: s.append({**s[0], 'id': 700})), 'has no pixel'),
    ('panoptic', 'a segment that the file lacks'): (segment(lambda s: s.pop()), None),
    ('panoptic', 'no map'): (removed('segments/train0.png'), r'train0\.png'),
    ('panoptic', 'a map of another size'): (label_map(lambda p: p[:32], 'segments/train0.png'), 'size|32'),
    ('panoptic', 'a map of grey'): (label_map(lambda p: p[..., 2], 'segments/train0.png'), 'has no pixel'),
    ('voc', 'unknown class'): (raw(lambda data: data.replace(b'cat', b'cot'), XML), r"leaves out 1 objects, .*'cot'"),
    ('voc', 'cut'): (raw(lambda data: data[:len(data) // 2], XML), r'train0\.xml'),
    ('voc', 'no box'): (raw(lambda data: data.replace(b'bndbox', b'box'), XML), r'bndbox|train0\.xml'),
    ('voc', 'text for a number'): (raw(lambda data: re.sub(rb'<xmin>\d+', b'<xmin>left', data), XML),
                                   r'left|train0\.xml'),
    ('voc', 'inverted'): (raw(lambda data: re.sub(rb'<xmax>\d+', b'<xmax>1', data), XML), 'inverted: cat 0'),
    ('voc', 'not there'): (removed(XML), r'train0\.xml'),
    ('maps', 'out of range'): (label_map(pixel(7)), '7'),
    ('maps', '16 bits out of range'): (label_map(pixel(700, np.uint16)), 'the value|bits'),
    ('maps', 'another size'): (label_map(lambda p: p[:32, :40]), 'size|32'),
    ('maps', 'colours'): (label_map(lambda p: np.dstack([p * 90] * 3)), 'the value 90'),
    ('maps', 'cut'): (raw(lambda data: data[:60], 'ann/train/0.png'), r'0\.jpg or its annotations'),
    ('maps', 'no PNG'): (raw(lambda data: b'text', 'ann/train/0.png'), r'0\.jpg or its annotations'),
    ('maps', 'not there'): (removed('ann/train/0.png'), r'0\.png'),
    ('list', 'label out of range'): (line(b'cat/0.png 9'), '9'),
    ('list', 'negative label'): (line(b'cat/0.png -1'), '-1'),
    ('list', 'label of text'): (line(b'cat/0.png cat'), "'cat'|train.txt"),
    ('list', 'no label'): (line(b'cat/0.png'), r'train\.txt|cat/0'),
    ('list', 'a picture that is not there'): (line(b'cat/9.png 0'), r'9\.png'),
    ('list', 'cut picture'): (raw(lambda data: data[:60], 'train/cat/0.png'), r'0\.png'),
    ('list', 'empty'): (raw(lambda data: b'', 'train.txt'), 'no items|train.txt'),
    ('list', 'Latin-1'): (line(b'c\xe4t/0.png 0'), r'train\.txt'),
}


def told_of(form, damage, folder):
    """What is told of a damage: errors, warnings, notes and what is suspicious, a sentence each."""
    root = Path(folder) / 'data'
    source = FORMS[form](root)
    (Path(folder) / 'config.py').write_text(source)
    DAMAGES[form, damage][0](root)
    cfg = load_config(str(Path(folder) / 'config.py'))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = check_config(cfg, Path(folder) / 'check', train=False, tell=lambda _: None)
    report = json.loads((Path(folder) / 'check' / 'report.json').read_text())
    return [finding.text for finding in result.checked.findings if finding.level != 'passed'] + [
        f'{kind["kind"]}: {problem["text"]}' for kind in report['problems'] for problem in kind['found']]


def telling(form, damage, told):
    """The sentence that tells a damage; ``None`` where there is none."""
    expected = DAMAGES[form, damage][1]
    if expected is None:
        return 'taken as it is'
    return next((each for each in told if re.search(expected, each)), None)


def main():
    warnings.simplefilter('ignore')
    untold = 0
    for form, damage in DAMAGES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                told = told_of(form, damage, folder)
            except Exception as error:
                told = [f'Traceback: {type(error).__name__}: {error}']
            found = telling(form, damage, told)
            failed = found is None or any(each.startswith('Traceback') for each in told)
            untold += failed
            sentence = ' '.join((found or (told or ['nothing'])[0]).replace(folder, '@').split())
            print(f'| {form} | {damage} | {sentence} |{" **untold**" if failed else ""}', flush=True)
    print(f'{len(DAMAGES)} damages, {untold} untold')
    sys.exit(untold > 0)


if __name__ == '__main__':
    main()
