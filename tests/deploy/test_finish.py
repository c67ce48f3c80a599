"""Whole models with their preprocessing, beside what the library predicts of the same files."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from focalnet_mm.deploy import Finish, Runtime, export_model
from focalnet_mm.deploy.finish import plan_of
from focalnet_mm.deploy.part import Part
from focalnet_mm.deploy.whole.matching import agreement
from focalnet_mm.deploy.whole.samples import as_tensors
from focalnet_mm.predict import ExportedPredictor, Predictor
from focalnet_mm.run.build import load_model
from focalnet_mm.zoo.export_run import spread
from tests.helpers import exported


@pytest.mark.slow
def test_files_are_predicted_as_the_library_does(thin_config, save_weights, tmp_path):
    cfg = thin_config('mmpretrain/focalnet_t_in1k.py')
    cfg.model.backbone.depths = (1, 1, 1, 1)
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 7
    # Random weights hardly tell pictures apart.
    cfg.model.head.init_cfg = dict(type='Normal', layer='Linear', std=3)
    checkpoint, told = save_weights(cfg, tmp_path / 'x.pth', dataset_meta=dict(classes=tuple('abcdefg'))), []
    export_model(load_model(cfg, checkpoint), tmp_path / 'x.onnx', 'onnx', cfg=cfg, tell=told.append,
                 how=Finish(precision='fp16'))
    assert 'preprocessing: 0 grey levels' in ' '.join(told)
    runtime = Runtime(tmp_path / 'x.onnx')
    assert (runtime.task, runtime.classes) == ('classification', tuple('abcdefg'))
    assert runtime.facts['precision'] == 'fp16'
    ours, theirs = ExportedPredictor(runtime), Predictor(cfg, checkpoint, 'cpu')
    scores = []
    for i, picture in enumerate(exported.pictures((60, 90), (301, 200), (5, 3))):
        file = tmp_path / f'{i}.png'
        # Smooth, as photos are.
        cv2.imwrite(str(file), cv2.resize(cv2.resize(picture, (3, 3)), picture.shape[1::-1]))
        expected = theirs.predict(theirs.load(file)).pred_score.numpy()
        np.testing.assert_allclose(ours.predict(ours.load(file))['scores'], expected, atol=5e-3)
        scores.append(expected)
    assert np.ptp(scores, axis=0).max() > 0.05


@pytest.mark.slow
def test_boxes_come_back_from_behind_a_padding_step(thin_config, tmp_path):
    """As configs of before mmdet 3 pad: boxes end at the padded size, and are scaled by the size before."""
    cfg = thin_config('mmdet/atss_focalnet_t_3x.py')
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(190, 120), keep_ratio=True),
        dict(type='Pad', size_divisor=64), dict(type='PackDetInputs', meta_keys=('img_shape', 'ori_shape',
                                                                               'scale_factor'))]
    cfg.model.data_preprocessor.pad_size_divisor = 1
    cfg.model.test_cfg.score_thr = 0.0
    model = load_model(cfg)
    spread(model)
    export_model(model, tmp_path / 'x.onnx', 'onnx', cfg=cfg, tell=lambda line: None)
    checkpoint = tmp_path / 'x.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    ours, theirs = ExportedPredictor(Runtime(tmp_path / 'x.onnx')), Predictor(cfg, str(checkpoint), 'cpu')
    for i, picture in enumerate(exported.pictures((60, 90), (301, 200))):
        file = tmp_path / f'{i}.png'
        cv2.imwrite(str(file), cv2.resize(cv2.resize(picture, (3, 3)), picture.shape[1::-1]))
        expected, found = theirs.predict(theirs.load(file)).pred_instances, ours.predict(ours.load(file))
        assert len(expected) > 20
        names = 'boxes', 'scores', 'labels'
        agreed = agreement(names, as_tensors([expected], len(expected), names),
                           [torch.from_numpy(found[name])[None] for name in names], (0.0,))
        assert agreed.holds, agreed.words


def test_precision_needs_preprocessing():
    part = Part(nn.Identity(), ('scores',), '', nn.Identity(), dict(task='classification'))
    for to, how in (('onnx', Finish(False, 'fp16')), ('pt2', Finish(True, 'int8'))):
        with pytest.raises(ValueError, match='without --no-preprocess'):
            plan_of(nn.Identity(), part, to, 3, None, how)
    assert plan_of(nn.Identity(), part, 'onnx', 3, None, Finish()) is None
