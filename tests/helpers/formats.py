"""The built-in data set in the forms of other tools, written by hand: what they are read back to is known."""

import base64
import csv
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
from pycocotools.coco import COCO

from focalnet_mm.data.shapes import STUFF_CLASSES, THING_CLASSES

SPLITS = ('train', 'val')


class Truth(NamedTuple):
    """An object as COCO's file has it."""

    name: str
    #: Left, top, right, bottom.
    box: tuple
    polygons: list
    #: (H, W), by pycocotools.
    mask: np.ndarray

    @property
    def outline(self):
        """Points (x, y) of the largest polygon, for forms that know one an object."""
        corners = [np.reshape(polygon, (-1, 2)) for polygon in self.polygons]
        return max(corners, key=lambda points: cv2.contourArea(points.astype(np.float32))).tolist()


class Source(NamedTuple):
    """A picture of the built-in data set."""

    path: Path
    split: str
    height: int
    width: int
    objects: list


def truth(shapes):
    """All pictures of a folder of shapes, as pycocotools reads them."""
    found = []
    for split in SPLITS:
        coco = COCO(shapes / 'coco' / 'annotations' / f'instances_{split}2017.json')
        names = {category['id']: category['name'] for category in coco.loadCats(coco.getCatIds())}
        for image in coco.loadImgs(coco.getImgIds()):
            objects = []
            for entry in coco.loadAnns(coco.getAnnIds(image['id'])):
                x, y, width, height = entry['bbox']
                objects.append(Truth(names[entry['category_id']], (x, y, x + width, y + height), entry['segmentation'],
                                     coco.annToMask(entry).astype(bool)))
            found.append(Source(shapes / 'coco' / f'{split}2017' / image['file_name'], split, image['height'],
                                image['width'], objects))
    return found


def in_one_piece(sources):
    """The same without objects that others cut in two, for forms that know one polygon an object."""
    return [source._replace(objects=[item for item in source.objects if len(item.polygons) == 1])
            for source in sources]


def _pictures(sources, folder, pattern):
    """Copy the pictures; pairs of each and its copy."""
    pairs = []
    for source in sources:
        path = folder / pattern.format(split=source.split, name=source.path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.path, path)
        pairs.append((source, path))
    return pairs


def write_coco(sources, folder, masks='polygons'):
    """Category ids with gaps, images with folders in their names, and as masks polygons, run lengths or nothing."""
    ids = {name: 3 * number + 2 for number, name in enumerate(THING_CLASSES)}
    pairs = _pictures(sources, folder, 'images/{name}')
    for split in SPLITS:
        content = dict(images=[], annotations=[], categories=[dict(id=i, name=name) for name, i in ids.items()])
        for number, (source, path) in enumerate(pairs):
            if source.split != split:
                continue
            content['images'].append(dict(id=number, file_name=f'images/{path.name}', height=source.height,
                                          width=source.width))
            for item in source.objects:
                left, top, right, bottom = item.box
                entry = dict(id=len(content['annotations']), image_id=number, category_id=ids[item.name],
                             bbox=[left, top, right - left, bottom - top], iscrowd=0)
                if masks == 'polygons':
                    entry['segmentation'] = item.polygons
                elif masks == 'runs':
                    entry['segmentation'] = dict(size=[source.height, source.width], counts=_runs(item.mask.T))
                content['annotations'].append(entry)
        (folder / f'{split}.json').write_text(json.dumps(content))


def _runs(mask):
    """Lengths of runs in the order of memory, beginning with zeros."""
    flat = np.concatenate([[0], mask.flatten().astype(int), [2]])
    ends = np.flatnonzero(np.diff(flat))
    runs = np.diff(np.concatenate([[0], ends])).tolist()
    return runs if sum(runs) == mask.size else [*runs, mask.size - sum(runs)]


def write_voc(sources, folder):
    """The layout of the challenge, in which pixels are counted from 1 and the last one belongs to the box."""
    pairs = _pictures(sources, folder, 'JPEGImages/{name}')
    (folder / 'Annotations').mkdir()
    (folder / 'ImageSets' / 'Main').mkdir(parents=True)
    for split in SPLITS:
        names = [path.stem for source, path in pairs if source.split == split]
        (folder / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    for source, path in pairs:
        objects = ''.join(
            f'<object><name>{escape(item.name)}</name><difficult>0</difficult><bndbox><xmin>{item.box[0] + 1}</xmin>'
            f'<ymin>{item.box[1] + 1}</ymin><xmax>{item.box[2]}</xmax><ymax>{item.box[3]}</ymax></bndbox></object>'
            for item in source.objects)
        (folder / 'Annotations' / f'{path.stem}.xml').write_text(
            f'<annotation><folder>VOC</folder><filename>{escape(path.name)}</filename><size><width>{source.width}</width>'
            f'<height>{source.height}</height><depth>3</depth></size>{objects}</annotation>', encoding='utf-8')


def write_yolo(sources, folder, masks=False):
    """Ultralytics' layout."""
    pairs = _pictures(sources, folder, 'images/{split}/{name}')
    for source, path in pairs:
        lines = []
        for item in source.objects:
            if masks:
                numbers = [value / side for x, y in item.outline
                           for value, side in ((x, source.width), (y, source.height))]
            else:
                left, top, right, bottom = item.box
                numbers = [(left + right) / 2 / source.width, (top + bottom) / 2 / source.height,
                           (right - left) / source.width, (bottom - top) / source.height]
            lines.append(' '.join([str(THING_CLASSES.index(item.name)), *(f'{number:.6f}' for number in numbers)]))
        target = folder / 'labels' / source.split / f'{path.stem}.txt'
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('\n'.join(lines) + '\n')
    names = '\n'.join(f'  {number}: {name}' for number, name in enumerate(THING_CLASSES))
    (folder / 'data.yaml').write_text(f'path: .\ntrain: images/train\nval: images/val\nnames:\n{names}\n')


def write_labelme(sources, folder, masks='polygons'):
    """A JSON beside each picture; masks as polygons, parts in a group, as PNGs in base64, or boxes in place of them."""
    for source, path in _pictures(sources, folder, '{split}/{name}'):
        shapes = []
        for number, item in enumerate(source.objects):
            left, top, right, bottom = item.box
            if masks == 'polygons':
                group = number if len(item.polygons) > 1 else None
                shapes += [dict(label=item.name, group_id=group, flags={}, shape_type='polygon',
                                points=[list(point) for point in zip(polygon[0::2], polygon[1::2])])
                           for polygon in item.polygons]
                continue
            shape = dict(label=item.name, group_id=None, flags={})
            if masks == 'boxes':
                shape.update(shape_type='rectangle', points=[[right, top], [left, bottom]])
            elif masks == 'pngs':
                ys, xs = np.nonzero(item.mask)
                part = item.mask[ys.min():ys.max() + 1, xs.min():xs.max() + 1]
                encoded = base64.b64encode(cv2.imencode('.png', part.astype(np.uint8) * 255)[1]).decode()
                shape.update(shape_type='mask', mask=encoded, points=[[float(xs.min()), float(ys.min())],
                                                                      [float(xs.max()), float(ys.max())]])
            shapes.append(shape)
        path.with_suffix('.json').write_text(json.dumps(dict(
            version='5.5.0', flags={}, shapes=shapes, imagePath=path.name, imageData=None, imageHeight=source.height,
            imageWidth=source.width)))


def write_cvat(sources, folder, masks='polygons'):
    """"CVAT for images 1.1"; masks as polygons, run lengths within a box, or boxes in place of them."""
    entries = []
    for number, (source, path) in enumerate(_pictures(sources, folder, 'images/{split}/{name}')):
        shapes = []
        for item in source.objects:
            left, top, right, bottom = item.box
            if masks == 'boxes':
                shapes.append(f'<box label="{item.name}" xtl="{left:.2f}" ytl="{top:.2f}" xbr="{right:.2f}" '
                              f'ybr="{bottom:.2f}" occluded="0" z_order="0"><attribute name="a">1</attribute></box>')
            elif masks == 'runs':
                runs = ', '.join(map(str, _runs(item.mask[top:bottom, left:right])))
                shapes.append(f'<mask label="{item.name}" rle="{runs}" left="{left}" top="{top}" '
                              f'width="{right - left}" height="{bottom - top}"/>')
            else:
                points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in item.outline)
                shapes.append(f'<polygon label="{item.name}" points="{points}" occluded="0"/>')
        entries.append(f'<image id="{number}" name={quoteattr(f"{source.split}/{path.name}")} subset="{source.split}" '
                       f'width="{source.width}" height="{source.height}">{"".join(shapes)}</image>')
    labels = ''.join(f'<label><name>{name}</name></label>' for name in THING_CLASSES)
    (folder / 'annotations.xml').write_text(
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task>'
        f'<labels>{labels}</labels></task></meta>{"".join(entries)}</annotations>', encoding='utf-8')


def write_labelstudio(sources, folder, masks='polygons'):
    """A JSON export a split, with the names that uploads get; polygons, or boxes in place of them."""
    tasks = {split: [] for split in SPLITS}
    for number, (source, path) in enumerate(_pictures(sources, folder, '{split}/{name}')):
        results = []
        for item in source.objects:
            if masks == 'boxes':
                left, top, right, bottom = item.box
                kind, value = 'rectanglelabels', dict(
                    x=100 * left / source.width, y=100 * top / source.height, rotation=0,
                    width=100 * (right - left) / source.width, height=100 * (bottom - top) / source.height)
            else:
                kind, value = 'polygonlabels', dict(closed=True, points=[
                    [100 * x / source.width, 100 * y / source.height] for x, y in item.outline])
            results.append(dict(id=f'r{len(results)}', type=kind, from_name='label', to_name='image', image_rotation=0,
                                original_width=source.width, original_height=source.height,
                                value={**value, kind: [item.name]}))
        tasks[source.split].append(dict(
            id=number, data=dict(image=f'/data/upload/3/0123abcd-{path.name}'), file_upload=f'0123abcd-{path.name}',
            annotations=[dict(id=number, was_cancelled=False, result=results)]))
    for split, found in tasks.items():
        (folder / f'{split}.json').write_text(json.dumps(found))


def write_labelmaps(shapes, folder, colours=None, ending='.png'):
    """Pictures and class maps; of the colours of a list in place of numbers, if one is given."""
    ade = shapes / 'ade' / 'ADEChallengeData2016'
    names = (*THING_CLASSES, *STUFF_CLASSES)
    for path in sorted(ade.glob('images/*/*.jpg')):
        below = path.relative_to(ade / 'images')
        label_map = cv2.imread(str((ade / 'annotations' / below).with_suffix('.png')), cv2.IMREAD_UNCHANGED)
        for target in (folder / 'images' / below, folder / 'masks' / below.with_suffix(ending)):
            target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / 'images' / below)
        if colours is not None:
            label_map = np.array([(0, 0, 0), *colours], np.uint8)[label_map][..., ::-1]
        assert cv2.imwrite(str(folder / 'masks' / below.with_suffix(ending)), label_map)
    if colours is None:
        (folder / 'classes.txt').write_text('\n'.join(names) + '\n')
    else:
        lines = [f'{name}:{red},{green},{blue}::' for name, (red, green, blue) in zip(names, colours)]
        (folder / 'labelmap.txt').write_text('\n'.join(['# label:color_rgb:parts:actions', *lines]) + '\n')


def largest(source):
    """The class of the picture as a whole: that of its largest object."""
    return max(source.objects, key=lambda item: item.mask.sum()).name


def write_folders(sources, folder, with_splits=True):
    """A folder for each class, below one for each split or not."""
    for source in sources:
        target = folder / (source.split if with_splits else '.') / largest(source) / source.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.path, target)


def write_csv(sources, folder, what='boxes'):
    """A table of boxes, of one class a picture, of several, or of a column of 0 and 1 for each class."""
    rows = {split: [] for split in SPLITS}
    for source, path in _pictures(sources, folder, 'images/{name}'):
        name = f'images/{path.name}'
        found = sorted({item.name for item in source.objects})
        if what == 'boxes':
            rows[source.split] += [(name, item.name, *item.box) for item in source.objects]
        elif what == 'classes':
            rows[source.split].append((name, largest(source)))
        elif what == 'labels':
            rows[source.split].append((name, '|'.join(found)))
        else:
            rows[source.split].append((name, *(int(name in found) for name in THING_CLASSES)))
    headings = dict(boxes=('path', 'label', 'x1', 'y1', 'x2', 'y2'), classes=('Image Path', 'Class'),
                    labels=('path', 'labels'), columns=('filename', *THING_CLASSES))[what]
    for split, found in rows.items():
        text = io.StringIO()
        csv.writer(text).writerows([headings, *found])
        (folder / f'{split}.csv').write_text(text.getvalue())
