"""A restricted reader of pickles, for releases of PyTorch whose own takes no list of what else it may name.

Before 2.5 ``torch.load(weights_only=True)`` cannot be told of :mod:`.stand_ins` for as long as a file is read, and
before 2.6 archives of PyTorch 0.1 can make it run code (CVE-2025-32434). The reader here names, calls and fills what
PyTorch's newer one does, and nothing else.
"""

from __future__ import annotations

import _codecs
import _compat_pickle
import collections
import inspect
import pickle
import tarfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ['load_restricted']

# The operations that PyTorch's reader knows: all that torch.save writes.
_OPERATIONS = (
    'GLOBAL', 'NEWOBJ', 'REDUCE', 'BUILD', 'APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'MARK', 'TUPLE', 'TUPLE1',
    'TUPLE2', 'TUPLE3', 'NONE', 'NEWFALSE', 'NEWTRUE', 'EMPTY_TUPLE', 'EMPTY_LIST', 'EMPTY_DICT', 'EMPTY_SET',
    'BININT', 'BININT1', 'BININT2', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING', 'BINPERSID', 'BINGET', 'LONG_BINGET',
    'BINPUT', 'LONG_BINPUT', 'LONG1', 'PROTO', 'STOP')
_DICTS = (dict, collections.OrderedDict, collections.Counter)
# What the newer releases' own list has besides that of the older ones.
_ADDED = {
    'collections.Counter': collections.Counter,
    'torch.device': torch.device,
    '_codecs.encode': _codecs.encode,
    'builtins.bytearray': bytearray,
    'builtins.set': set,
    'builtins.complex': complex,
    **{str(kind): kind for kind in vars(torch).values() if isinstance(kind, (torch.dtype, torch.qscheme))},
    **{f'torch._utils.{name}': getattr(torch._utils, name) for name in (
        '_rebuild_parameter_with_state', '_rebuild_qtensor', '_rebuild_sparse_csr_tensor', '_rebuild_nested_tensor',
        '_rebuild_device_tensor_from_numpy') if hasattr(torch._utils, name)},
}


def load_restricted(path: Path, named: Mapping[str, Callable], map_location: Any, mmap: bool) -> Any:
    """What ``torch.save`` wrote.

    Args:
        path: The file.
        named: What it may name besides what PyTorch's own reader allows: dotted name → what takes its place.
        map_location: As ``torch.load`` takes it.
        mmap: Whether to map the file into memory, where this PyTorch can (2.1 and later).

    Returns:
        What the file holds.

    Raises:
        pickle.UnpicklingError: It names, calls or fills something else.
    """
    if tarfile.is_tarfile(path):
        raise pickle.UnpicklingError('an archive of PyTorch 0.1')
    theirs = {entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}':
              entry[0] if isinstance(entry, tuple) else entry
              for entry in getattr(torch.serialization, 'get_safe_globals', list)()}
    allowed = {**torch._weights_only_unpickler._get_allowed_globals(), **_ADDED, **theirs, **named}

    class Reader(_Unpickler):
        pass

    Reader.allowed = allowed
    reader: Any = types.SimpleNamespace(
        __name__=__name__, Unpickler=Reader, load=lambda file, **settings: Reader(file, **settings).load())
    mapped = dict(mmap=True) if mmap and 'mmap' in inspect.signature(torch.load).parameters else {}
    # A path that is no text cannot be mapped before 2.2.
    return torch.load(str(path), map_location, reader, weights_only=False, **mapped)


# Python's own reader in Python, since that in C leaves no say in its operations.
_PythonUnpickler: Any = pickle._Unpickler


class _Unpickler(_PythonUnpickler):
    allowed: Mapping[str, Any]
    dispatch: dict[int, Callable]

    def find_class(self, module: str, name: str) -> Any:
        # Files are of protocol 2, in which names are those of Python 2.
        if (module, name) in _compat_pickle.NAME_MAPPING:
            module, name = _compat_pickle.NAME_MAPPING[module, name]
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        if f'{module}.{name}' not in self.allowed:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {module}.{name}')
        return self.allowed[f'{module}.{name}']

    def _check_call(self, called: Any) -> None:
        if not any(called is each for each in self.allowed.values()):
            raise pickle.UnpicklingError(f'Unsupported class {type(called).__module__}.{type(called).__qualname__}')

    def _check_kind(self, *kinds: type) -> None:
        if type(self.stack[-1]) not in kinds:
            raise pickle.UnpicklingError(f'Unsupported class {type(self.stack[-1]).__qualname__}')

    def load_reduce(self) -> None:
        self._check_call(self.stack[-2])
        super().load_reduce()

    def load_newobj(self) -> None:
        self._check_call(self.stack[-2])
        super().load_newobj()

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if type(made) is torch.Tensor:
            made.set_(*state)
        elif type(made) is torch.nn.Parameter:
            made.__setstate__(state)
        elif type(made) is collections.OrderedDict:
            made.__dict__.update(state)
        else:
            self._check_call(type(made))
            if hasattr(made, '__setstate__'):
                made.__setstate__(state)
            else:
                made.__dict__.update(state)

    def load_append(self) -> None:
        item = self.stack.pop()
        self._check_kind(list)
        self.stack[-1].append(item)

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._check_kind(list)
        self.stack[-1].extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._check_kind(*_DICTS)
        self.stack[-1][key] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._check_kind(*_DICTS)
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def load_binpersid(self) -> None:
        named = self.stack[-1]
        if type(named) is not tuple or not named or named[0] not in ('storage', b'storage'):
            raise pickle.UnpicklingError('Unsupported persistent id')
        super().load_binpersid()


_CODES = {name: getattr(pickle, name)[0] for name in _OPERATIONS}
_Unpickler.dispatch = {code: vars(_Unpickler).get(f'load_{name.lower()}', _PythonUnpickler.dispatch[code])
                       for name, code in _CODES.items()}
