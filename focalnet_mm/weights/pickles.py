"""Files of ``torch.save`` → what they hold, or a sentence about what is wrong with them."""

from __future__ import annotations

import errno
import mmap as memory_map
import os
import pickletools
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..releases import HAS_SAFE_GLOBALS
from .numpy_pickles import is_numpy_pickle, read_numpy_pickle
from .restricted import load_restricted
from .stand_ins import NAMED, allowed, settle

__all__ = ['CodeError', 'ForgedError', 'declared_limit', 'load_pickle']

# Tensors may be views that repeat what their file holds, and several may share it.
_LARGEST_VIEW = 1 << 30
_MOST_SHARED = 16
_CHUNK = 1 << 20
# Each operation of a pickle may take a hundred bytes of memory and more, out of one in the file.
_MOST_OPERATIONS = 1 << 20
# What torch's own reader calls although it fills as much memory as a number says.
_FILLERS = ('__builtin__ bytearray', 'builtins bytearray')
# Files of torch before 1.6: a magic number, the protocol, the machine, the content, the keys of the tensors.
_LEGACY_PICKLES = 5
_OUT_OF_MEMORY = re.compile("can't allocate memory|Cannot allocate memory|not enough memory|bad_alloc|unable to mmap")


class ForgedError(ValueError):
    """A file that is not what it says, or would run code or grow beyond what it holds."""


class CodeError(ForgedError):
    """A file holds objects that could run code when they are unpickled."""


def declared_limit(path: Path) -> int:
    """How many bytes the tensors of a file may declare together."""
    return max(_MOST_SHARED * path.stat().st_size, _LARGEST_VIEW)


def load_pickle(path: Path, map_location: Any = 'cpu', mmap: bool = True, check: bool = True) -> Any:
    """What ``torch.save`` wrote, read by a reader that runs no code, or a pickle of NumPy arrays.

    Besides tensors and plain values it may hold what mmengine's runner notes, see :mod:`.stand_ins`.

    Args:
        path: The file.
        map_location: As ``torch.load`` takes it.
        mmap: Map the file into memory where its format allows that, so that tensors are read when they are used. The
            file must not be written to as long as they are.
        check: Compare the content with the archive's check sums.

    Returns:
        What the file holds.

    Raises:
        OSError: The file cannot be read, or memory does not suffice.
        CodeError: The file holds objects that could run code, and whose classes the program has not allowed.
        ValueError: The file is damaged or forged.
    """
    try:
        # What older releases of torch saved is no archive, and cannot be mapped.
        if is_numpy_pickle(path):
            return read_numpy_pickle(path)
        archive = zipfile.is_zipfile(path)
        if archive:
            _check_archive(path, check)
        elif check:
            _check_legacy(path)
        return settle(_load(path, map_location, mmap and archive))
    except ForgedError:
        raise
    except OSError as error:
        # Before Python 3.11 an archive with a wrong offset is read from before its beginning.
        if error.errno in (errno.ENOMEM, errno.EINVAL):
            raise _explain(path, error) from error
        raise
    except RecursionError:
        raise ForgedError(f'The checkpoint {path} holds values within values, deeper than Python follows: it is '
                          'damaged or forged; get it elsewhere.') from None
    # A damaged archive or pickle ends in nearly any error, among them TypeError, AttributeError and RecursionError.
    except Exception as error:
        raise _explain(path, error) from error


def _load(path: Path, map_location: Any, mmap: bool) -> Any:
    if not HAS_SAFE_GLOBALS:
        return load_restricted(path, NAMED, map_location, mmap)
    with allowed():
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap or None)


def _check_archive(path: Path, check: bool) -> None:
    """Refuse an archive that unpacks to more than it is (torch.save compresses nothing), or to something else."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith('/constants.pkl') for entry in entries):
            raise ForgedError(f'The checkpoint {path} is a model that TorchScript wrote, whose code would run: give a '
                              'file of weights.')
        declared = sum(entry.file_size for entry in entries)
        if declared > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ForgedError(f'The checkpoint {path} has {size} bytes and unpacks to {declared}: PyTorch does not '
                              'compress what it saves, so it is damaged or forged; get it elsewhere.')
        filled = [entry for entry in entries if entry.file_size]
        different = [entry.filename for entry in filled if not _is_intact(archive, entry)] if check else []
    # Where all differ, they were not written: torch.serialization.set_crc32_options(False).
    if different and len(different) < len(filled):
        raise ForgedError(f'The checkpoint {path} is damaged: {different[0]} in it'
                          f'{f" and {len(different) - 1} more" if len(different) > 1 else ""} does not have the check '
                          'sum that was written with it; get it again.')
    for entry in entries if check else ():
        if entry.filename.endswith('data.pkl'):
            _check_operations(path, _stored(path, entry))


def _stored(path: Path, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry that is not compressed, whatever its check sum."""
    with open(path, 'rb') as file:
        file.seek(entry.header_offset + 26)
        name, extra = struct.unpack('<HH', file.read(4))
        file.seek(name + extra, os.SEEK_CUR)
        return file.read(entry.file_size)


def _check_legacy(path: Path) -> None:
    with open(path, 'rb') as file, memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_READ) as content:
        for _ in range(_LEGACY_PICKLES):
            _check_operations(path, content)


def _check_operations(path: Path, content: Any) -> None:
    """Refuse a pickle that would fill the memory, or call what torch's own reader would not even name."""
    texts: list[str] = []
    recent: list[str] = []
    memo: dict[Any, str] = {}
    filling = False
    for count, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if count > _MOST_OPERATIONS:
            raise ForgedError(f'The checkpoint {path} holds more than {_MOST_OPERATIONS} values beside its tensors, '
                              'which would fill the memory: it is damaged or forged; get a file of tensors only.')
        name = operation.name
        if name in ('INST', 'STACK_GLOBAL'):
            named = argument.replace(' ', '.') if argument else '.'.join(texts)
            raise CodeError(_would_run_code(path, named or name))
        filling |= name == 'GLOBAL' and argument in _FILLERS
        if filling and name == 'REDUCE' and _is_of_number(recent):
            raise ForgedError(f'The checkpoint {path} names bytearray with a number, which would fill the memory: it '
                              'is damaged or forged; get a file of tensors only.')
        if isinstance(argument, str):
            texts = [*texts[-1:], argument]
        if name.endswith('PUT'):
            memo[argument] = 'NUMBER' if _is_of_number(recent) else ''.join(recent[-1:])
        else:
            recent = [*recent[-2:], memo.get(argument, name) if name.endswith('GET') else name]


def _is_of_number(recent: list[str]) -> bool:
    """Whether a call behind these operations is, or may be, one of a number alone. Bytes are named by a text."""
    before, last, call = [''] * (3 - len(recent)) + recent
    return call == 'NUMBER' or (bool(re.fullmatch(r'(BIN)?(INT|LONG)\d*', last)) and (
        call == 'TUPLE1' or (call == 'TUPLE' and before == 'MARK')))


def _would_run_code(path: Path, name: str) -> str:
    return (f'The checkpoint {path} was not read: besides tensors it holds {name}, and unpickling that could run code; '
            'get a file of tensors only (safetensors, or saved from a state dict).')


def _is_intact(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as content:
            while content.read(_CHUNK):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _explain(path: Path, error: Exception) -> Exception:
    size = os.stat(path).st_size
    wanted = re.search(r'allocate (\d+) bytes', str(error))
    if wanted and int(wanted[1]) > declared_limit(path):
        return ForgedError(f'The checkpoint {path} declares {wanted[1]} bytes, more than its {size} bytes can hold: it '
                           'is damaged or forged; get it elsewhere.')
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return OSError(f'Memory ran out while the checkpoint {path} of {size} bytes was read: end other programs, or '
                       'read it on a machine with more memory.')
    refused = re.search(r'GLOBAL ([\w.]+)|Unsupported class (\S+)', str(error))
    if refused:
        return CodeError(_would_run_code(path, refused[1] or refused[2]))
    return ValueError(f'The checkpoint {path} ({size} bytes) is damaged or not a PyTorch checkpoint: get it again.')
