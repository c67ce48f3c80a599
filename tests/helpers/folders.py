"""Little folders of pictures and annotations, and what is read of them."""

import numpy as np
from PIL import Image


def quiet(line):
    pass


def save(path, seed=0, size=(32, 24)):
    """A picture that looks like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def box_file(path, text='0 0.5 0.5 0.5 0.5\n'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found(data):
    """Number of objects by picture and split."""
    return {(data.root.joinpath(picture.path).relative_to(data.root).as_posix(), picture.split):
            len(picture.annotations) for picture in data.pictures}
