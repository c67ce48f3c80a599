"""Data sets of one's own, as they are read, with pictures that a test can look into."""

import importlib

import cv2
import numpy as np

from focalnet_mm.data.own.records import Annotation, OwnData, Picture

GREY = 128


def picture(path, height, width, *annotations, split='train', **more):
    """A grey picture on the disk; annotations are (label, box) or (label, box, segmentation)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), GREY, np.uint8))
    return Picture(path, height, width, [Annotation(*each) for each in annotations], split=split, **more)


def data(root, classes, pictures, task='boxes', **more):
    return OwnData(root, 'coco', task, list(classes), list(pictures), **more)


def coloured(image):
    """Where an RGB or BGR image is not grey, beyond what JPEG does to it."""
    image = image.astype(int)
    return image.max(axis=2) - image.min(axis=2) > 40


def extent(where):
    """Left, top, right and bottom of what is true."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def build(library, written, **more):
    """The library's own data set of a split, without a pipeline."""
    importlib.import_module(f'{library}.utils').register_all_modules(init_default_scope=False)
    registry = importlib.import_module(f'{library}.registry').DATASETS
    return registry.build(dict(
        type=f'{library}.{written.type}', data_root=str(written.data_root), ann_file=str(written.ann_file),
        data_prefix=dict(written.data_prefix), pipeline=[], **written.settings, **more))
