"""Odd folders of one's own, and what ``focalnet-mm new`` says of each: ``python -m tests.helpers.bad_folders``.

Each ends in a project that mmdet's own data set reads, or in one sentence.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from focalnet_mm.data.shapes import write_dataset
from tests.helpers import formats
from tests.helpers.own import build

COMMAND = [sys.executable, '-m', 'focalnet_mm', 'new']


def changed(change, split='train'):
    """COCO's form with a change of the file of a split."""
    def write(sources, folder):
        formats.write_coco(sources, folder)
        for path in folder.glob(f'{split}.json' if split else '*.json'):
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))
    return write


def renamed(*names):
    """Names of the first classes, in both splits."""
    def change(content):
        for category, name in zip(content['categories'], names):
            category['name'] = name
    return changed(change, '')


def one_class(content):
    for row in content['annotations']:
        row['category_id'] = content['categories'][0]['id']
    content['categories'] = content['categories'][:1]


def many_classes(content):
    content['categories'] += [dict(id=1000 + i, name=f'class {i}') for i in range(2000 - len(content['categories']))]


def windows_paths(content):
    for image in content['images']:
        image['file_name'] = 'C:\\photos\\' + os.path.basename(image['file_name'])


def gone(sources, folder):
    formats.write_coco(sources, folder)
    for path in folder.rglob('*.jpg'):
        path.unlink()


def some_gone(sources, folder):
    formats.write_coco(sources, folder)
    sorted(folder.rglob('*.jpg'))[0].unlink()


def two_forms(sources, folder):
    formats.write_coco(sources, folder)
    formats.write_labelme(sources, folder)


def read_only(sources, folder):
    formats.write_coco(sources, folder)
    for path in (folder, *folder.rglob('*')):
        path.chmod(0o555 if path.is_dir() else 0o444)


def of_size(height, width):
    """The first picture of another size, with its box over all of it."""
    def write(sources, folder):
        formats.write_coco(sources, folder, masks=None)
        path = folder / 'train.json'
        content = json.loads(path.read_text())
        image = content['images'][0]
        image.update(height=height, width=width)
        for row in content['annotations']:
            if row['image_id'] == image['id']:
                row.update(bbox=[0, 0, width, height], area=height * width)
        path.write_text(json.dumps(content))
        target = next(folder.rglob(os.path.basename(image['file_name'])))
        assert cv2.imwrite(str(target), np.full((height, width, 3), 90, np.uint8))
    return write


CASES = {
    'nothing in it': lambda sources, folder: None,
    'pictures without annotations': lambda sources, folder: shutil.copy(sources[0].path, folder),
    'annotations of pictures that are not there': gone,
    'one picture is not there': some_gone,
    'two forms at once': two_forms,
    'classes with equal names': renamed('ship', 'ship'),
    'names with spaces, commas and other letters': renamed('a b', 'c,d', 'größe', '船', '"quoted"'),
    '1 class': changed(one_class, ''),
    '2,000 classes': changed(many_classes, ''),
    'no annotation in a split': changed(lambda content: content.update(annotations=[]), 'val'),
    '3 pictures in all': lambda sources, folder: formats.write_voc(sources[:3], folder),
    'a picture of 1 pixel': of_size(1, 1),
    'a picture of 100 megapixels': of_size(10000, 10000),
    'a folder that cannot be written': read_only,
    'Windows paths in the annotations': changed(windows_paths, ''),
    'a file cut off in the middle': lambda sources, folder: (folder / 'train.json').write_text('{"images": [{"id": 1'),
    'a second run over the first': formats.write_coco,
}


def outcome(case, folder):
    """What ``focalnet-mm new`` says of a case, with its exit status, and how many pictures of the project mmdet reads.

    Args:
        case: Of :data:`CASES`.
        folder: An empty one to work in.
    """
    write_dataset(folder / 'shapes', train=8, val=4, size=64, seed=3)
    data = folder / 'data'
    data.mkdir()
    CASES[case](formats.in_one_piece(formats.truth(folder / 'shapes')), data)
    command = [*COMMAND, str(data), '--out', str(folder / 'project'), '--weights', 'none']
    if case == 'a second run over the first':
        subprocess.run(command, check=True, capture_output=True)
    run = subprocess.run(command, capture_output=True, text=True)
    text = (run.stderr if run.returncode else run.stdout).replace(f'{folder}/', '').strip()
    read = {}
    if not run.returncode:
        for file in sorted((folder / 'project/annotations').glob('instances_*.json')):
            read[file.stem.rpartition('_')[2]] = len(_read(data, file))
    return run.returncode, text, read


def _read(data, file):
    """What mmdet's own data set makes of a file of the project."""
    from mmengine.config import ConfigDict
    content = json.loads(file.read_text())
    classes = tuple(category['name'] for category in content['categories'])
    return build('mmdet', ConfigDict(type='CocoDataset', data_root=data, ann_file=file, data_prefix=dict(img=''),
                                     settings=dict(metainfo=dict(classes=classes))))


def main():
    print('| folder | status | pictures that mmdet reads | what is said |\n|---|---|---|---|')
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            status, text, read = outcome(case, Path(folder))
        lines = [line for line in text.splitlines() if not line.startswith('Train it')]
        said = ' · '.join(lines).replace('|', '/')
        print(f'| {case} | {status} | {", ".join(f"{count} {split}" for split, count in read.items())} | {said} |',
              flush=True)


if __name__ == '__main__':
    main()
