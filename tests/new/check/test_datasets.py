"""What data sets hold, as the report takes it."""

import cv2
import numpy as np
import pytest
from PIL import Image

from focalnet_mm.data.own.records import Picture
from focalnet_mm.new.check.datasets import OfDatasets


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_size_of_a_turned_picture(orientation, tmp_path):
    """That of the picture as OpenCV loads it, so that the report does not stretch a phone's photos."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((24, 64, 3), np.uint8)).save(tmp_path / 'a.jpg', exif=exif)
    assert OfDatasets().size(Picture(tmp_path / 'a.jpg', 0, 0)) == cv2.imread(str(tmp_path / 'a.jpg')).shape[:2]
