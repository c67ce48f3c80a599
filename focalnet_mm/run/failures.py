"""What a failure of a library means for a config, in one sentence."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib.util
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import mmengine.registry
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dataset import BaseDataset
from mmengine.fileio import list_dir_or_file
from mmengine.registry import Registry

from ..installed import OURS, cure
from .config import evaluators, loaders, type_name
from .unread import leaves

__all__ = ['OURS', 'StoppedRunError', 'explain_failure', 'explain_missing', 'first_line', 'is_lost_peer',
           'tells_itself', 'why_empty']

_WORKER = 'Original Traceback (most recent call last):'
_MOST = 400
_NOT_THERE = (FileNotFoundError, NotADirectoryError)
_PATH_IN_TEXT = re.compile(r"(?:No such file or directory|Not a directory): '([^']+)'")
# Folders of any data set.
_COMMON_WORDS = {'data', 'train', 'val', 'test', 'images', 'annotations', 'json'}
# What follows the key of a data set or metric in the keys of its paths.
_PATH_KEY = re.compile(r'\.(data_prefix(\.\w+)?|ann_file|data_root|seg_prefix)$')
_NOT_REGISTERED = re.compile(r'(\S+) is not in the (.+?) registry')
# What gloo and NCCL say of a process that does not answer.
_LOST = re.compile(r'Connection (closed|reset) by peer|Broken pipe|Timed out waiting \d+ms|ncclRemoteError|'
                   r'remote process has exited|Watchdog caught collective')
_NO_NUMBER = re.compile(r"(?:invalid literal for|could not convert).*: '([^']*)'$")
# In which a data set of mmengine's reads its annotations.
_READING = ('load_data_list',)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_PLACE = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS)


class StoppedRunError(ValueError):
    """A run that cannot go on, for a reason that the message tells whole."""


def tells_itself(error: BaseException) -> bool:
    """Whether a failure in the middle of a run is none of the code: a file or folder is missing, or a run stopped for
    what it told, or another of several processes ended. It may come from a worker of a data loader."""
    return isinstance(error, (*_NOT_THERE, StoppedRunError)) or is_lost_peer(error)


def is_lost_peer(error: BaseException) -> bool:
    """Whether a process of several fails because another one has ended."""
    # Python's own pipes, as those to workers, break with other errors.
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    line = next((line.strip() for line in _text(error).splitlines() if line.strip()), '')
    # mmengine puts whole configs into some.
    line = line if len(line) <= _MOST else f'{line[:_MOST]}…'
    return f'{type(error).__name__}: {line}' if line else type(error).__name__


def explain_failure(error: BaseException, cfg: Config | None = None,
                    ours: tuple[type[BaseException], ...] = OURS) -> str:
    """One sentence about a failure.

    Args:
        error: What was raised, by us or by a library.
        cfg: The config that was at work, if any: its keys are named.
        ours: Kinds of errors whose messages stand for themselves.

    Returns:
        What the installation lacks, where that is the cause; the message itself where it is ours; for a missing file
        the key that names it, and the way out; for a type that nobody registered the nearest one; else the kind of
        error and its first line.
    """
    text = _text(error)
    lacking = cure(error)
    if lacking is not None:
        return lacking
    if is_lost_peer(error):
        return f'another process has ended, whose own message tells why ({first_line(error)}).'
    told = _explain_place(error, cfg) if isinstance(error, OSError) else _explain_value(text, cfg)
    if told:
        return told
    if cfg is not None and isinstance(error, _NOT_THERE):
        path = error.filename or next(iter(_PATH_IN_TEXT.findall(text)), None)
        if path and not os.path.lexists(path):
            return explain_missing(str(path), cfg)
    if cfg is not None and isinstance(error, ValueError) and 'need at least one array' in text:
        empty = _data_set_at_work(error)
        if empty is not None:
            key = _key_of(empty, cfg)
            return f'{key} has no items: {why_empty(empty, key)}.'
    reading = _data_set_at_work(error, _READING) if cfg is not None else None
    if reading is not None and cfg is not None:
        file, key = _file_at_work(error) or getattr(reading, 'ann_file', None), _key_of(reading, cfg)
        named = f'{file}, which {key} reads,' if isinstance(file, str) and file else f'What {key} reads'
        return f'{named} is not in the form of a {type(reading).__name__}: {first_line(error)}: correct it.'
    if isinstance(error, SyntaxError) and error.filename:
        return f'{error.filename}, line {error.lineno}: {error.msg}: correct it there.'
    unknown = _NOT_REGISTERED.match(text)
    if isinstance(error, KeyError) and unknown:
        return _explain_unknown(unknown[1], unknown[2], cfg)
    told = first_line(error)
    if not text.strip():
        # The place is all that there is to tell.
        frame = traceback.extract_tb(error.__traceback__)[-1:]
        return told + ''.join(f' in {place.name} ({place.filename}, line {place.lineno})' for place in frame)
    return told.removeprefix(f'{type(error).__name__}: ') if isinstance(error, ours) else told


def explain_missing(path: str, cfg: Config) -> str:
    """One sentence about a file or folder of a data set that does not exist.

    Args:
        path: The file or folder.
        cfg: The config. Its ``data_source``, if any, tells users where its own data comes from.

    Returns:
        The key that names it, or the folder in which it is, and the way out.
    """
    named = [(key, place) for split in ('train', 'val', 'test') for key, place in _data_paths(cfg, split)]
    missing = dict[str, str]()
    for key, place in named:
        if not os.path.exists(place):
            missing.setdefault(place, key)
    above = [place for place in missing if _is_below(path, place)]
    if above:
        place = min(above, key=len)
        others = f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''
        found = f'{place}, which {missing[place]} names, does not exist{others}'
        return f'{found}{_way_out(place, missing[place], cfg)}'
    holders = [(place, key) for key, place in named if _is_below(path, place) and os.path.normpath(path) != place]
    if not holders:
        return f'{path} does not exist.'
    place, key = max(holders, key=lambda holder: len(holder[0]))
    return (f'{path} does not exist, although the annotations name it: correct them, or {key}, which names {place}'
            f'{_hint_of_panoptic(key, place, cfg)}.')


def why_empty(dataset: Any, key: str) -> str:
    """What to look at where a data set has no items.

    Args:
        dataset: The data set, built as far as it got.
        key: Its key in the config.

    Returns:
        Half a sentence about the files that it looked for.
    """
    prefix = getattr(dataset, 'data_prefix', None) or {}
    suffix = getattr(dataset, 'img_suffix', None)
    folder = prefix.get('img_path') if isinstance(prefix, dict) else None
    if suffix and folder and not os.path.isfile(getattr(dataset, 'ann_file', None) or ''):
        with contextlib.suppress(Exception):
            endings = {os.path.splitext(name)[1] for name in list_dir_or_file(
                folder, list_dir=False, recursive=True, backend_args=getattr(dataset, 'backend_args', None))}
            others = f', but files that end in {", ".join(sorted(filter(None, endings)))}' if any(endings) else ''
            return (f'{folder}, which {key}.data_prefix.img_path names, holds no file that ends in {suffix}{others}: '
                    f'correct {key}.img_suffix')
    file = getattr(dataset, 'ann_file', None)
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    if classes and getattr(dataset, 'cat_ids', None) == []:
        return (f'{file} holds none of the {len(classes)} classes that the data set has: name those of your '
                f'annotations in {key}.metainfo.classes')
    source = f'{file}, which {key}.ann_file names, lists none' if isinstance(file, str) and file else (
        'its folders hold none')
    if getattr(dataset, 'filter_cfg', None):
        return f'{source} that {key}.filter_cfg={dict(dataset.filter_cfg)} leaves'
    return f'{source}, or none of the classes that it names'


def _explain_place(error: OSError, cfg: Config | None) -> str | None:
    """One sentence about a file or folder that cannot be written, as far as it is known to be one."""
    work_dir = str(cfg.get('work_dir') or '') if cfg is not None else ''
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ''
    if error.errno in _FULL:
        return f'{path or work_dir or "The disk"}: {error.strerror}: make room there.'
    if path and work_dir and (_is_below(os.path.abspath(work_dir), os.path.abspath(path)) or (
            not isinstance(error, _NOT_THERE) and _is_below(path, work_dir))):
        return f'{path} cannot be written: {error.strerror}: name another folder with --work-dir.'
    if isinstance(error, FileExistsError) and os.path.isfile(path):
        return f'{path} is a file, where a folder was to be made: name another one.'
    if path and error.errno in _NO_PLACE:
        return f'{path}: {error.strerror}: name another place.'
    return None


def _explain_value(text: str, cfg: Config | None) -> str | None:
    """One sentence about a value of a config of which a library tells no key, as far as it is known which it is."""
    if cfg is None:
        return None
    if text == 'None is not a callable object':
        # What inspect says of an optimizer that no registry has.
        name = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('type')
        return _explain_unknown(name, f'{cfg.get("default_scope", "mmengine")}::optimizer') if isinstance(
            name, str) else None
    found = _NO_NUMBER.search(text)
    keys = [key for key, value in leaves(cfg) if value == found[1]] if found else []
    return f'{keys[0]} must be a number, got {found[1]!r}.' if found and len(keys) == 1 else None


def _way_out(path: str, key: str, cfg: Config) -> str:
    root = cfg.get('data_root')
    nested = _elsewhere(path, root)
    if nested:
        return f', but the data lies in {nested}: add --cfg-options data_root={nested}.'
    source = cfg.get('data_source') if _is_of_source(path, key, cfg) else None
    if root and _is_below(path, root):
        return (f': {source}; or ' if source else ': ') + (
            'point to your copy of the data with --cfg-options data_root=DIR.')
    return f': {source}.' if source else f': correct {key}.'


def _is_of_source(path: str, key: str, cfg: Config) -> bool:
    """Whether data that is missing is what the config's ``data_source`` speaks of, and not a user's own."""
    source = str(cfg.get('data_source') or '')
    settings = _settings(_PATH_KEY.sub('', key), cfg)
    if isinstance(settings, Mapping) and not source.startswith('make it') and (
            settings.get('metainfo') or {}).get('classes'):
        return False
    root = os.path.normpath(cfg.get('data_root') or '')
    if not _is_below(path, root):
        below = {path}
    elif os.path.normpath(path) != root:
        below = {os.path.relpath(path, root)}
    else:  # Where all is missing, what should lie there tells whose data it is.
        below = {path, *(os.path.relpath(place, root) for _, place in _dataset_paths(
            _PATH_KEY.sub('', key), settings) if _is_below(place, root))}
    return bool((_words(' '.join(below)) - _COMMON_WORDS) & _words(source))


def _words(text: str) -> set[str]:
    return set(re.findall(r'[a-z0-9]+', text.lower()))


def _settings(key: str, cfg: Config) -> Any:
    """What a key of a config leads to."""
    settings: Any = dict(cfg.items())
    for part in key.split('.'):
        settings = settings[int(part)] if isinstance(settings, list) else settings[part]
    return settings


def _hint_of_panoptic(key: str, place: str, cfg: Config) -> str:
    """COCO's archive of panoptic annotations holds the archives of its label maps."""
    if not key.endswith('data_prefix.seg') or any(entry.name.endswith('.png') for entry in os.scandir(place)):
        return ''
    if 'CocoPanoptic' not in type_name(_settings(_PATH_KEY.sub('', key), cfg)):
        return ''
    return f", and for COCO panoptic unpack {os.path.basename(os.path.normpath(place))}.zip there"


def _data_set_at_work(error: BaseException, functions: tuple[str, ...] = ()) -> BaseDataset | None:
    """The data set that was being built, innermost first; where functions are named, in one of these."""
    found = [frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__)
             if not functions or frame.f_code.co_name in functions]
    return next((each for each in reversed(found) if isinstance(each, BaseDataset)), None)


def _file_at_work(error: BaseException) -> str | None:
    """The file of a single picture's annotations that a data set was reading."""
    infos = [frame.f_locals.get('img_info') for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((info.get('xml_path') for info in reversed(infos) if isinstance(info, Mapping)), None)


def _key_of(dataset: Any, cfg: Config) -> str:
    """The key of a data set in a config, found by the paths that it reads."""
    prefix = getattr(dataset, 'data_prefix', None) or {}
    own = {os.path.normpath(path) for path in (getattr(dataset, 'ann_file', None), *(
        prefix.values() if isinstance(prefix, dict) else [prefix])) if isinstance(path, str) and path}
    for split in ('train', 'val', 'test'):
        for key, path in _data_paths(cfg, split):
            if os.path.normpath(path) in own and not key.endswith('.data_root'):
                return _PATH_KEY.sub('', key)
    return f'the {type(dataset).__name__}'


def _explain_unknown(name: str, registry: str, cfg: Config | None = None) -> str:
    scope, _, kind = registry.partition('::')
    library = name.partition('.')[0] if '.' in name else (cfg or {}).get('default_scope') or scope
    if library in MODULE2PACKAGE and importlib.util.find_spec(library) is None:
        return (f"type='{name}' is looked for in {library}, which is not installed: pip install "
                f'{MODULE2PACKAGE[library]}')
    known = _registered(kind, scope)
    near = difflib.get_close_matches(name.rpartition('.')[2], known, n=1, cutoff=0.6)
    advice = f'did you mean {near[0]}?' if near else 'import the module that registers it with custom_imports.'
    return f"type='{name}' is not known to {scope}'s registry of kind {kind!r}: {advice}"


def _registered(kind: str, scope: str) -> list[str]:
    roots = [root for root in vars(mmengine.registry).values() if isinstance(root, Registry) and root.name == kind]
    found: list[str] = []
    for root in roots:
        found += root.module_dict
        child = root.children.get(scope)
        if child is not None:
            found += child.module_dict
    return found


def _text(error: BaseException) -> str:
    """The message; of what a worker of a data loader raised, its own."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if _WORKER in text:
        last = [line for line in text.splitlines() if line.strip()][-1]
        text = last.partition(': ')[2] or last
    return text


def _elsewhere(path: str, root: str | None) -> str | None:
    """The folder just above or below ``root`` in which ``path``, which lies under ``root``, would exist."""
    if not root or not path.startswith(root):
        return None
    relative = path[len(root):].lstrip('/')
    above = os.path.dirname(os.path.normpath(root))
    below = sorted(entry.path for entry in os.scandir(root) if entry.is_dir()) if os.path.isdir(root) else []
    if not relative:
        return None
    return next((folder for folder in (*below, above) if os.path.exists(os.path.join(folder, relative))), None)


def _is_below(path: str, folder: str) -> bool:
    return os.path.join(os.path.normpath(path), '').startswith(os.path.join(os.path.normpath(folder), ''))


def _data_paths(cfg: Config, split: str) -> Iterator[tuple[str, str]]:
    """(key in the config, path) of each local file and folder that a split names."""
    several = isinstance(cfg.get(f'{split}_dataloader'), list)
    for i, loader in enumerate(loaders(cfg, split)):
        yield from _dataset_paths(f'{split}_dataloader{f".{i}" if several else ""}.dataset', loader.get('dataset'))
    for evaluator in evaluators(cfg, split):
        for name in ('ann_file', 'seg_prefix'):
            if _is_local(evaluator.get(name)):
                yield f'{split}_evaluator.{name}', evaluator[name]


def _dataset_paths(key: str, dataset: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(dataset, Mapping):
        return
    if 'dataset' in dataset:
        yield from _dataset_paths(f'{key}.dataset', dataset['dataset'])
    for i, part in enumerate(dataset.get('datasets') or ()):
        yield from _dataset_paths(f'{key}.datasets.{i}', part)
    root = dataset.get('data_root') or ''
    prefixes = dataset.get('data_prefix') or {}
    prefixes = {'data_prefix': prefixes} if isinstance(prefixes, str) else {
        f'data_prefix.{name}': prefix for name, prefix in prefixes.items()}
    for name, path in {'data_root': '', 'ann_file': dataset.get('ann_file'), **prefixes}.items():
        path = os.path.join(root, path) if isinstance(path, str) else None
        if _is_local(path):
            yield f'{key}.{name}', path


def _is_local(path: Any) -> TypeGuard[str]:
    return isinstance(path, str) and bool(path) and '://' not in path
