"""The model zoo's commands; tests/configs has the sizes."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from focalnet_mm.data.shapes import THING_CLASSES, write_dataset
from focalnet_mm.weights import convert
from focalnet_mm.zoo import evaluation
from focalnet_mm.zoo.evaluation import logged_value
from focalnet_mm.zoo.rows import Size, read_collections, read_zoo, select_rows
from focalnet_mm.zoo.shapes import weak_models, zoo_table
from focalnet_mm.zoo.sizes import model_size
from focalnet_mm.zoo.tables import tables, write_between_markers, write_tables
from tests.helpers.tools import ROOT


def test_index_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'model-index.yml does not exist: give the folder that holds'):
        read_zoo(tmp_path)


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
    size = model_size(tmp_path / 'config.py', (16, 16))
    positions = (16 // 4) ** 2
    stem, norms = 8 * 3 * 16 + 8, 4 * 16
    f, h, proj, kernel = 8 * 18 + 18, 8 * 8 + 8, 8 * 8 + 8, 8 * 9
    mlp = 8 * 32 + 32 + 32 * 8 + 8
    assert size.parameters == stem + norms + f + h + proj + kernel + mlp + 8 * 10 + 10
    assert size.flops == positions * (8 * 48 + 8 * 18 + 2 * 8 * 8 + 8 * 9 + 2 * 8 * 32) + 8 * 10


class TestNothingFound:
    """mmdet's metric logs nothing where a model finds nothing."""

    def test_what_mmdet_logs(self, tmp_path):
        from mmdet.evaluation import CocoMetric
        write_dataset(tmp_path / 'shapes', train=1, val=2, size=64)
        annotations = tmp_path / 'shapes/coco/annotations/instances_val2017.json'
        metric = CocoMetric(ann_file=str(annotations), metric=['bbox', 'segm'])
        metric.dataset_meta = dict(classes=THING_CLASSES)
        image_ids = [image['id'] for image in json.loads(annotations.read_text())['images']]
        nothing = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long),
                       masks=torch.zeros(0, 64, 64, dtype=torch.bool))
        metric.process({}, [dict(img_id=i, ori_shape=(64, 64), pred_instances=nothing, gt_instances=nothing)
                            for i in image_ids])
        logged = metric.evaluate(len(image_ids))
        assert logged_value(logged, 'coco/bbox_mAP') == logged_value(logged, 'coco/segm_mAP') == 0

    def test_rows(self, tmp_path, monkeypatch):
        row = next(row for row in read_zoo(ROOT) if row.name == 'maskrcnn_focalnet_t_1x')
        (tmp_path / f'{row.name}.pth').write_bytes(b'weights')
        roots = dict(coco=str(tmp_path))
        for i, (logged, boxes, masks) in enumerate([
                ({}, '0.0', '0.0'), ({'data_time': 1.0, 'time': 2.0}, '0.0', '0.0'),
                ({'coco/bbox_mAP': 0.25, 'coco/segm_mAP': 0.125}, '25.0', '12.5'),
                ({'coco/bbox_mAP': 0.25}, '25.0', 'failed: the evaluation logged no coco/segm_mAP')]):
            monkeypatch.setattr(evaluation, 'evaluate', lambda *_, found=logged, **__: found)
            table = evaluation.evaluate_rows([row], tmp_path, roots, tmp_path / f'out{i}')
            assert f'| {row.name} | box AP | {boxes} |' in table
            assert f'| {row.name} | mask AP | {masks} |' in table

    def test_a_training_that_ends_there_is_weak(self):
        path = 'mmdet/dino_focalnet_t_shapes'
        results = {'dino_focalnet_t_shapes': dict(before={'coco/bbox_mAP_50': 0.5}, after={'time': 1.0}, minutes=1)}
        assert weak_models([path], results) == ['dino_focalnet_t_shapes (box AP50)']
        assert '| dino_focalnet_t_shapes | box AP50 | 50.0 | 0.0 | 1.0 |' in zoo_table([path], results)

    def test_damaged_results(self, tmp_path):
        (tmp_path / 'results.json').write_text('{"a": ')
        with pytest.raises(ValueError, match=r'results.json is no JSON .*: move it away, and the rows in it are run'):
            evaluation.evaluate_rows([], tmp_path, {}, tmp_path)


class TestWriteBetweenMarkers:

    def test_writes_what_changed(self, tmp_path):
        file = tmp_path / 'x.md'
        file.write_text('before\n<!-- t -->\nold\n<!-- /t -->\nafter\n')
        assert write_between_markers(file, 't', 'new\n')
        assert file.read_text() == 'before\n<!-- t -->\nnew\n<!-- /t -->\nafter\n'
        assert not write_between_markers(file, 't', 'new\n')

    def test_no_markers(self, tmp_path):
        (tmp_path / 'x.md').write_text('nothing\n')
        with pytest.raises(ValueError, match=r'x\.md lacks the lines <!-- t --> and <!-- /t -->: put them'):
            write_between_markers(tmp_path / 'x.md', 't', 'new\n')


@pytest.mark.slow
class TestModelZoo:

    def test_some_models(self, tool):
        """What the command measures stands in its metafile, and so in the tables made of it."""
        out = tool('model_zoo.py', 'focalnet_t_*iso*', 'maskrcnn_focalnet_t_1x')
        rows = select_rows(read_zoo(ROOT), ['focalnet_t_*iso*', 'maskrcnn_focalnet_t_1x'])
        assert len(rows) == 2
        assert tables(rows) in out
        assert out.count('| `') == 2

    def test_generated_files_are_up_to_date(self, tmp_path):
        rows = read_zoo(ROOT)
        for name in ('README.md', 'docs/zoo.md', 'docs/recipes.md', 'configs/deviations.yml',
                     *(collection.page for collection in read_collections(ROOT)),
                     'model-index.yml', *(f'configs/{library}/metafile.yml' for library in
                                          ('mmdet', 'mmseg', 'mmpretrain'))):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text((ROOT / name).read_text())
        assert not write_tables(rows, tmp_path), 'run focalnet-mm zoo sizes --write'
        # And it would notice.
        assert len(write_tables([replace(row, size=Size(1, 1)) for row in rows], tmp_path)) == 12

    def test_unknown_model(self, tool):
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


@pytest.mark.slow
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

    def test_rows(self, imagenet, tmp_path, tool):
        folder, out = tmp_path / 'checkpoints', tmp_path / 'out'
        self.checkpoint(folder, 'transformers')
        torch.save(dict(state_dict={}), folder / 'focalnet_s_iso_in1k.pth')
        arguments = [folder, '--imagenet', imagenet, '--out', out, '--names', '*_iso_in1k', 'focalnet_t_srf_in1k',
                     'dino_focalnet_l_fl3_4scale_12e', '--cfg-options', 'test_dataloader.num_workers=0',
                     'test_dataloader.persistent_workers=False']
        printed = tool('evaluate_zoo.py', *arguments)
        table = (out / 'table.md').read_text()
        assert table in printed
        published = {row.name: row.results['ImageNet-1k']['Top 1 Accuracy'] for row in read_zoo(ROOT)
                     if 'ImageNet-1k' in row.results}
        accuracy = 100 / 3
        difference = accuracy - published[self.NAME]
        assert (f'| {self.NAME} | Top 1 Accuracy | {accuracy:.1f} | {published[self.NAME]:.1f} | {difference:+.1f} |'
                in table)
        assert re.search(
            r'\| focalnet_s_iso_in1k \| Top 1 Accuracy \| failed: test.py: .* \(see \S+test.txt\)',
            table)
        assert ('| focalnet_b_iso_in1k | Top 1 Accuracy | no checkpoint: train one, see focalnet-mm config '
                f'focalnet_b_iso_in1k | {published["focalnet_b_iso_in1k"]:.1f} | |') in table
        assert 'releases/download/v1.0.0/focalnet_tiny_srf.pth | ' in table

        # Finished rows are not run again: their logs stay as they are.
        runs = sorted(out.glob(f'{self.NAME}/*/*.json'))
        results = json.loads((out / 'results.json').read_text())
        tool('evaluate_zoo.py', *arguments)
        assert sorted(out.glob(f'{self.NAME}/*/*.json')) == runs
        assert json.loads((out / 'results.json').read_text()) == results
        assert (out / 'table.md').read_text() == table

    def test_a_changed_checkpoint_is_run_again(self, imagenet, tmp_path, tool):
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
    def test_bad_arguments(self, arguments, message, tmp_path, tool):
        out = tool('evaluate_zoo.py', *arguments, '--out', tmp_path, expect=1)
        assert message in out
        assert 'Traceback' not in out
