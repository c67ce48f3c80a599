"""``python -m tests.helpers.batches FILE PICTURES``: how an exported file agrees with itself in batches of any size.

PICTURES are brought to three sizes that no export has seen, each in batches of 1, 3 and 8.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from focalnet_mm.deploy import Runtime
from focalnet_mm.deploy.whole.matching import matched

BATCHES = 3, 8
# Height and width.
SIZES = (97, 131), (240, 201), (64, 320)
# Outputs without objects are compared value by value.
MAPS = 'label_map', 'segments', 'classes'


def compared(file, pictures, batch):
    """Of single pictures how many objects, or pixels, there are and how many of them a batch has again."""
    runtime, all_of_them, again = Runtime(file), 0, 0
    for size in SIZES:
        images = [cv2.resize(picture, size[::-1]) for picture in pictures]
        for one, other in zip(runtime(images, batch_size=1), runtime(images, batch_size=batch), strict=True):
            if 'boxes' in one:
                one, other = ({name: torch.from_numpy(value) for name, value in each.items()} for each in (one, other))
                all_of_them += max(len(one['boxes']), len(other['boxes']))
                again += len(matched(one, other))
            else:
                name = next(name for name in MAPS if name in one)
                all_of_them += one[name].size
                again += int((one[name] == other[name]).sum())
    return all_of_them, again


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file')
    parser.add_argument('pictures')
    args = parser.parse_args()
    files = sorted(path for path in Path(args.pictures).iterdir() if path.suffix in ('.jpg', '.png'))[:24]
    rgb = [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in files]
    for count in BATCHES:
        print('batches of {2}: {1} of {0} found again'.format(*compared(args.file, rgb, count), count))
