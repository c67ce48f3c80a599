"""Pictures and videos of one's own: found."""

import json
import re
import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image
from pycocotools import mask as coco
from focalnet_mm.data.pictures import find_inputs, read_image, read_video
from focalnet_mm.predict import Predictor
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from tests.helpers.tools import ROOT


class TestInputs:

    def test_same_names_of_two_folders(self, tmp_path):
        for folder in ('a', 'b', 'c'):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / 'x.png').write_bytes(b'')
        found, _ = find_inputs([tmp_path / 'a', tmp_path / 'b', tmp_path / 'c' / 'x.png'])
        assert [item.name for item in found] == ['x.png', 'x_2.png', 'x_3.png']

    def test_own_output_is_no_input(self, tmp_path):
        for folder in ('', 'out/pictures'):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / 'x.png').write_bytes(b'')
        found, _ = find_inputs([tmp_path], leave_out=tmp_path / 'out')
        assert [item.path for item in found] == [tmp_path / 'x.png']

    def test_nothing_to_find(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='There is no picture or video in'):
            find_inputs([tmp_path])
        with pytest.raises(FileNotFoundError, match='nowhere does not exist: name pictures, videos'):
            find_inputs(['nowhere'])
