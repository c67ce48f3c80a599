"""Data, classes and checkpoints that do not fit end in a sentence."""

import re
import shutil

import pytest

from tests.helpers.tools import ROOT, SHAPES, SMALL

pytestmark = pytest.mark.train


class TestBadData:

    def test_class_counts(self, shapes, tmp_path, tool):
        out = tool('train.py', SHAPES, '--work-dir', tmp_path, '--cfg-options', f'data_root={shapes}/coco', *SMALL,
                   'model.roi_head.bbox_head.num_classes=7', expect=1)
        assert out.endswith(
            'train.py: model.roi_head.bbox_head has 7 classes, the data set of train_dataloader.dataset has 5: set '
            'num_classes of every head to 5, or train_dataloader.dataset.metainfo.classes to the classes that the '
            'model has.\n')

    def test_annotations_of_other_classes(self, shapes, tmp_path, tool):
        out = tool('train.py', 'configs/mmdet/maskrcnn_focalnet_t_1x.py', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/coco', *SMALL, 'model.backbone.init_cfg=None', expect=1)
        assert out.endswith(
            'train.py: train_dataloader.dataset has no items: '
            f'{shapes}/coco/annotations/instances_train2017.json holds none of the 80 classes that the data set has: '
            'name those of your annotations in train_dataloader.dataset.metainfo.classes.\n')

    def test_panoptic_folder_without_its_pngs(self, shapes, tmp_path, tool):
        root = tmp_path / 'coco'
        shutil.copytree(shapes / 'coco', root)
        for png in (root / 'annotations' / 'panoptic_train2017').iterdir():
            png.unlink()
        out = tool('train.py', 'configs/mmdet/mask2former_focalnet_t_shapes_panoptic.py', '--work-dir', tmp_path,
                   '--cfg-options', f'data_root={root}', 'model.backbone.init_cfg=None', *SMALL,
                   expect=1)
        assert re.search(
            rf'train.py: {root}/annotations/panoptic_train2017/\S+.png does not exist, although the annotations '
            r'name it: correct them, or train_dataloader.dataset.data_prefix.seg, which names '
            r'\S+panoptic_train2017/, and for COCO panoptic unpack panoptic_train2017.zip there\.\n$', out), out[-600:]

    @pytest.mark.parametrize('given', ['ade', 'ade/ADEChallengeData2016/images'])
    def test_ade_folder_of_another_nesting(self, shapes, tmp_path, given, tool):
        out = tool('train.py', 'configs/mmseg/upernet_focalnet_t_160k.py', '--work-dir', tmp_path, '--cfg-options',
                   f'data_root={shapes}/{given}', expect=1)
        right = f'{shapes}/ade/ADEChallengeData2016'
        assert re.search(rf'^train.py: {shapes}/{given}/images/training, which train_dataloader.dataset.data_prefix.'
                         rf'img_path names, does not exist \(and \d more\), but the data lies in {right}: add '
                         rf'--cfg-options data_root={right}\.\n$', out, re.M), out[-600:]

    def test_checkpoint_of_another_row(self, trained, shapes, tmp_path, tool):
        out = tool('test.py', 'configs/mmdet/atss_focalnet_t_shapes.py', trained / 'epoch_1.pth', '--work-dir',
                   tmp_path, '--cfg-options', f'data_root={shapes}/coco', 'model.backbone.init_cfg=None', *SMALL[1:],
                   expect=1)
        assert re.search(r"test.py: The checkpoint \S+epoch_1.pth is not of this config: it lacks \d+ of the model's "
                         r'\d+ tensors, the first is \S+\.\n$', out), out[-600:]

    def test_config_without_test_data(self, trained, tmp_path, tool):
        (tmp_path / 'no_test.py').write_text(f"_base_ = '{ROOT}/configs/mmpretrain/focalnet_t_in1k.py'\n"
                                             'test_dataloader = test_evaluator = test_cfg = None\n')
        out = tool('test.py', tmp_path / 'no_test.py', trained / 'epoch_1.pth', '--work-dir', tmp_path, expect=1)
        assert out.endswith('no_test.py has no test data: there is nothing to evaluate.\n')
