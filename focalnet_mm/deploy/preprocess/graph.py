"""A plan of preprocessing as an ONNX graph, and in front of a model's."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .operators import Operators
from .steps import RESIZES, STEPS, prepared

__all__ = ['CARRIERS', 'PREFIX', 'carriers_behind', 'prepend', 'preprocess_model']

#: Inputs of a model of which the shapes alone count: those of the images without the padding of a batch, of the
#: pictures, and of what these were resized to, which a step may have padded or cropped afterwards.
CARRIERS = ('inside', 'original', 'resized')
#: What the names of the nodes and values before the model begin with.
PREFIX = 'preprocess/'


def carriers_behind(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of :data:`CARRIERS` that differ behind a plan, whose last step to resize may not be the last one."""
    steps = plan['steps']
    return CARRIERS if steps and steps[-1]['step'] not in RESIZES else CARRIERS[:2]


def preprocess_model(plan: Mapping[str, Any], opset: int = 18, ir_version: int = 10,
                     prefix: str = '') -> onnx.ModelProto:
    """A plan as a model of its own.

    Args:
        plan: What :func:`~focalnet_mm.deploy.preprocess.make_plan` returns.
        opset: The version of the standard operators, 18 or later.
        ir_version: That of the format.
        prefix: What all names but that of the input begin with.

    Returns:
        A model that takes ``pictures`` (N, H, W, 3), RGB in uint8, all of one size, and returns ``prepared``
        (N, C, h, w) in float32, and of which the shapes alone count ``inside`` (h', w'), ``original`` (H, W) and
        ``resized`` (h'', w'').
    """
    op = Operators(prefix=prefix)
    # The one node that takes the input, whose name changes in front of a model; branches refer to what it gives.
    images = op.Identity('pictures')
    original = resized = _carrier(op, images)
    for step in plan['steps']:
        images = STEPS[step['step']](op, images, step)
        if step['step'] in RESIZES:
            resized = _carrier(op, images)
    outputs = prepared(op, images, plan['prepare']), _carrier(op, images), original, resized
    takes = [helper.make_tensor_value_info('pictures', TensorProto.UINT8, ['N', 'H', 'W', 3])]
    returns = []
    for name, value, kind, shape in zip(('prepared', *CARRIERS), outputs,
                                        (TensorProto.FLOAT, *[TensorProto.UINT8] * len(CARRIERS)),
                                        (['N', 'C', 'prepared_height', 'prepared_width'],
                                         ['inside_height', 'inside_width'], ['H', 'W'],
                                         ['resized_height', 'resized_width'])):
        output = f'{prefix}{name}'
        op.nodes.append(helper.make_node('Identity', [value], [output], name=output))
        returns.append(helper.make_tensor_value_info(output, kind, shape))
    return op.model(takes, returns, opset, ir_version)


def prepend(file: Path, plan: Mapping[str, Any]) -> None:
    """Put preprocessing in front of a model that was written.

    Args:
        file: A model that takes normalised ``images`` (N, C, H, W) and may take :data:`CARRIERS`; it is rewritten to
            take ``images`` (N, H, W, 3), RGB in uint8.
        plan: What :func:`~focalnet_mm.deploy.preprocess.make_plan` returns.
    """
    # Weights in a file of their own stay there.
    model = onnx.load(file, load_external_data=False)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    before = preprocess_model(plan, opset, model.ir_version, PREFIX).graph
    before.input[0].name = 'images'
    _rename(before.node, {'pictures': 'images'})
    graph, given = model.graph, {'images': f'{PREFIX}prepared', **{name: f'{PREFIX}{name}' for name in CARRIERS}}
    _rename(graph.node, given)
    # onnx.compose would leave out what only branches and bodies of loops take of the graph around them.
    nodes, inputs = list(graph.node), [value for value in graph.input if value.name not in given]
    for field, values in ((graph.node, [*before.node, *nodes]), (graph.input, [before.input[0], *inputs])):
        kept = [copy.deepcopy(value) for value in values]
        del field[:]
        field.extend(kept)
    graph.initializer.extend(before.initializer)
    onnx.save(model, file)


def _rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Give the values that nodes take, and those in their branches and bodies, other names."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField('g') else [])):
                _rename(graph.node, names)
                for value in graph.output:
                    value.name = names.get(value.name, value.name)


def _carrier(op: Operators, images: str) -> str:
    """(H, W): the first channel of the first image, of which the shape counts."""
    first = op.Slice(images, *map(np.array, ([0, 0], [1, 1], [0, 3])))
    return op.cast(op.Squeeze(first, np.array([0, 3])), np.uint8)
