"""Files of ``torch.save`` → what they hold, or a sentence about what is wrong with them."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from .numpy_pickles import is_numpy_pickle, read_numpy_pickle
from .stand_ins import allowed, settle

__all__ = ['ForgedError', 'declared_limit', 'load_pickle']

# Tensors may be views that repeat what their file holds, and several may share it.
_LARGEST_VIEW = 1 << 30
_MOST_SHARED = 16
_CHUNK = 1 << 20
_OUT_OF_MEMORY = re.compile("can't allocate memory|Cannot allocate memory|not enough memory|bad_alloc|unable to mmap")


class ForgedError(ValueError):
    """A file that is not what it says, or would run code or grow beyond what it holds."""


def declared_limit(path: Path) -> int:
    """How many bytes the tensors of a file may declare together."""
    return max(_MOST_SHARED * path.stat().st_size, _LARGEST_VIEW)


def load_pickle(path: Path, map_location: Any = 'cpu', mmap: bool = True, check: bool = True) -> Any:
    """What ``torch.save`` wrote, read with ``weights_only=True``, or a pickle of NumPy arrays.

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
        ValueError: The file is damaged or forged, or holds objects that could run code.
    """
    try:
        # What older releases of torch saved is no archive, and cannot be mapped.
        if is_numpy_pickle(path):
            return read_numpy_pickle(path)
        archive = zipfile.is_zipfile(path)
        if archive:
            _check_archive(path, check)
        with allowed():
            loaded = torch.load(path, map_location=map_location, weights_only=True, mmap=(mmap and archive) or None)
        return settle(loaded)
    except (OSError, ForgedError):
        raise
    # A damaged archive or pickle ends in nearly any error, among them TypeError, AttributeError and RecursionError.
    except Exception as error:
        raise _explain(path, error) from error


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
        return ValueError(f'The checkpoint {path} was not read: besides tensors it holds {refused[1] or refused[2]}, '
                          'and unpickling that could run code; get a file of tensors only (safetensors, or saved from '
                          'a state dict).')
    return ValueError(f'The checkpoint {path} ({size} bytes) is damaged or not a PyTorch checkpoint: get it again.')
