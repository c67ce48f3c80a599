"""The model zoo's tools; tests/test_configs.py has the sizes."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from focalnet_mm import zoo
from focalnet_mm.weights import convert
from tests.conftest import ROOT
from tests.test_tools import tool


def test_index_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'model-index.yml does not exist: give the folder that holds'):
        zoo.read_zoo(tmp_path)


def test_measured_by_hand(tmp_path):
    """A classifier of one stage, its multiply-adds counted on paper."""
    (tmp_path / 'config.py').write_text('''
_base_ = 'mmpretrain::_base_/default_runtime.py'
custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='FocalNet', arch=dict(embed_dims=8, depths=(1,), focal_levels=1, focal_windows=3),
                  out_indices=(0,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=8))
''')
    size = zoo.measure(tmp_path / 'config.py', (16, 16))
    positions = (16 // 4) ** 2
    stem, norms = 8 * 3 * 16 + 8, 4 * 16
    f, h, proj, kernel = 8 * 18 + 18, 8 * 8 + 8, 8 * 8 + 8, 8 * 9
    mlp = 8 * 32 + 32 + 32 * 8 + 8
    assert size.parameters == stem + norms + f + h + proj + kernel + mlp + 8 * 10 + 10
    assert size.flops == positions * (8 * 48 + 8 * 18 + 2 * 8 * 8 + 8 * 9 + 2 * 8 * 32) + 8 * 10


class TestWriteBetweenMarkers:

    def test_writes_what_changed(self, tmp_path):
        file = tmp_path / 'x.md'
        file.write_text('before\n<!-- t -->\nold\n<!-- /t -->\nafter\n')
        assert zoo.write_between_markers(file, 't', 'new\n')
        assert file.read_text() == 'before\n<!-- t -->\nnew\n<!-- /t -->\nafter\n'
        assert not zoo.write_between_markers(file, 't', 'new\n')

    def test_no_markers(self, tmp_path):
        (tmp_path / 'x.md').write_text('nothing\n')
        with pytest.raises(ValueError, match=r'x\.md lacks the lines <!-- t --> and <!-- /t -->: put them'):
            zoo.write_between_markers(tmp_path / 'x.md', 't', 'new\n')


class TestModelZoo:

    def test_some_models(self):
        out = tool('model_zoo.py', 'focalnet_t_*iso*', 'maskrcnn_focalnet_t_1x')
        assert '| 5.88 | 5.9 (-0.3%) | 1.1 | 1.1 (+0.8%) | 74.1 |' in out
        assert re.search(r'maskrcnn_focalnet_t_1x.py\) \(1\) \| 49.43 \| 48.8 \(\+1.3%\) \| 270.7 \| 268 \(\+1.0%\)',
                         out)

    def test_unknown_model(self):
        assert 'model_zoo.py: no model is named nonsense; there are maskrcnn_focalnet' in tool(
            'model_zoo.py', 'nonsense', expect=1)


@pytest.fixture
def imagenet(tmp_path):
    """Six pictures in the folders of 1000 classes."""
    rng = np.random.default_rng(0)
    for i in range(1000):
        folder = tmp_path / 'imagenet' / 'val' / f'n{i:04d}'
        folder.mkdir(parents=True)
        if i < 3:
            for j in range(2):
                Image.fromarray(rng.integers(256, size=(60, 50, 3), dtype=np.uint8)).save(folder / f'{j}.JPEG')
    return tmp_path / 'imagenet'


class TestEvaluateZoo:
    NAME = 'focalnet_t_iso_in1k'

    def checkpoint(self, folder, layout='mm'):
        """A model that always answers class 2."""
        folder.mkdir()
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
        from mmpretrain.registry import MODELS
        init_default_scope('mmpretrain')
        model = MODELS.build(Config.fromfile(ROOT / 'configs' / 'mmpretrain' / f'{self.NAME}.py').model)
        torch.nn.init.zeros_(model.head.fc.weight)
        model.head.fc.bias.data.zero_()[2] = 1
        state = model.state_dict()
        if layout == 'mm':
            torch.save(dict(state_dict=state), folder / f'{self.NAME}.pth')
        else:
            save_file(convert(state, layout), folder / f'{self.NAME}.safetensors')

    def test_rows(self, imagenet, tmp_path):
        folder, out = tmp_path / 'checkpoints', tmp_path / 'out'
        self.checkpoint(folder, 'transformers')
        torch.save(dict(state_dict={}), folder / 'focalnet_s_iso_in1k.pth')
        arguments = [folder, '--imagenet', imagenet, '--out', out, '--names', '*_iso_in1k', 'focalnet_t_srf_in1k',
                     'dino_focalnet_l_fl3_4scale_12e', '--cfg-options', 'test_dataloader.num_workers=0',
                     'test_dataloader.persistent_workers=False']
        printed = tool('evaluate_zoo.py', *arguments)
        table = (out / 'table.md').read_text()
        assert table in printed
        assert f'| {self.NAME} | Top 1 Accuracy | 33.3 | 74.1 | -40.8 |' in table
        assert re.search(
            r'\| focalnet_s_iso_in1k \| Top 1 Accuracy \| failed: test.py: .* \(see \S+test.txt\) \| 80.9 \|', table)
        assert ('| focalnet_b_iso_in1k | Top 1 Accuracy | no checkpoint: train one with tools/train.py '
                'configs/mmpretrain/focalnet_b_iso_in1k.py | 82.4 | |') in table
        assert ('no checkpoint: download https://github.com/microsoft/FocalNet/releases/download/v1.0.0/'
                'focalnet_tiny_srf.pth | 82.1 | |') in table

        # Finished rows are not run again: their logs stay as they are.
        runs = sorted(out.glob(f'{self.NAME}/*/*.json'))
        results = json.loads((out / 'results.json').read_text())
        tool('evaluate_zoo.py', *arguments)
        assert sorted(out.glob(f'{self.NAME}/*/*.json')) == runs
        assert json.loads((out / 'results.json').read_text()) == results
        assert (out / 'table.md').read_text() == table

    def test_a_changed_checkpoint_is_run_again(self, imagenet, tmp_path):
        folder, out = tmp_path / 'checkpoints', tmp_path / 'out'
        self.checkpoint(folder)
        arguments = [folder, '--imagenet', imagenet, '--out', out, '--names', self.NAME]
        tool('evaluate_zoo.py', *arguments)
        state = torch.load(folder / f'{self.NAME}.pth', weights_only=True)
        state['state_dict']['head.fc.bias'][5] = 2
        torch.save(state, folder / f'{self.NAME}.pth')
        tool('evaluate_zoo.py', *arguments)
        assert f'| {self.NAME} | Top 1 Accuracy | 0.0 |' in (out / 'table.md').read_text()

    @pytest.mark.parametrize(('arguments', 'message'), [
        (['nowhere', '--coco', '.'], 'nowhere is no folder: give the one that holds the checkpoints'),
        (['.'], 'give at least one of --coco, --ade and --imagenet: there is nothing to evaluate on'),
        (['.', '--ade', 'nowhere'], '--ade nowhere is no folder'),
        (['.', '--coco', '.', '--names', 'x'], 'no model with published results is named x.')])
    def test_bad_arguments(self, arguments, message, tmp_path):
        out = tool('evaluate_zoo.py', *arguments, '--out', tmp_path, expect=1)
        assert message in out
        assert 'Traceback' not in out
