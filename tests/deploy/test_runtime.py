"""Exported files run with onnxruntime and numpy."""

import numpy as np
import onnx
import pytest

from focalnet_mm.deploy import Runtime
from tests.helpers import exported


def test_pictures_of_all_sizes_in_their_order(tmp_path):
    runtime = Runtime(exported.classifier(tmp_path / 'x.onnx'))
    pictures = exported.pictures((20, 30), (7, 5), (20, 30), (20, 30), (1, 1))
    for batch_size in (1, 2, 8):
        found = runtime(pictures, batch_size=batch_size)
        for picture, entry in zip(pictures, found, strict=True):
            np.testing.assert_allclose(entry['scores'], exported.channel_scores(picture), atol=1e-5)
    assert runtime([]) == []
    assert (runtime.classes, runtime.task, runtime.palette) == (('red', 'green', 'blue'), 'classification', [])
    assert runtime.providers == ('CPUExecutionProvider',)


def test_objects_without_filling(tmp_path):
    runtime = Runtime(exported.detector(tmp_path / 'x.onnx'))
    found = runtime(exported.pictures((20, 30), (7, 5)), score_threshold=0.0)
    for entry, (height, width) in zip(found, [(20, 30), (7, 5)], strict=True):
        np.testing.assert_array_equal(entry['boxes'], [[0, 0, width / 2, height], [0, 0, width, height]])
        assert entry['labels'].tolist() == [2, 0]
        assert entry['masks'].sum((1, 2)).tolist() == [-(-width // 2) * height, width * height]
    fewer, = runtime(exported.pictures((20, 30)), score_threshold=0.5)
    runtime.thresholds['iou_threshold'] = 0.5
    with pytest.raises(ValueError, match=r'iou_threshold is 1\.5, expected a number from 0 to 1'):
        runtime(exported.pictures((20, 30)), iou_threshold=1.5)
    assert {name: len(value) for name, value in fewer.items()} == dict(boxes=1, scores=1, labels=1, masks=1)


def test_weights_that_were_left_behind(tmp_path):
    model = onnx.load(exported.layers(tmp_path / 'x.onnx'))
    onnx.save_model(model, tmp_path / 'y.onnx', save_as_external_data=True, location='y.onnx.data')
    assert len(Runtime(tmp_path / 'y.onnx')(exported.pictures((8, 9)))) == 1
    (tmp_path / 'y.onnx.data').rename(tmp_path / 'z.onnx.data')
    with pytest.raises(ValueError, match=r'y.onnx could not be opened .* is not there or not whole .*: copy both'):
        Runtime(tmp_path / 'y.onnx')


def test_a_provider_that_does_not_start(tmp_path, monkeypatch):
    """onnxruntime itself goes on with the CPU."""
    import onnxruntime
    names = ['CUDAExecutionProvider', 'CPUExecutionProvider']
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: names)
    with (pytest.warns(UserWarning, match='CUDAExecutionProvider'),
          pytest.raises(ValueError, match='could not start CUDAExecutionProvider and would compute with CPU')):
        Runtime(exported.classifier(tmp_path / 'x.onnx'), ('cuda', 'cpu'))


def test_what_is_wrong_is_said(tmp_path):
    file = exported.classifier(tmp_path / 'x.onnx')
    with pytest.raises(FileNotFoundError, match=r'y\.onnx does not exist'):
        Runtime(tmp_path / 'y.onnx')
    with pytest.raises(ValueError, match='cannot compute with tensorrt, only with cpu'):
        Runtime(file, ('tensorrt',))
    runtime = Runtime(file)
    with pytest.raises(ValueError, match='no threshold score_thr: there are none'):
        runtime(exported.pictures((4, 4)), score_thr=0.5)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r'expected \(H, W, 3\) in uint8'):
            runtime([wrong])
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    with pytest.raises(ValueError, match=r'bad\.onnx could not be opened'):
        Runtime(tmp_path / 'bad.onnx')
    model = onnx.load(file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / 'plain.onnx')
    with pytest.raises(ValueError, match='says nothing of task, classes, preprocess'):
        Runtime(tmp_path / 'plain.onnx')
