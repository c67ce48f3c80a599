"""A path, URL or name on a hub → a flat state dict on the CPU, read without running code from the file."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin

import torch
from mmengine import fileio
from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import Tensor

from .deepspeed import find_states
from .download import cached_files, download, download_from_hub, files_on_hub, parse_hub_name
from .pickles import ForgedError, declared_limit, load_pickle

__all__ = ['META_KEY', 'is_safetensors', 'local_file', 'read_checkpoint', 'read_parts', 'read_rest']


# The keys under which training code keeps the weights, in order of precedence. timm evaluates with the averaged
# weights where there are any; mmengine's state_dict holds the averaged ones itself.
_WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'module')
#: Under which key the metadata of a safetensors file hold, as JSON, what mmengine notes beside the weights.
META_KEY = 'mmengine_meta'
# What save_pretrained and the hub call the weights of a model, in order of precedence.
_INDEX = '.index.json'
_STANDARD_NAMES = ('model.safetensors', f'model.safetensors{_INDEX}', 'pytorch_model.bin', f'pytorch_model.bin{_INDEX}')
# How the names of checkpoints end, and how those begin that hold something else.
_ENDINGS = ('.pth', '.pt', '.bin', '.safetensors', '.ckpt', '.pkl')
_BESIDE = ('optimizer', 'scheduler', 'rng_state', 'training_args', 'scaler')

_NAMED_MODELS = {
    'torchvision://': mmengine_checkpoint.get_torchvision_models,
    'modelzoo://': mmengine_checkpoint.get_torchvision_models,
    'open-mmlab://': mmengine_checkpoint.get_external_models,
    'openmmlab://': mmengine_checkpoint.get_external_models,
    'mmcls://': mmengine_checkpoint.get_mmcls_models,
}


def local_file(source: str | os.PathLike) -> Path:
    """The file behind a path, URL or name; downloaded once, into torch hub's folder of checkpoints.

    Args:
        source: As :func:`read_checkpoint` takes it. Of a model in several files it is the index.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ModuleNotFoundError: A name on the Hugging Face Hub, and ``huggingface_hub`` is not installed.
        ValueError: A malformed name, or the cache holds another file of this name.
    """
    return _locate(os.fspath(source))[0]


def read_checkpoint(source: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Reads what ``torch.save`` wrote, with ``weights_only=True``, and safetensors, each in one file or in several with an
    index, and pickles of NumPy arrays (as detectron2 publishes). The wrappers ``state_dict`` (as mmdet, mmseg and
    Lightning write), ``model`` (as the authors' classification code writes) and ``module`` (DeepSpeed) are taken off;
    of averaged weights (``state_dict_ema``, ``model_ema``, as timm writes) and others in one file the averaged ones are
    taken, as timm does, and the log says so. Files are mapped into memory where their format allows it, so that their
    tensors are read when they are used.

    Args:
        source: One of

            - the path of a file, of the index of several files, or of a folder that ``save_pretrained`` or DeepSpeed
              wrote;
            - a URL of a file or index, ``http://`` or ``https://``, see :mod:`focalnet_mm.weights.download`;
            - ``hf://owner/name[@revision][/file]`` on the Hugging Face Hub, with the extra ``hub`` installed. Without a
              file it is ``model.safetensors``, its index, ``pytorch_model.bin`` or its index, the first that is there,
              else the only checkpoint of the repository, whatever its name;
            - a name or path that mmengine knows: ``torchvision://``, ``open-mmlab://``, ``mmcls://``, ``s3://`` and
              those of its other storage backends.

    Returns:
        Tensors on the CPU.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ModuleNotFoundError: A name on the Hugging Face Hub, and ``huggingface_hub`` is not installed.
        ValueError: The file is damaged, holds objects that could run code, or holds no tensors.
    """
    source = os.fspath(source)
    if _is_remote_path(source):
        with fileio.get_local_path(source) as path:
            # The copy is gone afterwards.
            return {name: tensor.clone() for name, tensor in _read_file(Path(path)).items()}
    path, sibling = _locate(source)
    return _read_shards(path, sibling) if path.name.endswith(_INDEX) else _read_file(path)


def read_rest(source: str | os.PathLike) -> tuple[dict[str, Any], list[str]]:
    """What a checkpoint holds besides the weights.

    Args:
        source: As :func:`read_checkpoint` takes it.

    Returns:
        What mmengine notes about the model, such as its classes, and the names of the other parts, such as
        ``optimizer``.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ValueError: The file is damaged or holds objects that could run code.
    """
    parts = read_parts(source)
    return parts.pop('meta'), list(parts)


def read_parts(source: str | os.PathLike) -> dict[str, Any]:
    """What a checkpoint holds besides the weights, by the names of its parts.

    Args:
        source: As :func:`read_checkpoint` takes it.

    Returns:
        ``meta``, what mmengine notes about the model; and the other parts, such as ``optimizer``.

    Raises:
        FileNotFoundError: There is no such file, repository or revision.
        ConnectionError: The download failed.
        ValueError: The file is damaged or holds objects that could run code.
    """
    source = os.fspath(source)
    if _is_remote_path(source):
        return dict(meta={})
    path, _ = _locate(source)
    if path.name.endswith(_INDEX):
        return dict(meta={})
    if is_safetensors(path):
        from safetensors import safe_open
        with safe_open(path, 'pt') as file:
            return dict(meta=_noted(path, (file.metadata() or {}).get(META_KEY, '{}')))
    # Its content was compared with its check sums when the weights were read.
    checkpoint = load_pickle(path, check=False)
    if not isinstance(checkpoint, Mapping) or not any(key in checkpoint for key in _WRAPPERS):
        return dict(meta={})
    meta = checkpoint.get('meta')
    return {**{str(key): part for key, part in checkpoint.items() if key not in _WRAPPERS},
            'meta': dict(meta) if isinstance(meta, Mapping) else {}}


def _noted(path: Path, text: str) -> dict[str, Any]:
    """What is noted beside the weights of a safetensors file."""
    try:
        noted = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'The checkpoint {path} holds {META_KEY}, expected JSON ({type(error).__name__}): it is '
                         'damaged; get it again.') from None
    return noted if isinstance(noted, dict) else {}


def _is_remote_path(source: str) -> bool:
    """Whether a source is left to mmengine's storage backends."""
    return '://' in source and not source.startswith(('http://', 'https://', 'hf://', *_NAMED_MODELS))


def _locate(source: str) -> tuple[Path, Callable[[str], Path]]:
    """A source's file, and how to get another one beside it."""
    for prefix, list_models in _NAMED_MODELS.items():
        if source.startswith(prefix):
            models = list_models()
            name = source.removeprefix(prefix)
            if name not in models:
                raise FileNotFoundError(f'{source} names no model that mmengine knows: give a path or URL.')
            source = models[name]
    if source.startswith(('http://', 'https://')):
        return download(source), lambda name: download(urljoin(source, name))
    if source.startswith('hf://'):
        repo, revision, file = parse_hub_name(source)
        path, name = _on_hub(source, repo, revision, file)
        return path, functools.partial(_hub_sibling, repo, revision, name)
    path = Path(source).expanduser()
    if path.is_dir():
        found = next((path / name for name in _STANDARD_NAMES if (path / name).is_file()), None) or find_states(path)
        if found is None:
            raise FileNotFoundError(f'{path} is a folder without {" or ".join(_STANDARD_NAMES)}: give the path of a '
                                    'checkpoint file.')
        path = found
    if not path.is_file():
        raise FileNotFoundError(f'The checkpoint {path} does not exist: give the path or URL of a checkpoint file.')
    return path, lambda name: path.parent / name


def _on_hub(source: str, repo: str, revision: str | None, file: str | None) -> tuple[Path, str]:
    """A file of a repository, the one that is named or else the weights, and its path in the repository."""
    try:
        for name in (file,) if file else _STANDARD_NAMES:
            path = download_from_hub(repo, revision, name)
            if path is not None:
                return path, name
        others = [] if file else [name for name in files_on_hub(repo, revision) if _is_checkpoint(name)]
    except ConnectionError:
        others = [] if file else [name for name in cached_files(repo, revision) if _is_checkpoint(name)]
        if len(others) != 1:
            raise
    path = download_from_hub(repo, revision, others[0]) if len(others) == 1 else None
    if path is None:
        instead = f'one of {", ".join(others)}, as {source}/{others[0]}' if others else 'another file of it'
        raise FileNotFoundError(f'{source}: the repository {repo} holds no {file or " or ".join(_STANDARD_NAMES)}: '
                                f'name {instead}.')
    return path, others[0]


def _is_checkpoint(name: str) -> bool:
    """Whether a file of a repository is one of weights, by its name, and not what trainers keep beside them."""
    path = PurePosixPath(name)
    return path.suffix in _ENDINGS and not path.stem.startswith(_BESIDE)


def _hub_sibling(repo: str, revision: str | None, index: str, name: str) -> Path:
    file = (PurePosixPath(index).parent / name).as_posix()
    path = download_from_hub(repo, revision, file)
    if path is None:
        raise FileNotFoundError(f'The repository hf://{repo} holds no {file}, which {index} names: it is not whole.')
    return path


def _read_shards(index: Path, sibling: Callable[[str], Path]) -> dict[str, Tensor]:
    try:
        files = json.loads(index.read_text())['weight_map']
        names = sorted(set(files.values()), key=str)
        if not names:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f'The checkpoint index {index} is damaged: expected JSON with a weight_map from tensors to '
                         'files; get it again.') from error
    outside = [name for name in names if not isinstance(name, str) or not name or name != PurePosixPath(name).name]
    if outside:
        raise ValueError(f'The checkpoint index {index} names {outside[0]!r}: expected files beside it.')
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = sibling(name)
        if not path.is_file():
            raise FileNotFoundError(f'The checkpoint {path}, which {index} names, does not exist: get it too.')
        tensors.update(_read_file(path))
    missing = [name for name in files if name not in tensors]
    if missing:
        raise ValueError(f'The checkpoint {index} is not whole: {files[missing[0]]} lacks {missing[0]}'
                         f'{f" and {len(missing) - 1} more" if len(missing) > 1 else ""}; get it again.')
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    checkpoint = _load_safetensors(path) if is_safetensors(path) else load_pickle(path)
    seen = set()
    while isinstance(checkpoint, Mapping):
        if id(checkpoint) in seen:
            raise ForgedError(f'The checkpoint {path} holds itself, expected tensors by name: it is damaged or forged; '
                              'get it elsewhere.')
        seen.add(id(checkpoint))
        taken = next((key for key in _WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
        if taken is None:
            break
        others = [key for key in _WRAPPERS if key != taken and isinstance(checkpoint.get(key), Mapping)]
        if others:
            print_log(f'{path} holds {taken} beside {", ".join(others)}: took {taken}.', logger='current')
        checkpoint = checkpoint[taken]
    tensors = {}
    if isinstance(checkpoint, Mapping):
        tensors = {str(name): value for name, value in checkpoint.items() if isinstance(value, Tensor)}
    if not tensors:
        held = ', '.join(map(str, list(checkpoint)[:5])) if isinstance(checkpoint, Mapping) else type(checkpoint)
        raise ValueError(f'The checkpoint {path} holds no tensors by name but {held or "nothing"}: expected a state '
                         f'dict, bare or under {" or ".join(map(repr, _WRAPPERS))}.')
    _check_plain(path, tensors)
    _check_declared(path, tensors)
    return tensors


def _check_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are no arrays of numbers in memory."""
    for name, tensor in tensors.items():
        kind = ('quantised' if tensor.is_quantized else 'nested' if tensor.is_nested else 'meta' if tensor.is_meta
                else '' if tensor.layout == torch.strided else 'sparse')
        if kind:
            raise ValueError(f'The checkpoint {path} holds {name} as a {kind} tensor, expected a dense one with its '
                             'values: save the model again from dense tensors.')


def _check_declared(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are larger than what their file can hold, each by itself or all together."""
    most, size, total = declared_limit(path), path.stat().st_size, 0
    for name, tensor in tensors.items():
        before, total = total, total + tensor.numel() * tensor.element_size()
        if total > most:
            others = 'with those before it ' if total - before <= most else ''
            raise ForgedError(f'The checkpoint {path} declares {name} with shape {tuple(tensor.shape)}, {others}more '
                              f'than its {size} bytes can hold: it is damaged or forged; get it elsewhere.')


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of safetensors, by its ending or its first bytes."""
    with open(path, 'rb') as file:
        return path.suffix == '.safetensors' or file.read(9)[8:] == b'{'


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f'The checkpoint {path} is not a whole safetensors file ({error}): get it again.') from error
