"""What checkpoints of training runs hold besides tensors, read without running code and without trust in the file.

PyTorch's restricted reader (``weights_only=True``) calls what is on its list and nothing else. Of what mmengine's
runner saves, that list lacks the history of logged values, NumPy's arrays and scalars, and some plain values of Python;
of what others save, their configs. The functions and classes here take their places while a file is read, and
:func:`settle` puts the real values there afterwards. NumPy's own are not called, since they trust what a file says of a
data type, to the point of a crash; nor is what makes much of little, as ``int`` does of ``Decimal('1e999999999')``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import decimal
import fractions
import math
import pathlib
import pickle
import re
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from .config_stand_ins import CONFIGS, OmegaNode

__all__ = ['NAMED', 'allowed', 'settle']

_LOCK = threading.RLock()


def _refuse(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f'Unsupported class {what}')


class _Dtype:
    """Stands for ``numpy.dtype``: keeps what the file says of a data type."""

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(name, str) or not re.fullmatch(r'[biufcSUVmM]\d{1,9}|O\d?', name):
            raise pickle.UnpicklingError(f'{name!r} is no data type of NumPy')
        if name.startswith('O'):
            raise _refuse('numpy.ndarray[object]')
        self._name = name
        self._state: tuple = (3, '|', None, None, None)

    def __setstate__(self, state: tuple) -> None:
        self._state = state

    def resolve(self) -> np.dtype:
        """The data type."""
        _, order, part, names, fields, *rest = self._state
        made: np.dtype = np.dtype(self._name)
        if part:
            made = np.dtype((part[0].resolve(), part[1]))
        elif names:
            made = np.dtype(dict(names=list(names), formats=[fields[name][0].resolve() for name in names],
                                 offsets=[fields[name][1] for name in names], itemsize=rest[0]))
        elif made.kind in 'mM' and len(rest) > 3 and rest[3]:
            unit, count = rest[3][1][:2]
            made = np.dtype(f'{made.kind}8[{int(count)}{unit.decode()}]')
        if made.hasobject:
            raise _refuse('numpy.ndarray[object]')
        return made.newbyteorder(order) if order in ('<', '>') and not names else made


class _Type:
    """Stands for a class that a file names as a value and must not call."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __call__(self, *_: Any) -> Any:
        raise _refuse(f'{self.real.__module__}.{self.real.__name__}')


_ARRAY_TYPE = _Type(np.ndarray)


class _Array(np.ndarray):
    """Stands for an array until :func:`settle` makes a plain one of it."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(data, bytes):
            raise _refuse('numpy.ndarray[object]')
        # Elements without any bytes could be as many as one likes.
        if math.prod(shape) > len(data):
            raise pickle.UnpicklingError(f'an array of shape {shape} in {len(data)} bytes')
        whole: Any = (1, shape, dtype.resolve(), bool(fortran), data)
        super().__setstate__(whole)


def _array(kind: _Type, shape: tuple, code: bytes) -> _Array:
    """Stands for NumPy's ``_reconstruct``."""
    if kind is not _ARRAY_TYPE:
        raise _refuse(repr(kind))
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _scalar(dtype: _Dtype, data: bytes = b'') -> Any:
    """Stands for NumPy's ``scalar``."""
    made = dtype.resolve()
    if not isinstance(data, bytes) or len(data) != made.itemsize:
        raise pickle.UnpicklingError(f'a scalar of {made} has other bytes')
    return np.frombuffer(data, made)[0] if made.itemsize else made.type()


def _statistic(owner: type, name: str) -> Callable:
    """Stands for ``getattr``: a history names its statistics, such as ``HistoryBuffer.mean``, by it."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {owner!r}, {name!r}')


class _Range:
    """Stands for ``range``, of which nothing else can be made with all its numbers."""

    def __init__(self, *bounds: int) -> None:
        self.real = range(*bounds)


def _no_bytes() -> bytes:
    """Stands for ``bytes``, by which a pickle names empty ones only; of a number it would make as many."""
    return b''


def _dict(factory: Any = None) -> dict:
    """Stands for ``defaultdict``: the entries follow."""
    return {}


def _list(items: Any = (), maxlen: int | None = None) -> list:
    """Stands for ``deque``: the items follow."""
    return items if type(items) is list else []


def _frozenset(items: Any = ()) -> frozenset:
    """Stands for ``frozenset``."""
    if type(items) is not list:
        raise _refuse('builtins.frozenset')
    return frozenset(items)


class _ConfigDict:
    """Stands for mmengine's ``ConfigDict``, which copies each dict within as often as it is named."""

    def __init__(self, content: Any = None) -> None:
        if content is not None and type(content) is not dict:
            raise _refuse('mmengine.config.config.ConfigDict')
        self.content = {} if content is None else content


def _fraction(numerator: Any, denominator: Any = 1) -> fractions.Fraction:
    """Stands for ``Fraction``, which writes the powers of ten in a text out."""
    if isinstance(numerator, str):
        numerator, _, denominator = numerator.partition('/')
    return fractions.Fraction(int(str(numerator)), int(str(denominator or 1)))


class _Version:
    """Stands for ``TorchVersion``, a text."""

    def __new__(cls, text: Any = '') -> str:  # type: ignore[misc]
        return text if isinstance(text, str) else ''


_SCALARS = ('bool_', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'float16', 'float32',
            'float64', 'complex64', 'complex128')
#: Dotted name → what takes its place while a file is read. NumPy 2 moved what its pickles name; files that were written
#: beside NumPy 1 have the old names.
NAMED: dict[str, Callable] = {
    'numpy.dtype': _Dtype,
    'numpy.ndarray': _ARRAY_TYPE,
    **{f'numpy.{module}.multiarray.{name}': function for module in ('core', '_core')
       for name, function in (('_reconstruct', _array), ('scalar', _scalar))},
    **{f'numpy.{name}': _Type(getattr(np, name)) for name in _SCALARS},
    'numpy.bool': _Type(np.bool_),
    'builtins.getattr': _statistic,
    'builtins.range': _Range,
    'builtins.frozenset': _frozenset,
    'builtins.slice': slice,
    'builtins.bytes': _no_bytes,
    'collections.defaultdict': _dict,
    'collections.deque': _list,
    **{f'pathlib{module}.{prefix}{system}Path': kind for module in ('', '._local') for prefix in ('', 'Pure')
       for system, kind in (('Posix', pathlib.PurePosixPath), ('Windows', pathlib.PureWindowsPath))},
    **{f'builtins.{kind.__name__}': _Type(kind) for kind in (bool, int, float, str, list, tuple, dict)},
    'typing.Any': _Type(Any),
    'fractions.Fraction': _fraction,
    'mmengine.config.config.ConfigDict': _ConfigDict,
    'torch.torch_version.TorchVersion': _Version,
    **CONFIGS,
    **{f'{kind.__module__}.{kind.__qualname__}': kind for kind in (
        HistoryBuffer, argparse.Namespace, types.SimpleNamespace, decimal.Decimal,
        datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone)},
    # Its state is set, so it must be among the values. No file can name it: a name ends with its line.
    '\n': _Array,
}


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Let ``torch.load`` read what mmengine's runner saves as long as the context lasts.

    What the program has allowed by itself, or allows meanwhile, is allowed too, and is what it was afterwards.
    """
    serialization = torch.serialization
    ours: list[Any] = [(stand_in, name) for name, stand_in in NAMED.items()]
    with _LOCK, serialization.safe_globals(ours):
        theirs = [entry for entry in serialization.get_safe_globals() if entry not in ours and _name(entry) in NAMED]
        # Whoever leaves the context takes them off the list.
        with serialization.safe_globals(theirs):
            pass
        try:
            yield
        finally:
            serialization.add_safe_globals(theirs)


def _name(entry: Any) -> str:
    return entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}'


def settle(value: Any) -> Any:
    """What was read, with the real values in place of those that stood for them.

    Args:
        value: What ``torch.load`` returned within :func:`allowed`. Its dicts and lists are changed in place.

    Returns:
        The same, of plain values, NumPy's arrays among them.
    """
    return _settle(value, {})


def _settle(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    if isinstance(value, _Array):
        return value.view(np.ndarray)
    if isinstance(value, _Dtype):
        return value.resolve()
    if isinstance(value, (_Type, _Range)):
        return value.real
    if not isinstance(value, (dict, list, tuple, set, frozenset, HistoryBuffer, argparse.Namespace,
                              types.SimpleNamespace, OmegaNode, _ConfigDict)):
        return value
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, _ConfigDict):
        made = ConfigDict()
        done[id(value)] = value, made
        dict.update(made, _settle(value.content, done))
        return made
    if isinstance(value, OmegaNode):
        done[id(value)] = value, None
        done[id(value)] = value, _settle(value.content, done)
        return done[id(value)][1]
    # With the value itself, lest another gets its id.
    done[id(value)] = value, value
    if isinstance(value, dict):
        if isinstance(value, OrderedDict) and '__immutable__' in vars(value):
            vars(value).clear()
        for key, item in list(dict.items(value)):
            settled = _settle(item, done)
            if settled is not item:
                dict.__setitem__(value, key, settled)
    elif isinstance(value, list):
        value[:] = [_settle(item, done) for item in value]
    elif isinstance(value, (tuple, set, frozenset)):
        items = [_settle(item, done) for item in value]
        # torch.Size is a tuple too, of numbers alone.
        if any(settled is not item for settled, item in zip(items, value)):
            done[id(value)] = value, type(value)(items)
    else:
        _settle(vars(value), done)
    return done[id(value)][1]
