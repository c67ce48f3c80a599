"""Pickles of NumPy arrays, as detectron2 publishes models (``.pkl``), read without running anything of them.

A pickle is a program for a stack machine. The machine here knows values and containers, and of all functions and
classes the few by which NumPy stores an array and Python an ordered dict; it calls none of them, but does itself what
they would. Everything else is refused by name.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ['is_numpy_pickle', 'read_numpy_pickle']

# The number that torch.save began its files with before torch 1.6, and how far from the start it ends at most.
_TORCH, _START = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.', 32
# Each operation may take a hundred bytes of memory, of one in the file.
_MOST_OPERATIONS = 1 << 18
_NUMBER = re.compile(r'[biufc]\d{1,2}')
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_VALUES = {'BININT', 'BININT1', 'BININT2', 'INT', 'LONG', 'LONG1', 'LONG4', 'BINFLOAT', 'FLOAT', 'BINUNICODE',
           'SHORT_BINUNICODE', 'BINUNICODE8', 'UNICODE', 'SHORT_BINSTRING', 'BINSTRING', 'STRING', 'BINBYTES',
           'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'}
_EMPTY: dict[str, Callable[[], Any]] = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple, 'EMPTY_SET': set}
# By these a pickle names empty values.
_WITHOUT_ARGUMENTS: dict[str, Callable[[], Any]] = {
    'collections.OrderedDict': dict, '__builtin__.bytes': bytes, 'builtins.bytes': bytes, '__builtin__.set': set,
    'builtins.set': set}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


def is_numpy_pickle(path: Path) -> bool:
    """Whether a file is a pickle by itself, not one of ``torch.save``."""
    with open(path, 'rb') as file:
        start = file.read(_START)
    return start[:1] == b'\x80' and start[1:2] in (b'\x02', b'\x03', b'\x04', b'\x05') and _TORCH not in start


def read_numpy_pickle(path: Path) -> Any:
    """What a pickle holds, with tensors in place of its arrays.

    Args:
        path: The file.

    Returns:
        Plain values.

    Raises:
        pickle.UnpicklingError: It holds something else, or is damaged.
    """
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # It reads as a file does, and never more than there is.
        stream: Any = content
        machine = _Machine(2 * len(content))
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if count == _MOST_OPERATIONS:
                raise pickle.UnpicklingError(f'more than {count} operations')
            machine.run(operation.name, argument)
    return machine.stack[-1]


class _Name(str):
    """A function or class that the pickle names."""


class _DataType:
    """A number's type, until its byte order is known."""

    def __init__(self, name: Any) -> None:
        if not isinstance(name, str) or not _NUMBER.fullmatch(name):
            raise pickle.UnpicklingError(f'Unsupported class numpy.ndarray[{name}]')
        self.found = np.dtype(name)


class _Array:
    """An array, until its content is known; places are where it is remembered."""

    def __init__(self) -> None:
        self.places: list[int] = []


class _Machine:
    """The stack machine.

    Args:
        size: How many bytes it may make of those in the file. Protocol 2 has the bytes of an array as text, so that it
            makes them twice.
    """

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.left = size

    def run(self, name: str, argument: Any) -> None:
        """Do an operation."""
        if name in _VALUES:
            self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name in ('BINGET', 'LONG_BINGET', 'GET'):
            self.stack.append(self.memo[argument])
        elif name in ('BINPUT', 'LONG_BINPUT', 'PUT', 'MEMOIZE'):
            self._remember(len(self.memo) if name == 'MEMOIZE' else argument)
        elif name not in ('PROTO', 'FRAME', 'STOP'):
            method = getattr(self, f'_{name.lower()}', None)
            if method is None:
                raise pickle.UnpicklingError(f'Unsupported class {str(argument or name).replace(" ", ".")}')
            method(argument)

    def _remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]
        if isinstance(self.stack[-1], _Array):
            self.stack[-1].places.append(place)

    def _above_mark(self) -> list[Any]:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def _spend(self, data: Any) -> None:
        """Refuse to make more of the same bytes again and again."""
        self.left -= len(data)
        if self.left < 0:
            raise pickle.UnpicklingError('more bytes of arrays than the file has')

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._above_mark()))

    def _list(self, _: Any) -> None:
        self.stack.append(self._above_mark())

    def _dict(self, _: Any) -> None:
        self.stack.append(_pairs(self._above_mark()))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self.stack[-1].append(item)

    def _appends(self, _: Any) -> None:
        items = self._above_mark()
        self.stack[-1].extend(items)

    def _additems(self, _: Any) -> None:
        items = self._above_mark()
        self.stack[-1].update(items)

    def _setitem(self, _: Any) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        self.stack[-1][key] = value

    def _setitems(self, _: Any) -> None:
        items = self._above_mark()
        self.stack[-1].update(_pairs(items))

    def _global(self, argument: str) -> None:
        self.stack.append(_Name(argument.replace(' ', '.', 1)))

    def _stack_global(self, _: Any) -> None:
        module, name = self.stack[-2:]
        self.stack[-2:] = [_Name(f'{module}.{name}')]

    def _reduce(self, _: Any) -> None:
        name, arguments = self.stack[-2:]
        for value in arguments:
            self._spend(value if isinstance(value, (str, bytes)) else ())
        self.stack[-2:] = [_call(name, arguments)]

    def _build(self, _: Any) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, _DataType):
            order = state[1]
            built.found = built.found.newbyteorder(order) if order in ('<', '>') else built.found
        elif isinstance(built, _Array):
            _, shape, kind, fortran, data = state
            self._spend(data)
            self.stack[-1] = _tensor(data, kind, shape, 'F' if fortran else 'C')
            for place in built.places:
                self.memo[place] = self.stack[-1]
        else:
            raise pickle.UnpicklingError(f'Unsupported class {type(built).__name__} with a state of its own')


def _pairs(items: Sequence[Any]) -> dict:
    return dict(zip(items[::2], items[1::2], strict=True))


def _call(name: Any, arguments: Any) -> Any:
    """What a function or class would make of its arguments."""
    if not isinstance(name, _Name):
        raise pickle.UnpicklingError(f'a call of {type(name).__name__}')
    plain = name.replace('numpy._core.', 'numpy.core.')
    if plain == 'numpy.core.multiarray._reconstruct' and arguments[0] == 'numpy.ndarray':
        return _Array()
    if plain == 'numpy.dtype':
        return _DataType(arguments[0])
    if plain == 'numpy.core.multiarray.scalar':
        return _tensor(arguments[1], arguments[0], (), 'C').item()
    if plain == 'numpy.core.numeric._frombuffer':
        data, kind, shape, order = arguments
        return _tensor(data, kind, shape, order)
    if plain == '_codecs.encode' and arguments[1] in ('latin1', 'latin-1'):
        return arguments[0].encode('latin-1')
    if plain in _WITHOUT_ARGUMENTS and not arguments:
        return _WITHOUT_ARGUMENTS[plain]()
    raise pickle.UnpicklingError(f'Unsupported class {name}')


def _tensor(data: Any, kind: Any, shape: Any, order: str) -> torch.Tensor:
    """The tensor of an array's bytes."""
    # Python 2 stored them as text.
    data = data.encode('latin-1') if isinstance(data, str) else data
    if not isinstance(data, bytes) or not isinstance(kind, _DataType):
        raise pickle.UnpicklingError('Unsupported class numpy.ndarray[object]')
    if min(shape, default=0) < 0 or math.prod(shape) * kind.found.itemsize != len(data):
        raise pickle.UnpicklingError(f'an array of shape {shape} in {len(data)} bytes')
    array = np.frombuffer(data, kind.found).reshape(shape, order='F' if order == 'F' else 'C')
    return torch.from_numpy(array.astype(kind.found.newbyteorder('='), order='C', copy=True))
