"""An ONNX graph written operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ['Operand', 'Operators']

#: The name of a value in the graph, or a constant.
Operand = str | np.ndarray | np.generic


class Operators:
    """An ONNX graph that grows by a node with each call.

    ``op.Add(x, np.float32(1))`` adds a node ``Add`` and returns the name of its value; attributes are keywords.

    Args:
        parent: The graph that this one is the body of a loop or a branch in: names are not used twice.
        prefix: What names begin with; by default as the parent's do.
    """

    def __init__(self, parent: Operators | None = None, prefix: str = '') -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: list[int] = parent._names if parent else [0]
        self._prefix: str = parent._prefix if parent else prefix

    def __getattr__(self, kind: str) -> Callable[..., str]:
        if not kind[0].isupper():
            raise AttributeError(kind)

        def add(*inputs: Operand, **attributes: Any) -> str:
            output = self.name(kind)
            names = [self.constant(value) for value in inputs]
            self.nodes.append(helper.make_node(kind, names, [output], name=output, **attributes))
            return output
        return add

    def name(self, kind: str) -> str:
        """A name that no other value has."""
        self._names[0] += 1
        return f'{self._prefix}{kind.lower()}_{self._names[0]}'

    def constant(self, value: Operand) -> str:
        """The name of a value: a constant becomes an initialiser."""
        if isinstance(value, str):
            return value
        name = self.name('constant')
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def cast(self, value: Operand, dtype: type) -> str:
        """A value in another type."""
        return self.Cast(value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def length(self, value: str, axis: int) -> str:
        """The length (1,) of an axis, int64."""
        return self.Shape(value, start=axis, end=axis + 1)

    def positions(self, count: str) -> str:
        """0, 1 … of a count (1,), int64."""
        return self.Range(np.int64(0), self.Squeeze(count), np.int64(1))

    def joined(self, *parts: Operand) -> str:
        """Vectors behind one another."""
        return self.Concat(*parts, axis=0)

    def repeat(self, count: str, start: str, step: Callable[[Operators, str, str], str]) -> str:
        """What ``step(op, number, value)`` makes of a value again and again.

        Args:
            count: How often (1,), int64.
            start: The first value.
            step: Called once with the graph of the loop's body; its value keeps type and shape.

        Returns:
            The last value.
        """
        body = Operators(self)
        number, go_on, before, after, output = map(self.name, ('number', 'go_on', 'before', 'after', 'loop'))
        body.nodes.append(helper.make_node('Identity', [step(body, number, before)], [after], name=after))
        kept = self.name('go_on')
        body.nodes.append(helper.make_node('Identity', [go_on], [kept], name=kept))
        graph = helper.make_graph(
            body.nodes, self.name('body'),
            [helper.make_tensor_value_info(number, onnx.TensorProto.INT64, []),
             helper.make_tensor_value_info(go_on, onnx.TensorProto.BOOL, []), _untyped(before)],
            [helper.make_tensor_value_info(kept, onnx.TensorProto.BOOL, []), _untyped(after)], body.constants)
        self.nodes.append(helper.make_node(
            'Loop', [self.Squeeze(count), self.constant(np.array(True)), start], [output], name=output, body=graph))
        return output

    def choose(self, condition: str, true: Callable[[Operators], str], false: Callable[[Operators], str]) -> str:
        """One of two values, of which only that one is computed.

        Args:
            condition: Which (1,), bool.
            true: Adds what computes the first to the graph that it is given.
            false: The second.

        Returns:
            The value.
        """
        branches = {}
        for key, build in (('then_branch', true), ('else_branch', false)):
            branch = Operators(self)
            value = build(branch)
            branches[key] = helper.make_graph(branch.nodes, self.name(key), [], [_untyped(value)], branch.constants)
        return self.If(self.Squeeze(condition), **branches)

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto],
              opset: int, ir_version: int) -> onnx.ModelProto:
        """The graph as a model.

        Args:
            inputs: What it takes.
            outputs: What it returns.
            opset: The version of the standard operators.
            ir_version: That of the format.
        """
        graph = helper.make_graph(self.nodes, 'preprocess', inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=ir_version)


def _untyped(name: str) -> onnx.ValueInfoProto:
    """A value whose type and shape are those of what goes in."""
    return onnx.ValueInfoProto(name=name)
