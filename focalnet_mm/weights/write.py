"""Checkpoints for others: written whole or not at all, never over a file that is there, and read back."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbone.archs import guess_arch, read_settings, variant
from .clean import published_meta
from .download import sha256
from .files import META_KEY, read_checkpoint, read_rest
from .layouts import convert, detect_layout, select_backbone
from .losses import warn, worthless
from .whole import unwrapped

__all__ = ['convert_file', 'publish', 'transformers_config', 'write_checkpoint', 'write_transformers']

_ENDINGS = ('.safetensors', '.pth')
_TRANSFORMERS_FILES = ('model.safetensors', 'config.json')
# The variants that timm has too.
_TIMM_ARCH = re.compile(r'(tiny|small|base)-[sl]rf|(large|xlarge|huge)-fl[34]')
# Under which key each layout's own code keeps the weights in a .pth file.
_WRAPPER = {'official': 'model', 'detrex': 'model', 'idea-dino': 'model', 'relation-detr': 'model', 'mm': 'state_dict',
            'mm2': 'state_dict'}


def convert_file(source: str | os.PathLike, destination: str | os.PathLike, to: str, arch: str | None = None,
                 backbone_only: bool = False, force: bool = False) -> str:
    """Convert a checkpoint to another layout and write it, whole or not at all.

    Args:
        source: As :func:`~focalnet_mm.weights.read_checkpoint` takes it.
        destination: A path that ends in ``.safetensors`` or ``.pth``; for ``transformers`` a folder.
        to: One of :data:`~focalnet_mm.weights.LAYOUTS`.
        arch: As :func:`~focalnet_mm.weights.convert` takes it.
        backbone_only: The same.
        force: Whether files that are there may be replaced.

    Returns:
        What was read and written, and how others open it, in a few lines.

    Raises:
        FileNotFoundError: There is no such source.
        FileExistsError: The destination is there, and ``force`` is not set.
        ConnectionError: The download failed.
        ValueError: The source cannot be read, or cannot be converted.
        OSError: The destination cannot be written, or does not read back as it was written.
    """
    # Before the long work; once more when it is done.
    destination = Path(destination).expanduser()
    _check_destination(destination, to, force)
    state_dict = unwrapped(read_checkpoint(source))
    warn(os.fspath(source), worthless(state_dict))
    try:
        converted = convert(state_dict, to, arch, backbone_only)
        official, _ = select_backbone(converted)
        arch = arch or guess_arch(official)
        config = transformers_config(official, arch) if to == 'transformers' else {}
    except ValueError as error:
        raise ValueError(f'The checkpoint {source}: {error}') from None
    if to == 'transformers':
        write_transformers(converted, destination, config, force)
    else:
        write_checkpoint(converted, destination, to, published_meta(read_rest(source)[0]) if to == 'mm' else None,
                         force)
    parameters = sum(tensor.numel() for tensor in converted.values())
    opened = ''
    if to == 'timm':
        opened = f'\nopens with: {_timm_call(official, arch, os.fspath(destination))}'
    elif to == 'transformers':
        opened = f'\nopens with: transformers.{config["architectures"][0]}.from_pretrained({os.fspath(destination)!r})'
    return (f'read     {source}: layout {detect_layout(state_dict)}, {len(state_dict)} tensors, variant '
            f'{arch or "unknown"}\n'
            f'written  {destination}: layout {to}, {len(converted)} tensors, {parameters / 1e6:.2f} M values, read '
            f'back and equal{opened}')


def write_checkpoint(tensors: Mapping[str, Tensor], path: str | os.PathLike, layout: str,
                     meta: Mapping[str, Any] | None = None, force: bool = False) -> None:
    """Write tensors as safetensors or with ``torch.save``, by the ending of the path.

    Args:
        tensors: Tensors by name.
        path: Ends in ``.safetensors`` or ``.pth``.
        layout: Layout of the names; a ``.pth`` file wraps them as that layout's own code does.
        meta: What to note beside them: plain values.
        force: Whether a file that is there may be replaced.

    Raises:
        FileExistsError: There is a file, and ``force`` is not set.
        ValueError: The path has another ending.
        OSError: The file cannot be written, or does not read back as it was written; there is none then.
    """
    path = Path(path).expanduser()
    _check_destination(path, layout, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the destination, so that it can be renamed.
    with tempfile.TemporaryDirectory(prefix='.', dir=path.parent) as folder:
        draft = Path(folder) / path.name
        _save(tensors, draft, layout, meta)
        _check_absent(path, force)
        os.replace(draft, path)


def write_transformers(tensors: Mapping[str, Tensor], folder: str | os.PathLike, config: Mapping[str, Any],
                       force: bool = False) -> None:
    """Write a folder that ``from_pretrained`` of transformers opens: ``config.json`` and ``model.safetensors``.

    Args:
        tensors: Tensors in the layout of transformers.
        folder: Where to; other files in it stay.
        config: As :func:`transformers_config` makes it.
        force: Whether the two files may be replaced where they are there.

    Raises:
        FileExistsError: One of the files is there, and ``force`` is not set.
        ValueError: The folder has the name of a file.
        OSError: They cannot be written, or do not read back as they were written; there are none then.
    """
    folder = Path(folder).expanduser()
    _check_destination(folder, 'transformers', force)
    folder.mkdir(parents=True, exist_ok=True)
    weights, settings = _TRANSFORMERS_FILES
    with tempfile.TemporaryDirectory(prefix='.', dir=folder) as drafts:
        _save(tensors, Path(drafts) / weights, 'transformers', None)
        (Path(drafts) / settings).write_text(json.dumps(config, indent=2) + '\n')
        _check_destination(folder, 'transformers', force)
        for name in _TRANSFORMERS_FILES:
            os.replace(Path(drafts) / name, folder / name)


def transformers_config(official: Mapping[str, Tensor], arch: str | None = None) -> dict[str, Any]:
    """The ``config.json`` of transformers' FocalNet that computes what these tensors do here.

    Args:
        official: A classifier's or backbone's tensors by their official names.
        arch: A key of :data:`~focalnet_mm.ARCHS` that says what no tensor shows, where the tensors are of none:
            whether norms come after, and whether the modulator is normalised.

    Returns:
        The settings of ``FocalNetConfig`` and the class to open.

    Raises:
        ValueError: The variant is unknown, or transformers' FocalNet cannot have these kernels.
    """
    _, settings = variant(official, arch)
    found = read_settings(official)
    channels, classes = found['embed_dims'], official.get('head.bias')
    windows = []
    for stage, levels in enumerate(found['focal_levels']):
        kernels = [official[f'layers.{stage}.blocks.0.modulation.focal_layers.{level}.0.weight'].shape[-1]
                   for level in range(levels)]
        windows.append(kernels[0] if kernels else settings['focal_windows'])
        if kernels != [windows[-1] + 2 * level for level in range(levels)]:
            raise ValueError(f"The kernels of transformers' FocalNet grow by 2 from level to level; those of stage "
                             f'{stage} are {kernels}.')
    stages = len(found['depths'])
    config = dict(
        architectures=['FocalNetModel' if classes is None else 'FocalNetForImageClassification'],
        model_type='focalnet',
        embed_dim=channels,
        # The features of its stages come after the downsampling.
        hidden_sizes=[channels * 2**min(stage + 1, stages - 1) for stage in range(stages)],
        depths=list(found['depths']),
        focal_levels=list(found['focal_levels']),
        focal_windows=windows,
        num_channels=official['patch_embed.proj.weight'].shape[1],
        patch_size=settings['patch_size'],
        mlp_ratio=official['layers.0.blocks.0.mlp.fc1.bias'].shape[0] / channels,
        use_conv_embed=settings['conv_stem'],
        use_layerscale=found['layer_scale'],
        layerscale_value=1e-4,
        use_post_layernorm=settings['post_norm'],
        use_post_layernorm_in_modulation=settings['post_norm_in_modulation'],
        normalize_modulator=settings['normalize_modulator'],
    )
    return config if classes is None else dict(config, num_labels=len(classes))


def publish(source: str | os.PathLike, path: str | os.PathLike, force: bool = False,
            with_config: bool = False) -> tuple[Path, list[str]]:
    """Write the weights of a training checkpoint for others: without optimizer and history, its hash in the name.

    Beside the weights the file holds the classes and what else the run notes of its data set, the epoch and iteration,
    and the versions of libraries.

    Args:
        source: A checkpoint of a training run.
        path: Where to; of ``NAME.safetensors`` (or ``.pth``) it becomes ``NAME-HASH.safetensors``, with the first 8
            digits of the file's SHA-256.
        force: Whether a file of that name may be replaced.
        with_config: Keep the config too, without paths and secrets, see
            :func:`~focalnet_mm.weights.clean.clean_config`.

    Returns:
        Path of the file, and what was left out.

    Raises:
        FileExistsError: There is a file of that name, and ``force`` is not set.
        ValueError: The checkpoint cannot be read, the path has another ending, or there is no config that can be kept.
        OSError: The file cannot be written, or does not read back as it was written; there is none then.
    """
    path = Path(path).expanduser()
    _check_ending(path)
    tensors = unwrapped(read_checkpoint(source))
    warn(os.fspath(source), worthless(tensors))
    meta, rest = read_rest(source)
    if with_config and 'cfg' not in meta:
        raise ValueError(f'The checkpoint {source} notes no config: publish it without.')
    kept = published_meta(meta, with_config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.', dir=path.parent) as folder:
        draft = Path(folder) / path.name
        _save(tensors, draft, 'mm', kept)
        published = path.with_name(f'{path.stem}-{sha256(draft)[:8]}{path.suffix}')
        _check_absent(published, force)
        os.replace(draft, published)
    return published, [*rest, *(f'meta.{key}' for key in meta if key not in kept)]


def _check_destination(path: Path, layout: str, force: bool) -> None:
    if layout == 'transformers':
        if path.suffix in _ENDINGS or path.is_file():
            raise ValueError(f'{path} is the name of a file: for transformers give that of a folder.')
        for name in _TRANSFORMERS_FILES:
            _check_absent(path / name, force)
        return
    _check_ending(path)
    _check_absent(path, force)


def _check_ending(path: Path) -> None:
    if path.suffix not in _ENDINGS:
        raise ValueError(f'{path} must end in {" or ".join(_ENDINGS)}.')


def _check_absent(path: Path, force: bool) -> None:
    if path.is_dir() or (path.exists() and not force):
        way_out = 'give another name' if path.is_dir() else 'give another name, or replace it with --force'
        raise FileExistsError(f'{path} is there already: {way_out}.')


def _timm_call(official: Mapping[str, Tensor], arch: str | None, path: str) -> str:
    """A call of timm that opens a converted file."""
    arch, settings = variant(official, arch)
    found = read_settings(official)
    classes = len(official['head.bias']) if 'head.bias' in official else 0
    windows = tuple(
        official[f'layers.{stage}.blocks.0.modulation.focal_layers.0.0.weight'].shape[-1] if levels else 3
        for stage, levels in enumerate(found['focal_levels']))
    named = bool(_TIMM_ARCH.fullmatch(arch)) and guess_arch(official) == arch
    if named and set(windows) == {settings['focal_windows']}:
        return (f"timm.create_model('focalnet_{arch.replace('-', '_')}', num_classes={classes}, "
                f'checkpoint_path={path!r})')
    return (f'timm.models.focalnet.FocalNet(num_classes={classes}, embed_dim={found["embed_dims"]}, '
            f'depths={found["depths"]}, focal_levels={found["focal_levels"]}, focal_windows={windows}, '
            f'use_overlap_down={settings["conv_stem"]}, use_post_norm={settings["post_norm"]}, '
            f'use_post_norm_in_modulation={settings["post_norm_in_modulation"]}, '
            f'layerscale_value={1e-4 if found["layer_scale"] else None}), then '
            f'timm.models.load_checkpoint(model, {path!r})')


def _save(tensors: Mapping[str, Tensor], path: Path, layout: str, meta: Mapping[str, Any] | None) -> None:
    # A view would be saved with all that it is a view of.
    tensors = {name: tensor if tensor.untyped_storage().nbytes() == tensor.nbytes and tensor.is_contiguous()
               else tensor.contiguous().clone() for name, tensor in tensors.items()}
    if path.suffix == '.safetensors':
        from safetensors.torch import save_file
        # transformers asks for the format. One key at most: safetensors writes several in any order, and the same
        # weights would get another hash each time.
        save_file(_unshared(tensors), path, metadata={META_KEY: json.dumps(meta)} if meta else {'format': 'pt'})
        # It lets nobody else read the file.
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)
    else:
        wrapper = _WRAPPER.get(layout)
        content = tensors if wrapper is None else {wrapper: tensors}
        torch.save(dict(meta=dict(meta), **content) if meta and wrapper else content, path)
    written = read_checkpoint(path)
    if written.keys() != tensors.keys() or any(
            written[name].dtype != tensor.dtype or not torch.equal(_bits(written[name]), _bits(tensor))
            for name, tensor in tensors.items()):
        raise OSError(f'{path} does not read back as it was written: is the disk full or faulty?')


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which none shares its memory with another, which safetensors refuses."""
    seen: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        unshared[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return unshared


def _bits(tensor: Tensor) -> Tensor:
    """A tensor as bytes, since NaN does not equal itself."""
    return tensor.reshape(-1).view(torch.uint8)
