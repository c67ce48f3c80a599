"""Exported files run with onnxruntime and numpy."""

import numpy as np
import onnx
import pytest

from focalnet_mm.deploy import Runtime
from focalnet_mm.deploy.preprocess.operators import Operators
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


@pytest.mark.parametrize(('given', 'message'), [
    (dict(score_threshold=None), 'score_threshold is None, expected a number'),
    (dict(score_threshold=float('nan')), 'score_threshold is nan, expected a number'),
    (dict(score_threshold=[0.1, 0.2]), r'score_threshold is \[0\.1, 0\.2\], expected a number'),
    (dict(score_threshold='0.5'), "score_threshold is '0.5', expected a number"),
    (dict(batch_size=0), 'batch_size is 0, expected a whole number from 1 up'),
    (dict(batch_size=-1), 'batch_size is -1, expected'), (dict(batch_size=1.5), r'batch_size is 1\.5, expected')])
def test_arguments_that_are_wrong(given, message, tmp_path):
    runtime = Runtime(exported.detector(tmp_path / 'x.onnx'))
    with pytest.raises(ValueError, match=message):
        runtime(exported.pictures((20, 30)), **given)


def test_no_pictures(tmp_path):
    runtime = Runtime(exported.detector(tmp_path / 'x.onnx'))
    assert runtime([]) == []
    with pytest.raises(ValueError, match=r'pictures are None, expected a list of them, or an array \(N, H, W, 3\)'):
        runtime(None)


def test_limits_without_bounds(tmp_path):
    """And numbers of NumPy."""
    runtime = Runtime(exported.detector(tmp_path / 'x.onnx'), 'cpu', threads=np.int64(1))
    for threshold, count in ((-float('inf'), 2), (float('inf'), 0), (np.float64(0.5), 1)):
        assert len(runtime(exported.pictures((20, 30)), np.int32(2), score_threshold=threshold)[0]['boxes']) == count


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
    with pytest.raises(FileNotFoundError, match=f'{tmp_path} is a folder'):
        Runtime(tmp_path)
    with pytest.raises(ValueError, match="threads is '2', expected a whole number from 0 up"):
        Runtime(file, threads='2')
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
    # Others write properties of these names that are something else.
    for name, value in dict(task='detect', classes='5', preprocess='{}').items():
        model.metadata_props.add(key=name, value=value)
    onnx.save(model, tmp_path / 'other.onnx')
    with pytest.raises(ValueError, match='says nothing of classes: the Runtime takes'):
        Runtime(tmp_path / 'other.onnx')


def test_a_picture_that_the_model_fails_on(tmp_path):
    op = Operators()
    first = op.Slice('images', np.array([5]), np.array([6]), np.array([3]))
    scores = op.Flatten(op.ReduceMax(op.Squeeze(first, np.array([3])), np.array([2]), keepdims=0))
    runtime = Runtime(exported.write(tmp_path / 'x.onnx', op, dict(scores=(scores, onnx.TensorProto.FLOAT, 2)),
                                     task='classification'))
    assert runtime(exported.pictures((4, 9)))
    with pytest.raises(ValueError, match=r'x\.onnx fails on pictures of 4 × 3 pixels: .*Squeeze'):
        runtime(exported.pictures((4, 3)))
