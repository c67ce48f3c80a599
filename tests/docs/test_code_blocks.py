"""The README's section on weights, line by line, with random weights under the names that it uses."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from focalnet_mm import FocalNet
from focalnet_mm.weights import convert
from tests.conftest import ROOT
from tests.server import serve

# A detector of 228 M parameters on COCO: run by hand.
BY_HAND = 'dino_focalnet_l_fl3_4scale_12e'


def blocks():
    """(language, code) of each block in the section."""
    section = re.search(r'^## Weights$(.*?)^## ', (ROOT / 'README.md').read_text(), re.S | re.M)[1]
    return re.findall(r'^```(\w+)\n(.*?)^```', section, re.S | re.M)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder as the README has it: tools, configs, a little ImageNet, checkpoints."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    for i in range(1000):
        place = tmp_path / 'data' / 'imagenet' / 'val' / f'n{i:04d}'
        place.mkdir(parents=True)
        if i < 2:
            Image.fromarray(np.full((60, 50, 3), 100 * i, np.uint8)).save(place / '0.JPEG')
    net = FocalNet('tiny-lrf', out_indices=(3,))
    net.init_weights()
    state = {name.replace('norm3.', 'norm.') if name.startswith('norm3.') else name: tensor
             for name, tensor in net.state_dict().items()}
    state.update({'head.weight': torch.randn(1000, 768) * 0.02, 'head.bias': torch.zeros(1000)})
    torch.save({'model': state}, tmp_path / 'focalnet_tiny_lrf.pth')
    demo = tmp_path / 'work_dirs' / 'demo'
    demo.mkdir(parents=True)
    detector = {f'backbone.{name}': tensor for name, tensor in FocalNet('tiny-lrf').state_dict().items()}
    torch.save({'meta': {'dataset_meta': {'classes': ['circle']}}, 'optimizer': {}, 'state_dict': {
        **detector, 'rpn_head.rpn_cls.bias': torch.zeros(3)}}, demo / 'epoch_13.pth')
    monkeypatch.chdir(tmp_path)
    with serve() as hub:
        hub.headers['X-Repo-Commit'] = 'c' * 40
        hub.files['/timm/focalnet_tiny_lrf.ms_in1k/resolve/main/model.safetensors'] = save(
            {name: tensor.contiguous() for name, tensor in convert(state, 'timm').items()})
        monkeypatch.setenv('HF_ENDPOINT', hub.url)
        monkeypatch.setenv('HF_HOME', str(tmp_path / 'hf'))
        monkeypatch.setenv('HF_HUB_DISABLE_XET', '1')
        monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
        yield tmp_path


def test_every_line_of_weights(folder):
    shutil.rmtree(folder / 'hf', ignore_errors=True)
    namespace = {}
    for language, code in blocks():
        if language == 'python':
            exec(code, namespace)
            continue
        for line in code.splitlines():
            if line.startswith('#') or BY_HAND in line:
                continue
            done = subprocess.run(line.replace('python ', f'{sys.executable} -W ignore ', 1), shell=True, text=True,
                                  capture_output=True, timeout=300, check=False, env=dict(os.environ))
            assert done.returncode == 0, f'{line}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}'
    assert (folder / 'focalnet-tiny' / 'config.json').is_file()
    assert len(list(folder.glob('maskrcnn_focalnet_t_shapes-*.safetensors'))) == 1
    assert namespace['report'].layout == 'timm'
    assert not namespace['model'].head.fc.bias.any()
