"""Files in 16 and 8 bits beside float32 in onnxruntime."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from mmengine.config import Config
from onnx import helper, numpy_helper

from focalnet_mm.deploy import Finish, Runtime, export_model
from focalnet_mm.deploy import precision as precisions
from focalnet_mm.deploy.precision import lower_precision
from tests.helpers import exported
from tests.helpers.classifiers import mmpretrain_classifier
from tests.helpers.tools import ROOT

quantises = pytest.mark.skipif(onnxruntime.__version__.startswith('1.23.'),
                               reason='the tools of onnxruntime 1.23 end in an error where they quantise')


@pytest.mark.parametrize(('precision', 'share', 'tolerance'), [
    ('fp16', 2, 2e-3), pytest.param('int8', 4, 0.05, marks=quantises)])
def test_beside_float32(precision, share, tolerance, tmp_path, capfd):
    file = exported.layers(tmp_path / 'x.onnx')
    pictures = exported.pictures((40, 50), (33, 20), (64, 64))
    expected, weights = Runtime(file)(pictures), weight_bytes(file)
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f'{i}.png'), picture[..., ::-1])
    metadata = list(onnx.load(file).metadata_props)
    lower_precision(file, precision, sorted(tmp_path.glob('*.png')))
    assert 'onnxruntime' not in capfd.readouterr().err
    assert list(onnx.load(file).metadata_props) == metadata
    onnx.checker.check_model(onnx.load(file), full_check=True)
    assert {node.domain for node in onnx.load(file).graph.node} == {''}
    assert weight_bytes(file) == weights // share
    difference = max(np.abs(lower['scores'] - own['scores']).max() / own['scores'].max()
                     for lower, own in zip(Runtime(file)(pictures), expected, strict=True))
    # Not 0: something is computed in fewer bits.
    assert 1e-7 < difference < tolerance


@quantises
def test_at_every_level_of_optimisation(tmp_path):
    """onnxruntime moves the transposition of quantised pictures past their padding, at its highest level."""
    padded = dict(exported.PLAN, prepare=dict(exported.PLAN['prepare'], padding=dict(divisor=32, value=0)))
    file = exported.layers(tmp_path / 'x.onnx', plan=padded)
    picture, = exported.pictures((40, 50))
    cv2.imwrite(str(tmp_path / '0.png'), picture[..., ::-1])
    lower_precision(file, 'int8', [tmp_path / '0.png'])
    scores = []
    for level in ('DISABLE_ALL', 'ENABLE_BASIC', 'ENABLE_EXTENDED', 'ENABLE_LAYOUT', 'ENABLE_ALL'):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f'ORT_{level}')
        session = onnxruntime.InferenceSession(file, options, ['CPUExecutionProvider'])
        scores += session.run(['scores'], dict(images=picture[None]))
    np.testing.assert_allclose(scores, [scores[0]] * len(scores), atol=0.01)


@quantises
def test_biases_that_layers_share(tmp_path):
    """onnxruntime would call its copy of the first bias as the value behind it is called."""
    file = exported.layers(tmp_path / 'x.onnx')
    model = onnx.load(file)
    convs = [node for node in model.graph.node if node.op_type == 'Conv']
    size = next(weight.dims[0] for weight in model.graph.initializer if weight.name == convs[0].input[2])
    shared = numpy_helper.from_array(np.linspace(-1, 1, size, dtype=np.float32), 'val_6')
    model.graph.initializer.append(shared)
    # A layer more that has the same bias, and a value that is called as the copy would be.
    again = helper.make_node('Conv', ['val_60', 'more', 'val_6'], ['more_1'], name='more')
    weight = np.random.default_rng(1).standard_normal((size, size, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight / size, 'more'))
    place = list(model.graph.node).index(convs[0])
    after = convs[0].output[0]
    convs[0].input[2], convs[0].output[0] = 'val_6', 'val_60'
    model.graph.node.insert(place + 1, again)
    for node in list(model.graph.node)[place + 2:]:
        node.input[:] = ['more_1' if name == after else name for name in node.input]
    onnx.save(model, file)
    picture, = exported.pictures((40, 50))
    expected = Runtime(file)([picture])[0]['scores']
    cv2.imwrite(str(tmp_path / '0.png'), picture[..., ::-1])
    lower_precision(file, 'int8', [tmp_path / '0.png'])
    np.testing.assert_allclose(Runtime(file)([picture])[0]['scores'], expected, atol=0.05)


def weight_bytes(file):
    return sum(len(weight.raw_data) for weight in onnx.load(file).graph.initializer
               if np.prod(weight.dims) in (32 * 27, 64 * 32, 64 * 3))


@pytest.mark.parametrize('count', [3, 64, 65, 1000])
def test_pictures_of_all_parts_of_a_list(count, monkeypatch):
    """Folders a class would otherwise give those of the first classes alone."""
    read = []
    monkeypatch.setattr(precisions, 'read_image', lambda file: read.append(file) or np.zeros((2, 3, 3), np.uint8))
    pictures = precisions._Pictures(list(range(count)), print)
    while pictures.get_next():
        pass
    assert read == np.linspace(0, count, min(count, 64), endpoint=False).astype(int).tolist()


@quantises
def test_pictures_that_cannot_be_read(tmp_path):
    """They are left out, as predict leaves them out; without any there are no ranges."""
    file, told = exported.layers(tmp_path / 'x.onnx'), []
    (tmp_path / '0.jpg').write_bytes(b'no picture')
    picture, = exported.pictures((40, 50))
    cv2.imwrite(str(tmp_path / '1.png'), picture)
    with pytest.raises(ValueError, match=r'None of the 1 pictures of --calibrate can be read, .*0\.jpg'):
        lower_precision(file, 'int8', [tmp_path / '0.jpg'], told.append)
    lower_precision(file, 'int8', [tmp_path / '0.jpg', tmp_path / '1.png'], told.append)
    assert len(told) == 1
    assert told[0].startswith(f'Left out: {tmp_path}/0.jpg (10 bytes) is damaged')
    Runtime(file)([picture])


def test_pictures_are_looked_at_first(tmp_path):
    """Not once the model has been exported and compared, which takes minutes."""
    model, told = mmpretrain_classifier('tiny-srf', embed_dims=16, depths=(1, 1, 1, 1)), []
    cfg = Config.fromfile(ROOT / 'configs/mmpretrain/focalnet_t_in1k.py')
    (tmp_path / '0.jpg').write_bytes(b'no picture')
    for pictures in ([], [tmp_path / '0.jpg']):
        with pytest.raises(ValueError, match='--calibrate'):
            export_model(model, tmp_path / 'x.onnx', 'onnx', tell=told.append, cfg=cfg,
                         how=Finish(precision='int8', pictures=pictures))
    assert told == []


def test_int8_needs_pictures_and_layers(tmp_path):
    with pytest.raises(ValueError, match='--calibrate'):
        lower_precision(exported.layers(tmp_path / 'x.onnx'), 'int8')
    with pytest.raises(ValueError, match='no layer with weights'):
        lower_precision(exported.classifier(tmp_path / 'x.onnx'), 'fp16')


def test_weights_in_a_file_of_their_own(tmp_path, monkeypatch):
    """They stay there when preprocessing is put in front, wherever one stands, and come in when they get smaller."""
    def prepend(file, plan):
        onnx.save(onnx.load(file), file, save_as_external_data=True, location='x.onnx.data', size_threshold=500)
        before(file, plan)

    before = exported.prepend
    file, pictures = tmp_path / 'x.onnx', exported.pictures((40, 50))
    expected = Runtime(exported.layers(tmp_path / 'y.onnx'))(pictures)[0]['scores']
    monkeypatch.setattr(exported, 'prepend', prepend)
    monkeypatch.setattr(onnx, 'load', lambda path, load_external_data=False, load=onnx.load: load(
        path, load_external_data=load_external_data))
    exported.layers(file)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.onnx', 'x.onnx.data', 'y.onnx']
    np.testing.assert_array_equal(Runtime(file)(pictures)[0]['scores'], expected)
    lower_precision(file, 'fp16')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.onnx', 'y.onnx']
    np.testing.assert_allclose(Runtime(file)(pictures)[0]['scores'], expected, atol=2e-3)
