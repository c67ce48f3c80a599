"""Small files as the export writes them, whose outputs numpy knows."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from focalnet_mm.deploy.preprocess import prepend
from focalnet_mm.deploy.preprocess.operators import Operators

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
PLAN = dict(loader=dict(step='load', turned=True), steps=[],
            prepare=dict(channels=[0, 1, 2], mean=MEAN, std=STD, padding=None))
CLASSES = ['red', 'green', 'blue']


def write(path, op, outputs, thresholds=None, carriers=(), plan=PLAN, **facts):
    """A file of a graph that takes ``images`` and what else is named, with ``plan`` before it."""
    thresholds = thresholds or {}
    def shape(count):
        return [None] * count

    takes = [helper.make_tensor_value_info('images', TensorProto.FLOAT, ['N', 3, 'h', 'w']),
             *(helper.make_tensor_value_info(name, TensorProto.UINT8, shape(2)) for name in carriers),
             *(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in thresholds)]
    returns = []
    for name, (value, kind, dims) in outputs.items():
        op.nodes.append(helper.make_node('Identity', [value], [name], name=name))
        returns.append(helper.make_tensor_value_info(name, kind, shape(dims)))
    # An initialiser that is an input too is what holds where nothing is given.
    op.constants += [numpy_helper.from_array(np.float32(value), name) for name, value in thresholds.items()]
    model = op.model(takes, returns, 18, 10)
    onnx.save(model, path)
    prepend(path, plan)
    model = onnx.load(path)
    facts = dict(classes=CLASSES, preprocess=plan, thresholds=thresholds, **facts)
    helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, path)
    return path


def classifier(path, **facts):
    """Its scores are the softmax of the mean of each channel."""
    op = Operators()
    scores = op.Softmax(op.Flatten(op.GlobalAveragePool('images')), axis=1)
    return write(path, op, dict(scores=(scores, TensorProto.FLOAT, 2)), task='classification', **facts)


def channel_scores(rgb):
    """What :func:`classifier` predicts of a picture (H, W, 3)."""
    means = ((rgb.astype(np.float64) - MEAN) / STD).mean((0, 1))
    return np.exp(means) / np.exp(means).sum()


def detector(path, roi=False, **facts):
    """Finds the left half of any picture with a score of 0.9 and all of it with 0.4, and fills up to three.

    With ``roi`` its masks fill their boxes.
    """
    op = Operators()
    height, width = (op.cast(op.length('original', axis), np.float32) for axis in (0, 1))
    half = op.Div(width, np.float32(2))
    zero = op.constant(np.zeros(1, np.float32))
    boxes = op.Reshape(op.joined(zero, zero, half, height, zero, zero, width, height, *[zero] * 4), np.array([1, 3, 4]))
    count = op.length('images', 0)
    columns = op.cast(op.positions(op.length('original', 1)), np.float32)
    ends = op.Gather(op.Squeeze(boxes, np.array([0])), np.array([2]), axis=1)
    rows = op.Less(op.Unsqueeze(columns, np.array([0])), ends)
    masks = op.Expand(op.Unsqueeze(rows, np.array([0, 2])), op.joined(
        count, np.array([3]), op.length('original', 0), op.length('original', 1)))

    def each(value, *shape):
        return op.Expand(value, op.joined(count, np.array(shape)))

    scores = op.constant(np.array([[0.9, 0.4, 0]], np.float32))
    kept = op.Mul(scores, op.cast(op.GreaterOrEqual(scores, 'score_threshold'), np.float32))
    of_boxes = dict(roi_masks=(each(np.float32(1), 3, 28, 28), TensorProto.FLOAT, 4)) if roi else dict(
        masks=(masks, TensorProto.BOOL, 4))
    return write(path, op, dict(
        boxes=(each(boxes, 3, 4), TensorProto.FLOAT, 3), scores=(each(kept, 3), TensorProto.FLOAT, 2),
        labels=(each(np.array([[2, 0, -1]]), 3), TensorProto.INT64, 2), **of_boxes),
        thresholds=dict(score_threshold=0.0), carriers=['original'], task='detection', **facts)


def layers(path, **how):
    """A classifier of two convolutions and a product, with weights of all sizes."""
    random, op = np.random.default_rng(0), Operators()

    def weight(*shape):
        return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    x = op.Relu(op.Conv('images', weight(32, 3, 3, 3), weight(32, 1)[:, 0], strides=[2, 2]))
    # As the exporter writes a linear layer: its weight gets two dimensions on the way.
    x = op.Relu(op.Conv(x, op.Unsqueeze(weight(64, 32), np.array([2, 3]))))
    scores = op.Softmax(op.Gemm(op.Flatten(op.GlobalAveragePool(x)), weight(64, 3), weight(3, 1)[:, 0]), axis=1)
    return write(path, op, dict(scores=(scores, TensorProto.FLOAT, 2)), task='classification', **how)


def pictures(*sizes, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
