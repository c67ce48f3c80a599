"""What of a training run's notes goes to others: no paths, hosts, names of users, keys or passwords."""

from __future__ import annotations

import ast
import contextlib
import getpass
import itertools
import json
import re
import socket
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from torch import Tensor

__all__ = ['clean_config', 'clean_text', 'published_meta']

#: What stands where something was taken out.
REMOVED = '***'
# Keys of names of classes, and of colours: these stay as they are. A class may be called '/m/01g317'.
_CLASSES = re.compile(r'(^|_)(classes|palette)$', re.IGNORECASE)
_VERSION = re.compile(r'v?\d+(\.\w+)*([-+][\w.]+)*')
# Words of keys whose values are secret, words that make 'key' or 'id' behind them so, and words whose values, where
# they are texts, tell of people and machines.
_SECRET = frozenset((
    'password', 'passwd', 'passphrase', 'pwd', 'pass', 'secret', 'secrets', 'credential', 'credentials', 'apikey',
    'auth', 'oauth', 'authorization', 'bearer', 'cookie', 'cookies', 'pat', 'dsn', 'webhook', 'signature'))
_SECRET_BEFORE_KEY = frozenset((
    'api', 'access', 'secret', 'private', 'account', 'auth', 'ssh', 'encryption', 'license', 'signing', 'storage',
    'wandb'))
_PERSONAL = frozenset((
    'token', 'user', 'username', 'login', 'email', 'mail', 'entity', 'host', 'hosts', 'hostname', 'addr', 'address',
    'endpoint', 'server', 'proxy', 'node', 'nodes', 'machine', 'remote', 'remotes', 'ip'))
# Settings of storages, of loggers' accounts and of the surroundings, which only the run itself needs.
_PRIVATE = frozenset(('backend_args', 'file_client_args', 'init_kwargs', 'env', 'environ', 'environment', 'env_info',
                      'client_cfg', 'headers', 'command', 'cmd', 'argv', 'command_line'))
_TOKEN = re.compile(
    r'-----BEGIN[^-]+-----.*?(?:-----END[^-]+-----|$)|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?|'
    r'\b(?:hf|gh[pousr]|github_pat|glpat|sk|pk|rk|xox[abprs]|dapi|npm|pypi|SG)[-_.](?=[\w.-]*\d)[\w.-]{12,}|'
    r'\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\bAIza[\w-]{20,}|(?<![0-9A-Za-z])[0-9a-fA-F]{32,}(?![0-9A-Za-z])|'
    r'\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b', re.DOTALL)
_LONG_WORD = re.compile(r'[A-Za-z0-9/+]{20,}={0,2}')
_NAMED_SECRET = re.compile(
    r'(?P<key>-{0,2}[\w.-]{0,64}(?:api[_-]?key|access[_-]?key|secret|passw(?:or)?d|pwd|token|credential|auth)[\w-]{0,64})'
    r'(?P<sign>\s*[=:]\s*|\s+)(?P<value>[^\s,;]+)', re.IGNORECASE)
_MAIL = re.compile(r'\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+(?::[\w./~-]+)?')
_URL = re.compile(r'\b[a-z][\w+.-]*://[^\s\'"]+', re.IGNORECASE)
_PATH = re.compile(r'(?<![\w./~*-])(?:~[\w.-]*|\$\{?\w+\}?|\.\.)?(?:/[^\s\'",;:=/]+)+/?')
_WINDOWS_PATH = re.compile(r'(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)[^\s\'",;]*')
_IP = re.compile(r'(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])(?::\d+)?')
_CLASS_NAME = re.compile(r'[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*')
_FILE_NAME = re.compile(r'[\w.+ ()-]+\.[A-Za-z]\w{0,11}')
# Names, not places; and where everybody finds the same file.
_PUBLIC_SCHEMES = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls')
_PUBLIC_HOSTS = ('download.openmmlab.com', 'download.pytorch.org', 'dl.fbaipublicfiles.com')


def published_meta(meta: Mapping[str, Any], with_config: bool = False) -> dict[str, Any]:
    """What a user of a model needs of what mmengine notes beside its weights.

    Args:
        meta: The notes of a training run.
        with_config: Keep the config too, as :func:`clean_config` leaves it.

    Returns:
        The classes and what else is known of the data set, epoch and iteration, and versions of libraries: plain
        values.

    Raises:
        ValueError: The config is to be kept and cannot be cleaned, or the notes hold themselves.
    """
    try:
        return _published(meta, with_config)
    except RecursionError:
        raise ValueError('The notes beside the weights hold values within values, deeper than Python follows: save the '
                         'checkpoint without them.') from None


def _published(meta: Mapping[str, Any], with_config: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in meta.items():
        if key in ('CLASSES', 'PALETTE'):
            kept[key] = _clean('classes', _plain(value))
        elif key == 'dataset_meta' and isinstance(value, Mapping):
            kept[key] = _clean('', _plain(value))
        elif key in ('epoch', 'iter') and isinstance(value, (int, np.integer)):
            kept[key] = int(value)
        elif (isinstance(key, str) and key.endswith('_version') and isinstance(value, str)
              and len(value) < 40 and _VERSION.fullmatch(value)):
            kept[key] = value
        elif key == 'cfg' and with_config:
            kept[key] = clean_config(value)
    return kept


def clean_config(text: Any) -> str:
    """A config as a run notes it, without what concerns the run's owner alone.

    Args:
        text: The config, in Python.

    Returns:
        The same settings, as :func:`clean_text` leaves their texts. Secrets and names of users and hosts are ``'***'``,
        the settings of storages and of loggers' accounts ``None``. Comments are gone.

    Raises:
        ValueError: It is something else than assignments of plain values.
    """
    try:
        tree = ast.parse(text)
        for statement in tree.body:
            _check_statement(statement)
        return ast.unparse(ast.fix_missing_locations(_Cleaner().visit(tree))) + '\n'
    except (SyntaxError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f'The config in the checkpoint cannot be cleaned ({error}): publish without it.') from None


def clean_text(text: str) -> str:
    """A text without secrets that can be told by their form.

    Args:
        text: Any text.

    Returns:
        The text. Of absolute paths and of URLs there are the names of the files, or ``'***'`` where they name none;
        relative paths and URLs of OpenMMLab's and PyTorch's own downloads stay.
    """
    text = _TOKEN.sub(REMOVED, text)
    text = _NAMED_SECRET.sub(_clean_named, text)
    text = _URL.sub(_clean_url, text)
    text = _MAIL.sub(REMOVED, text)
    # A path alone may have spaces.
    if re.match(r'[A-Za-z]:[\\/]|\\\\', text):
        text = _file_name(PureWindowsPath(text).name)
    elif re.match(r'[~$]?[\w{}.-]*/', text) and (text[0] in '~/$' or text.startswith('../')):
        text = _file_name(PurePosixPath(text).name)
    text = _WINDOWS_PATH.sub(lambda match: _file_name(PureWindowsPath(match[0]).name), text)
    text = _PATH.sub(lambda match: _file_name(PurePosixPath(match[0]).name), text)
    text = _LONG_WORD.sub(lambda match: REMOVED if _is_random(match[0]) else match[0], _IP.sub(REMOVED, text))
    for own in _own_names():
        text = re.sub(rf'(?<![A-Za-z0-9]){re.escape(own)}(?![A-Za-z0-9])', REMOVED, text, flags=re.IGNORECASE)
    return text


class _Cleaner(ast.NodeTransformer):
    """Cleans the values in a config by their keys, as :func:`_clean` does those of plain values."""

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        target = node.targets[0]
        node.value = self._value(target.id if isinstance(target, ast.Name) else '', node.value)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        node.value = self._value(node.arg or '', node.value)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.Dict:
        node.values = [self._value(str(key.value) if isinstance(key, ast.Constant) else '', value)
                       for key, value in zip(node.keys, node.values)]
        node.keys = [key and self.visit(key) for key in node.keys]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, bytes):
            return ast.Constant(REMOVED)
        return ast.Constant(clean_text(node.value)) if isinstance(node.value, str) else node

    def _value(self, key: str, node: ast.expr) -> ast.expr:
        value = node.value if isinstance(node, ast.Constant) else ()
        if key in _PRIVATE:
            return ast.Constant(None)
        if _is_removed(key, value):
            return ast.Constant(REMOVED)
        if key == 'type' and isinstance(value, str) and _CLASS_NAME.fullmatch(value):
            return node
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            if not _CLASSES.search(key):
                node.elts = [self._value(key, part) for part in node.elts]
            return node
        return self.visit(node)


def _clean(key: str, value: Any) -> Any:
    """A plain value by its key."""
    if key in _PRIVATE:
        return None
    if _is_removed(key, value):
        return REMOVED
    if isinstance(value, dict):
        return {clean_text(name): _clean(name, part) for name, part in value.items()}
    if isinstance(value, list):
        return value if _CLASSES.search(key) else [_clean(key, part) for part in value]
    return clean_text(value) if isinstance(value, str) else value


def _is_removed(key: str, value: Any) -> bool:
    words = [word.lower() for word in re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+', key)]
    if _SECRET.intersection(words) or any(second in ('key', 'keys', 'id', 'token') and first in _SECRET_BEFORE_KEY
                                          for first, second in itertools.pairwise(words)):
        return not isinstance(value, (bool, type(None)))
    # A number of tokens is a model's.
    return isinstance(value, str) and bool(_PERSONAL.intersection(words))


def _check_statement(statement: ast.stmt) -> None:
    plain = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.Set, ast.Call, ast.keyword, ast.Name, ast.Attribute,
             ast.UnaryOp, ast.unaryop, ast.expr_context)
    if not isinstance(statement, ast.Assign):
        raise ValueError(f'line {statement.lineno} is no assignment')
    odd = next((node for node in ast.walk(statement.value) if not isinstance(node, plain)), None)
    if odd is not None:
        raise ValueError(f'line {statement.lineno} holds a {type(odd).__name__}')


def _clean_named(match: re.Match[str]) -> str:
    """``--api-key VALUE`` and ``API_KEY=VALUE`` without the value."""
    named = match['sign'].strip() or match['key'].startswith('-')
    return f'{match["key"]}{match["sign"]}{REMOVED}' if named else match[0]


def _clean_url(match: re.Match[str]) -> str:
    try:
        url = urlsplit(match[0])
        public = (url.scheme in _PUBLIC_SCHEMES or url.hostname in _PUBLIC_HOSTS) and '@' not in url.netloc
    except ValueError:
        return REMOVED
    return url._replace(query='', fragment='').geturl() if public else _file_name(PurePosixPath(url.path).name)


def _file_name(name: str) -> str:
    """The name of a file, not that of a folder, which may be a user's."""
    return name if _FILE_NAME.fullmatch(name) else REMOVED


def _is_random(word: str) -> bool:
    """Whether a long word changes between small letters, capitals and digits more often than names do."""
    parts = re.findall(r'[A-Z]?[a-z]+|[A-Z]+|\d+', word)
    return any(part.isdigit() for part in parts) and sum(map(len, parts)) < 2.5 * len(parts)


def _own_names() -> list[str]:
    """Names of this machine and its user, where they are no common words."""
    names = [socket.gethostname(), socket.gethostname().partition('.')[0]]
    with contextlib.suppress(KeyError, OSError, ImportError):
        names.append(getpass.getuser())
    return [name for name in dict.fromkeys(names) if len(name) > 3 and name not in ('root', 'localhost', 'user')]


def _plain(value: Any) -> Any:
    """A value of those that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(part) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        return _plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode(errors='replace')
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
