"""``python -m tests.helpers.matched ONE OTHER``: how many objects of one folder of predictions the other one has.

Both folders are what ``focalnet-mm predict`` wrote of the same pictures.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from pycocotools import mask

IOU, SCORE = 0.99, 1e-3


def matched(one, other):
    """Objects of ``one``, those that ``other`` has by label, score, box and mask, and objects of ``other``."""
    own, theirs = _objects(one), _objects(other)
    found = 0
    for image, objects in own.items():
        left = list(theirs[image])
        for item in objects:
            same = next((each for each in left if _are_same(item, each)), None)
            if same is not None:
                left.remove(same)
                found += 1
    return sum(map(len, own.values())), found, sum(map(len, theirs.values()))


def _objects(folder):
    found = defaultdict(list)
    for entry in json.loads((Path(folder) / 'predictions.json').read_text())['annotations']:
        found[entry['image_id']].append(entry)
    return found


def _are_same(one, other):
    if one['category_id'] != other['category_id'] or abs(one.get('score', 0) - other.get('score', 0)) > SCORE:
        return False
    return all(_is_same_place(one[key], other[key]) for key in ('bbox', 'segmentation') if key in one)


def _is_same_place(one, other):
    return one == other or mask.iou([one], [other], [0])[0, 0] > IOU


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('one')
    parser.add_argument('other')
    args = parser.parse_args()
    print('{1} of {0} objects found again, of {2}'.format(*matched(args.one, args.other)))
