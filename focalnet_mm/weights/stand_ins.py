"""What checkpoints of training runs hold besides tensors, read without running code and without trust in the file.

PyTorch's restricted reader (``weights_only=True``) calls what is on its list and nothing else. Of what mmengine's
runner saves, that list lacks the history of logged values, NumPy's arrays and scalars, and some plain values of Python.
The functions and classes here take their places while a file is read, and :func:`settle` puts the real values there
afterwards. NumPy's own are not called, since they trust what a file says of a data type, to the point of a crash.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import decimal
import fractions
import pathlib
import pickle
import re
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

__all__ = ['allowed', 'settle']

_LOCK = threading.RLock()
# The longest range that is believed: another value can be made of it, with all its numbers.
_LONGEST_RANGE = 1 << 20


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


class _ArrayType:
    """Stands for the class ``numpy.ndarray``."""


class _Array(np.ndarray):
    """Stands for an array until :func:`settle` makes a plain one of it."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(data, bytes):
            raise _refuse('numpy.ndarray[object]')
        whole: Any = (1, shape, dtype.resolve(), bool(fortran), data)
        super().__setstate__(whole)


def _array(kind: type, shape: tuple, code: bytes) -> _Array:
    """Stands for NumPy's ``_reconstruct``."""
    if kind is not _ArrayType:
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


def _range(*bounds: int) -> range:
    """Stands for ``range``."""
    made = range(*bounds)
    if len(made) > _LONGEST_RANGE:
        raise pickle.UnpicklingError(f'a range of {len(made)} numbers')
    return made


def _no_bytes() -> bytes:
    """Stands for ``bytes``, by which a pickle names empty ones only; of a number it would make as many."""
    return b''


def _dict(factory: Any = None) -> dict:
    """Stands for ``defaultdict``: the entries follow."""
    return {}


def _list(items: Any = (), maxlen: int | None = None) -> list:
    """Stands for ``deque``: the items follow."""
    return list(items)


_SCALARS = ('bool_', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'float16', 'float32',
            'float64', 'complex64', 'complex128')
# NumPy 2 moved what its pickles name; files that were written beside NumPy 1 have the old names.
_NAMED: dict[str, Callable] = {
    'numpy.dtype': _Dtype,
    'numpy.ndarray': _ArrayType,
    **{f'numpy.{module}.multiarray.{name}': function for module in ('core', '_core')
       for name, function in (('_reconstruct', _array), ('scalar', _scalar))},
    **{f'numpy.{name}': getattr(np, name) for name in _SCALARS},
    'numpy.bool': np.bool_,
    'builtins.getattr': _statistic,
    'builtins.range': _range,
    'builtins.bytes': _no_bytes,
    'collections.defaultdict': _dict,
    'collections.deque': _list,
    **{f'pathlib{module}.{prefix}{system}Path': kind for module in ('', '._local') for prefix in ('', 'Pure')
       for system, kind in (('Posix', pathlib.PurePosixPath), ('Windows', pathlib.PureWindowsPath))},
    **{f'builtins.{kind.__name__}': kind for kind in (bool, int, float, str, list, tuple, dict, frozenset, slice)},
    **{f'{kind.__module__}.{kind.__qualname__}': kind for kind in (
        HistoryBuffer, ConfigDict, argparse.Namespace, types.SimpleNamespace, fractions.Fraction, decimal.Decimal,
        datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone)},
    # Its state is set, so it must be among the values. No file can name it: a name ends with its line.
    '\n': _Array,
}


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Let ``torch.load`` read what mmengine's runner saves as long as the context lasts.

    What the program has allowed by itself is allowed too, and is what it was afterwards.
    """
    serialization = torch.serialization
    with _LOCK:
        before = serialization.get_safe_globals()
        kept = [entry for entry in before if _name(entry) not in _NAMED]
        serialization.clear_safe_globals()
        serialization.add_safe_globals([*kept, *((stand_in, name) for name, stand_in in _NAMED.items())])
        try:
            yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(before)


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
    if value is _ArrayType:
        return np.ndarray
    if not isinstance(value, (dict, list, tuple, set, frozenset, HistoryBuffer, argparse.Namespace,
                              types.SimpleNamespace)):
        return value
    if id(value) in done:
        return done[id(value)][1]
    # With the value itself, lest another gets its id.
    done[id(value)] = value, value
    if isinstance(value, dict):
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
