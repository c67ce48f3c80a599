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
from focalnet_mm.data.pictures import find_inputs, join_pictures, read_image, read_video
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


class TestJoin:

    @pytest.mark.parametrize(('settings', 'message'), [
        (dict(columns=0), 'columns must be 1 or more, got 0'), (dict(most=-1), 'most must be 1 or more, got -1'),
        (dict(out='g.txt'), r'g\.txt must end in \.png or \.jpg')])
    def test_bad_arguments(self, settings, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            join_pictures([tmp_path], **{'out': tmp_path / 'g.png', **settings})
