"""Every code block of the README and the docs, run as a reader would run it, with random weights under its names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from focalnet_mm import FocalNet
from focalnet_mm.data.shapes import write_dataset
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from focalnet_mm.weights import convert
from tests.helpers import tools
from tests.helpers.tools import ROOT, SHAPES

PAGES = ['README.md', *sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'docs').rglob('*.md'))]
BLOCK = re.compile(r'^(?P<indent> *)(?:<!-- not run: (?P<reason>[^\n]+) -->\n(?P=indent))?'
                   r'```(?P<language>bash|python)\n(?P<code>.*?)^(?P=indent)```', re.S | re.M)


def blocks(page):
    """(language, code) of each block that can be run here."""
    return [(match['language'], match['code']) for match in BLOCK.finditer((ROOT / page).read_text())
            if not match['reason']]


def classifier():
    """An official classifier of the size of the public one."""
    net = FocalNet('tiny-lrf', out_indices=(3,))
    net.init_weights()
    state = {re.sub(r'^norm3\.', 'norm.', name): tensor for name, tensor in net.state_dict().items()}
    return {**state, 'head.weight': torch.randn(1000, 768) * 0.02, 'head.bias': torch.zeros(1000)}


@pytest.fixture(scope='module')
def state():
    torch.manual_seed(0)
    return classifier()


@pytest.fixture
def folder(tmp_path, monkeypatch, serve, state):
    """A checkout after `make demo`, with a little of all data, and a stand-in for the Hugging Face Hub."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    for i in range(1000):
        place = tmp_path / 'data' / 'imagenet' / 'val' / f'n{i:04d}'
        place.mkdir(parents=True)
        if i < 2:
            Image.fromarray(np.full((60, 50, 3), 100 * i, np.uint8)).save(place / '0.JPEG')
    write_dataset(tmp_path / 'data' / 'shapes', train=4, val=4, size=64)
    validation = tmp_path / 'data' / 'shapes' / 'coco' / 'val2017'
    # The picture that the docs name.
    first = min(validation.iterdir())
    (validation / '000000000403.jpg').write_bytes(first.read_bytes())
    (tmp_path / 'photos').mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(256, size=(40, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'photos' / f'{i}.jpg'), pixels)
    torch.save({'model': state}, tmp_path / 'focalnet_tiny_lrf.pth')
    demo = tmp_path / 'work_dirs' / 'demo'
    demo.mkdir(parents=True)
    model = load_model(load_config(str(ROOT / SHAPES)))
    torch.save(dict(state_dict=model.state_dict(), optimizer={}, meta=dict(
        dataset_meta=dict(classes=('circle', 'square', 'triangle', 'star', 'cross')))), demo / 'epoch_13.pth')
    monkeypatch.chdir(tmp_path)
    with serve() as hub:
        hub.headers['X-Repo-Commit'] = 'c' * 40
        hub.files['/timm/focalnet_tiny_lrf.ms_in1k/resolve/main/model.safetensors'] = save(
            {name: tensor.contiguous() for name, tensor in convert(state, 'timm').items()})
        monkeypatch.setenv('HF_ENDPOINT', hub.url)
        monkeypatch.setenv('HF_HOME', str(tmp_path / 'hf'))
        monkeypatch.setenv('HF_HUB_DISABLE_XET', '1')
        monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
        # What an activated environment does.
        monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
        monkeypatch.setenv('PYTHONWARNINGS', 'ignore')
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page)])
def test_blocks_run(page, folder, monkeypatch):
    # The first page starts real processes.
    if page != PAGES[0] and not tools.COLD:
        programs = folder / 'programs'
        programs.mkdir()
        tools.warm().programs(programs)
        monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')
    namespace = {}
    for language, code in blocks(page):
        if language == 'python':
            exec(compile(code, page, 'exec'), namespace)
            continue
        done = subprocess.run(['bash', '-euo', 'pipefail', '-c', code], text=True, capture_output=True, timeout=540,
                              check=False)
        assert done.returncode == 0, f'{code}\n{done.stdout[-1500:]}\n{done.stderr[-2500:]}'


def test_every_block_is_found():
    """No block hides from the tests behind another indent, another fence or another spelling of its language."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        fences = re.findall(r'^[ \t]*(?:```|~~~)[ \t]*(\S+)', text, re.M)
        assert {language for language in fences if language.lower() not in ('text', 'yaml', 'bash', 'python')} == set()
        code = [language for language in fences if language.lower() in ('bash', 'python', 'sh', 'shell', 'py')]
        assert len(code) == len(BLOCK.findall(text)), page
